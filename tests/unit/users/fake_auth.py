"""Firebase Auth as far as accounts need it, in memory; it can be down, and it counts what it was told to change."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from firebase_admin import auth, exceptions


@dataclass
class Record:
    """What the Admin SDK gives for a user. Times are whole seconds, in milliseconds, as there."""

    uid: str
    email: str | None = None
    custom_claims: dict[str, Any] | None = None
    disabled: bool = False
    tokens_valid_after_timestamp: int = 0


@dataclass
class FakeAuth:
    down: bool = False
    records: dict[str, Record] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    def add(self, uid: str, email: str | None = None) -> Record:
        self.records[uid] = Record(uid, email)
        return self.records[uid]

    def install(self, monkeypatch) -> None:
        for name in ("get_user", "get_user_by_email", "set_custom_user_claims", "update_user", "revoke_refresh_tokens"):
            monkeypatch.setattr(auth, name, getattr(self, name))

    def get_user(self, uid, **_) -> Record:
        self._answer()
        if uid not in self.records:
            raise auth.UserNotFoundError("no such user")
        return self.records[uid]

    def get_user_by_email(self, email, **_) -> Record:
        self._answer()
        for record in self.records.values():
            if record.email == email.lower():
                return record
        raise auth.UserNotFoundError("no such user")

    def set_custom_user_claims(self, uid, custom_claims, **_) -> None:
        self._change("claims")
        self.get_user(uid).custom_claims = custom_claims or None

    def update_user(self, uid, *, disabled, **_) -> None:
        self._change("disabled")
        self.get_user(uid).disabled = disabled

    def revoke_refresh_tokens(self, uid, **_) -> None:
        self._change("revoked")
        self.get_user(uid).tokens_valid_after_timestamp = int(datetime.now(UTC).timestamp()) * 1000

    def _answer(self) -> None:
        if self.down:
            raise exceptions.UnavailableError("Firebase Auth is away")

    def _change(self, what: str) -> None:
        self._answer()
        self.changes.append(what)
