"""A user's credits over HTTP: what there is, and where it went."""

from typing import Any

from functions.credits import service
from functions.credits.domain import AMOUNT_NAMES, Entry, credits_text
from functions.credits.schemas import CreditsOut, EntriesPage, EntriesQuery, EntryOut, GrantOut
from shared.http.function import http_function
from shared.http.routes import Call, Routes
from shared.identity.permissions import Permission

routes = Routes("credits")


@routes.get("/api/v1/credits", who=Permission.CREDITS_READ, answer=CreditsOut)
def get_credits(call: Call[Any, Any]) -> CreditsOut:
    """What the caller can spend, what is set aside, and the grants it comes from."""
    balance = service.get_balance(call.caller.uid, call.now)
    return CreditsOut(
        available_micro=balance.available_micro,
        available=credits_text(balance.available_micro),
        held_micro=balance.held_micro,
        held=credits_text(balance.held_micro),
        grants=[_shape_grant(left) for left in balance.grants],
        next_expiry_at=balance.next_expiry_at,
    )


@routes.get("/api/v1/credits/entries", who=Permission.CREDITS_READ, query=EntriesQuery, answer=EntriesPage)
def list_entries(call: Call[Any, EntriesQuery]) -> EntriesPage:
    """The caller's ledger, newest first."""
    entries, next_cursor = service.list_entries(call.caller.uid, call.query.limit, call.query.cursor)
    return EntriesPage(items=[_shape_entry(entry) for entry in entries], next_cursor=next_cursor)


def _shape_grant(left: service.GrantLeft) -> GrantOut:
    grant = left.grant
    return GrantOut(
        id=grant.id,
        source=grant.source,
        note=grant.note,
        amount_micro=grant.amount_micro,
        remaining_micro=left.remaining_micro,
        remaining=credits_text(left.remaining_micro),
        priority=grant.priority,
        promotional=grant.promotional,
        granted_at=grant.granted_at,
        expires_at=grant.expires_at,
    )


def _shape_entry(entry: Entry) -> EntryOut:
    deltas = {name.replace("_micro", "_delta_micro"): getattr(entry.amounts, name) for name in AMOUNT_NAMES}
    return EntryOut(
        id=entry.id,
        kind=entry.kind,
        at=entry.at,
        hold_id=entry.hold_id,
        grant_id=entry.grant_id,
        ref=dict(entry.ref),
        **deltas,
    )


credits = http_function("credits", routes)  # noqa: A001  # the deployed function's name; the builtin is for the prompt
