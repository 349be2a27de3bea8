"""API keys and their money: balances, usage by day, and whether a request can be afforded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import errors
from emulator.openrouter.money import PICO_PER_USD, usd_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.openrouter.pricing import Price

KEY_PREFIX: Final = "sk-or-v1-"
OPENING_BALANCE: Final = 1000 * PICO_PER_USD


@dataclass(slots=True)
class Account:
    """One key. Amounts are 1e-12 USD; the balance is what was granted minus what was used, and may be negative."""

    key: str
    granted: int
    management: bool = False
    used_by_day: Counter[date] = field(default_factory=Counter)
    byok_by_day: Counter[date] = field(default_factory=Counter)
    used: int = 0
    requests: int = 0

    @property
    def balance(self) -> int:
        return self.granted - self.used

    @property
    def label(self) -> str:
        """The key as it may be shown: its beginning and its end."""
        shown = 15
        return self.key if len(self.key) <= shown + 3 else f"{self.key[:12]}...{self.key[-3:]}"


@dataclass(slots=True)
class Accounts:
    """Every key seen. A key of the right shape is opened with 1000 USD the first time it is used."""

    now: Callable[[], float]
    by_key: dict[str, Account] = field(default_factory=dict)

    def authenticate(self, authorization: str | None) -> Account:
        """The account of a bearer token. Raises 401 as the real API words it."""
        if not authorization:
            raise errors.missing_authentication()
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.startswith(KEY_PREFIX) or len(key) == len(KEY_PREFIX):
            raise errors.user_not_found()
        return self.by_key.get(key) or self.open(key)

    def open(self, key: str) -> Account:
        account = self.by_key[key] = Account(key, OPENING_BALANCE)
        return account

    def set_balance(self, key: str, balance: int | None, *, management: bool | None) -> Account:
        """Grant as much as makes the balance that amount; what was used stays used."""
        account = self.by_key.get(key) or self.open(key)
        if balance is not None:
            account.granted = account.used + balance
        if management is not None:
            account.management = management
        return account

    def charge(self, account: Account, cost: int, byok_cost: int = 0) -> None:
        """What a generation cost; `byok_cost` is what the provider charged the user directly."""
        account.requests += 1
        if cost:
            account.used += cost
            account.used_by_day[self.today()] += cost
        if byok_cost:
            account.byok_by_day[self.today()] += byok_cost

    def today(self) -> date:
        return datetime.fromtimestamp(self.now(), UTC).date()

    def describe(self, account: Account) -> dict[str, Any]:
        """The data of GET /key."""
        today = self.today()
        described: dict[str, Any] = {
            "label": account.label,
            "limit": usd_number(account.granted),
            "limit_remaining": usd_number(account.balance),
            "limit_reset": None,
        }
        for name, by_day in (("usage", account.used_by_day), ("byok_usage", account.byok_by_day)):
            described[name] = usd_number(by_day.total())
            described[f"{name}_daily"] = usd_number(by_day[today])
            described[f"{name}_weekly"] = usd_number(_since(by_day, today - timedelta(days=today.weekday())))
            described[f"{name}_monthly"] = usd_number(_since(by_day, today.replace(day=1)))
        return described | {
            "include_byok_in_limit": False,
            "is_free_tier": account.granted <= 0,
            "is_management_key": account.management,
            "is_provisioning_key": account.management,
            "expires_at": None,
            "creator_user_id": errors.STANDIN_USER_ID,
            "rate_limit": {
                "requests": -1,
                "interval": "10s",
                "note": "This field is deprecated and safe to ignore.",
            },
        }

    def credits(self, account: Account) -> dict[str, Any]:
        """The data of GET /credits: the whole account's, so the sum over its keys. Raises 403 for other keys."""
        if not account.management:
            raise errors.management_only()
        return {
            "total_credits": usd_number(sum(each.granted for each in self.by_key.values())),
            "total_usage": usd_number(sum(each.used for each in self.by_key.values())),
        }


def _since(by_day: Counter[date], first: date) -> int:
    return sum(cost for day, cost in by_day.items() if day >= first)


def preflight(balance: int, price: Price, *, prompt_tokens: int, max_tokens: int, free: bool) -> None:
    """Whether the balance covers the most the request may cost. Raises 402.

    A negative balance refuses free models too; a balance of nothing only those that cost.
    """
    if balance < 0:
        raise errors.insufficient_credits()
    if free:
        return
    tier = price.at(prompt_tokens)
    left = balance - prompt_tokens * tier.prompt - tier.request
    if left < 0 or balance == 0:
        raise errors.insufficient_credits()
    if max_tokens * tier.completion > left:
        raise errors.cannot_afford(max_tokens, left // tier.completion)
