"""The control surface beside the API, under /_standin: health, the page, keys, queued faults, and what was asked."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import faults, page
from emulator.openrouter.accounts import KEY_PREFIX
from emulator.openrouter.errors import ApiError, invalid_request
from emulator.openrouter.faults import QueuedFaults, UnknownFault
from emulator.openrouter.money import pico_from_usd, usd_number

if TYPE_CHECKING:
    from emulator.openrouter.calls import Call

MAX_TIMES: Final = 1_000_000


async def health(call: Call) -> None:
    """GET /_standin/health."""
    await call.send_json({"status": "ok", "service": "openrouter-standin"})


async def show_page(call: Call) -> None:
    """GET /_standin/."""
    host = call.exchange.request.headers.get("host", "127.0.0.1:8790")
    body = page.render(call.standin, host).encode("utf-8", "replace")
    await call.exchange.send(200, {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}, body)


async def reset(call: Call) -> None:
    """POST /_standin/reset: as if just started."""
    call.standin.reset()
    await call.send_json({"reset": True})


async def set_key(call: Call) -> None:
    """POST /_standin/keys {"key", "balance_usd"?, "management"?}."""
    body = _object(call.body)
    key, management = body.get("key"), body.get("management")
    if not isinstance(key, str) or not key.startswith(KEY_PREFIX):
        raise invalid_request(f"key: expected a string that begins with {KEY_PREFIX}")
    if management is not None and not isinstance(management, bool):
        raise invalid_request("management: expected a boolean")
    balance = _balance(body["balance_usd"]) if body.get("balance_usd") is not None else None
    account = call.standin.accounts.set_balance(key, balance, management=management)
    await call.send_json(
        {
            "key": account.label,
            "balance_usd": usd_number(account.balance),
            "usage_usd": usd_number(account.used),
            "management": account.management,
        }
    )


async def list_keys(call: Call) -> None:
    """GET /_standin/keys."""
    accounts = call.standin.accounts
    await call.send_json(
        {
            "keys": [
                {
                    **accounts.describe(account),
                    "balance_usd": usd_number(account.balance),
                    "requests": account.requests,
                }
                for account in accounts.by_key.values()
            ]
        }
    )


async def list_requests(call: Call) -> None:
    """GET /_standin/requests?limit=&path=&model=: the newest requests to the API, oldest first."""
    query = call.exchange.request.query
    limit = query.get("limit", "1000")
    if not (limit.isascii() and limit.isdigit()):
        raise invalid_request("limit: expected a number")
    journal = call.standin.journal
    matching = [
        entry
        for entry in journal.entries
        if entry.path.endswith(query.get("path", "")) and query.get("model") in (None, entry.model)
    ]
    shown = matching[-int(limit) :] if int(limit) else []
    await call.send_json({"requests": [entry.describe() for entry in shown], "total": journal.total})


async def add_faults(call: Call) -> None:
    """POST /_standin/faults {"times", "match": {"model"?, "path"?}, "faults": {…} or "name=value,…"}."""
    body = _object(call.body)
    times, match, wanted = body.get("times", 1), body.get("match") or {}, body.get("faults")
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= MAX_TIMES:
        raise invalid_request(f"times: expected 1 to {MAX_TIMES}")
    if not isinstance(match, dict) or not set(match) <= {"model", "path"}:
        raise invalid_request("match: expected an object with model and path at most")
    if not all(isinstance(value, str) for value in match.values()):
        raise invalid_request("match: model and path are strings")
    try:
        read = faults.from_mapping(wanted) if isinstance(wanted, dict) else faults.parse(str(wanted or ""))
    except UnknownFault as error:
        raise invalid_request(str(error)) from error
    if not read:
        raise invalid_request("faults: expected at least one")
    call.standin.queue.add(QueuedFaults(times, read, **match))
    await list_faults(call)


async def list_faults(call: Call) -> None:
    """GET /_standin/faults: what waits in the queue, and what there is."""
    await call.send_json(
        {
            "queue": [
                {
                    "times": queued.times,
                    "match": {"model": queued.model, "path": queued.path},
                    "faults": dict(queued.faults.values),
                }
                for queued in call.standin.queue.waiting
            ],
            "known": {fault.written(): fault.summary for fault in faults.TABLE},
        }
    )


async def clear_faults(call: Call) -> None:
    """DELETE /_standin/faults."""
    call.standin.queue.waiting.clear()
    await list_faults(call)


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise invalid_request("expected a JSON object")
    return body


def _balance(amount: Any) -> int:
    problem: ApiError = invalid_request("balance_usd: expected a number of dollars, not finer than 1e-12")
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str)):
        raise problem
    try:
        exact = Decimal(str(amount))
        if not exact.is_finite():
            raise problem
        return pico_from_usd(exact)
    except (InvalidOperation, ValueError):
        raise problem from None
