"""API keys: their form, and what the one that a request shows allows.

    cp_live_ + 32 characters by chance + 6 characters of CRC-32

The checksum tells a mistyped or made-up key without a look at anything. What has the form costs one read, at
`api_keys/{sha256 of the key}`; what was found there is believed for 30 seconds, so a revoked key is dead everywhere
within that time. Unknown keys are not remembered, write nothing and count against the address they came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared import store
from shared.errors import Unauthenticated
from shared.identity import documents, last_use, secret_text
from shared.identity.caller import KeyGrant
from shared.identity.permissions import KEY_SCOPES
from shared.identity.recent import Recent
from shared.limits import admission

if TYPE_CHECKING:
    from collections.abc import Mapping

FORM = secret_text.CheckedForm(prefix="cp_live_", secret_chars=32)
HINT_CHARS = 4
KEY_KEPT = timedelta(seconds=30)


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key: all but the key."""

    uid: str
    grant: KeyGrant
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ApiKey:
        models = document["allowed_models"]
        return cls(
            uid=document["uid"],
            grant=KeyGrant(
                id=document["id"],
                # A scope that is none any more, or never was one for keys, is worth nothing.
                scopes=frozenset(scope for scope in KEY_SCOPES if scope.value in document["scopes"]),
                allowed_models=None if models is None else frozenset(models),
                monthly_limit_micro=document["monthly_limit_micro"],
                budget_id=document["budget_id"],
            ),
            expires_at=document["expires_at"],
            revoked_at=document["revoked_at"],
            last_used_at=document["last_used_at"],
        )


_recent: Recent[ApiKey] = Recent(size=10_000, keep=KEY_KEPT)


def new_key(seed: str | None = None) -> str:
    """A key nobody knows. With a seed the same one each time, so that who repeats a request gets the same answer."""
    return FORM.new(seed=seed, purpose="api key")


def is_well_formed(key: str) -> bool:
    return FORM.fits(key)


def reference(digest: str) -> store.Reference:
    return store.document("api_keys", digest)


def get_valid(key: str, *, address: str, now: datetime, fresh: bool = False) -> ApiKey:
    """What a key allows that holds now. Whether its owner still may is not looked at here.

    Raises Unauthenticated with its reason, RateLimited for an address that showed too many wrong ones, Unavailable.
    """
    if not is_well_formed(key):
        admission.refuse_when_suspicious(address)
        admission.note_failed_sign_in(address)
        raise _unknown()
    digest = secret_text.digest(key)
    found = None if fresh else _recent.get(digest, now)
    found = found or _look_up(digest, address, now)
    if found.revoked_at is not None:
        raise Unauthenticated("This API key was revoked.", reason="revoked_key")
    if found.expires_at is not None and found.expires_at <= now:
        raise Unauthenticated("This API key has expired.", reason="expired_key")
    return found


def note_use(key: str, found: ApiKey, *, now: datetime) -> None:
    """Remember that the key was used, now and then."""
    last_use.note(reference(secret_text.digest(key)), "last_used_at", last=found.last_used_at, now=now)


def forget(digest: str) -> None:
    """Drop what this process knows of the key, because it changed."""
    _recent.drop(digest)


def forget_all() -> None:
    _recent.clear()


def _look_up(digest: str, address: str, now: datetime) -> ApiKey:
    admission.refuse_when_suspicious(address)
    document = documents.find(reference(digest))
    if document is None:
        admission.note_failed_sign_in(address)
        raise _unknown()
    found = ApiKey.from_document(document)
    _recent.put(digest, found, now)
    return found


def _unknown() -> Unauthenticated:
    return Unauthenticated("There is no such API key.", reason="invalid_key")
