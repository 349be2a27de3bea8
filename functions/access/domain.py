"""Rules of API keys and sessions. Pure: no Firestore, no clock, no network."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

MAX_LIVE_KEYS = 50
MAX_LIVE_SESSIONS = 50
MAX_KEY_LIFE = timedelta(days=3650)
RECENT_SIGN_IN = timedelta(minutes=5)
"""A session begins only with a sign-in this new: a stolen ID token, good for an hour, must not become two weeks."""
KEY_REMEMBERED = timedelta(days=30)
"""How long a dead key is still listed."""
USAGE_REMEMBERED = timedelta(days=400)
MICRO = 1_000_000


class KeyState(StrEnum):
    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Key:
    """An API key as its owner knows it. `digest` is where it is stored; the key itself is known to nobody else."""

    digest: str
    id: str
    uid: str
    name: str
    hint: str
    """Its last characters, for people to tell their keys apart."""
    scopes: tuple[str, ...]
    allowed_models: tuple[str, ...] | None
    monthly_limit_micro: int | None
    budget_id: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    rotated_from: str | None = None
    rotated_to: str | None = None
    version: Any = field(default=None, compare=False, repr=False)
    """What it was read at, for changes that must not lose another one."""

    def state(self, now: datetime) -> KeyState:
        if self.revoked_at is not None:
            return KeyState.REVOKED
        expired = self.expires_at is not None and self.expires_at <= now
        return KeyState.EXPIRED if expired else KeyState.LIVE

    @property
    def forgotten_at(self) -> datetime | None:
        """When the dead key need not be kept any more; None while nothing ends it."""
        ends = [moment for moment in (self.revoked_at, self.expires_at) if moment is not None]
        return min(ends) + KEY_REMEMBERED if ends else None


@dataclass(frozen=True)
class Session:
    """A session as its owner knows it."""

    digest: str
    id: str
    uid: str
    created_at: datetime
    proved_at: datetime
    """When the person signed in with a credential."""
    expires_at: datetime
    user_agent: str
    address: str
    last_seen_at: datetime
    revoked_at: datetime | None = None
    version: Any = field(default=None, compare=False, repr=False)

    def is_live(self, now: datetime) -> bool:
        return self.revoked_at is None and now < self.expires_at


def successor_expiry(old: Key, now: datetime) -> datetime | None:
    """A key that replaces another one lives as long as that one was meant to."""
    return None if old.expires_at is None else now + (old.expires_at - old.created_at)


def expiry_after_grace(old: Key, now: datetime, grace: timedelta) -> datetime:
    """When the replaced key ends: after the grace, and never later than it would have anyway."""
    ends_at = now + grace
    return ends_at if old.expires_at is None else min(old.expires_at, ends_at)


def displaced(live: list[Session]) -> list[Session]:
    """The sessions that end so that one more fits: those seen longest ago."""
    by_last_seen = sorted(live, key=lambda session: (session.last_seen_at, session.id))
    return by_last_seen[: max(0, len(live) - MAX_LIVE_SESSIONS + 1)]


def month_of(moment: datetime) -> str:
    """The month (UTC) that spending counts for: `2026-03`."""
    return f"{moment:%Y-%m}"


def credits_text(micro: int) -> str:
    """Micro-credits in credits, exact: 1500000 is `1.5`."""
    whole, rest = divmod(micro, MICRO)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")
