"""The caller of a request, as authentication found them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.identity.permissions import GRANTED, Permission, Role


class Proof(StrEnum):
    """How the caller proved who they are."""

    ID_TOKEN = "id_token"  # noqa: S105  # the kind of a proof, not one
    SESSION = "session"
    API_KEY = "api_key"


@dataclass(frozen=True)
class KeyGrant:
    """What an API key allows beyond being its owner."""

    id: str
    scopes: frozenset[Permission]
    allowed_models: frozenset[str] | None
    """None: every model."""
    monthly_limit_micro: int | None
    """Micro-credits that may be spent in a calendar month (UTC); None: as much as the owner has."""
    budget_id: str
    """Whose spending counts: the first of the keys that replaced each other. A key and its successor share it."""


@dataclass(frozen=True)
class Caller:
    """The signed-in user of a request."""

    uid: str
    role: Role = Role.USER
    plan: str = "free"
    proof: Proof = Proof.ID_TOKEN
    proved_at: datetime | None = None
    """When the person last signed in with a credential (`auth_time`); None for API keys."""
    session_id: str | None = None
    csrf_token: str | None = field(default=None, repr=False)
    """What requests of this session must show to change something; None without a session."""
    key: KeyGrant | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role grants it and, with an API key, the key's scopes do too."""
        if self.key is not None and permission not in self.key.scopes:
            return False
        return permission in GRANTED[self.role]
