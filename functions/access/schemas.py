"""Bodies and answers of the routes of API keys and sessions."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)

from functions.access.domain import MAX_KEY_LIFE, MICRO, KeyState
from shared.http.schema import Body, Schema
from shared.identity.permissions import KEY_SCOPES, Permission
from shared.texts import JOINERS, is_unseen, shows_something

_CREDITS_TEXT = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"


def _plain_number(value: object) -> object:
    """Of texts only plain ones: `1e3`, `1_000` and the digits of other scripts are numbers to Python alone."""
    if isinstance(value, str) and re.fullmatch(_CREDITS_TEXT, value) is None:
        raise ValueError("must be a number such as 1500 or 0.25")
    is_number = isinstance(value, str | int | float) and not isinstance(value, bool)
    return Decimal(str(value)) if is_number else value


def _seen(name: str) -> str:
    if any(is_unseen(character) and character not in JOINERS for character in name) or not shows_something(name):
        raise ValueError("must not hold control characters or other invisible ones")
    return name


_SCOPE_NAMES = {"type": "string", "enum": sorted(scope.value for scope in KEY_SCOPES)}
_MOST_CREDITS = 1_000_000_000
_CREDITS = {
    "description": "Credits the key may spend in a calendar month (UTC), exact to a millionth; null: no limit.",
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": _MOST_CREDITS},
        {"type": "string", "pattern": _CREDITS_TEXT},
    ],
}

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=80,
        pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$",
        description="For people to tell keys apart.",
    ),
    AfterValidator(_seen),
]
Scopes = Annotated[
    list[Annotated[Permission, WithJsonSchema(_SCOPE_NAMES)]],
    Field(min_length=1, max_length=len(KEY_SCOPES), description="What the key may do, within what its owner may."),
]
Models = Annotated[
    list[Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9~][A-Za-z0-9._:/@~-]*$")]],
    Field(min_length=1, max_length=100, description="The only models the key is for; null: every model."),
]
MonthlyLimit = Annotated[
    Decimal,
    Field(gt=0, le=_MOST_CREDITS, decimal_places=6),
    BeforeValidator(_plain_number),
    WithJsonSchema(_CREDITS),
]


class KeyRequest(Body):
    name: Name
    scopes: Scopes
    expires_in_days: Annotated[int, Field(ge=1, le=MAX_KEY_LIFE.days)] | None = None
    expires_at: AwareDatetime | None = Field(default=None, description="In place of expires_in_days.")
    monthly_limit_credits: MonthlyLimit | None = None
    allowed_models: Models | None = None

    @model_validator(mode="after")
    def _one_expiry(self) -> Self:
        if self.expires_in_days is not None and self.expires_at is not None:
            raise ValueError("give expires_in_days or expires_at, not both")
        return self


class KeyChanges(Body):
    """What is left out stays as it is. null for the limit or the models lifts them."""

    name: Name | None = None
    scopes: Scopes | None = None
    monthly_limit_credits: MonthlyLimit | None = None
    allowed_models: Models | None = None


class RotationRequest(Body):
    grace_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        default=0, description="How long the old key still works, and up to 30 seconds more; 0: it dies at once."
    )


class KeyOut(Schema):
    """An API key without the key."""

    id: str
    name: str
    hint: str = Field(description="The key's last characters.")
    state: KeyState
    scopes: list[str]
    allowed_models: list[str] | None
    monthly_limit_micro: int | None = Field(description="In micro-credits, a millionth of a credit.")
    monthly_limit_credits: str | None = Field(description="In credits, exact.")
    spent_this_month_micro: int = Field(description="By this key and those it replaced, in micro-credits.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the hour.")
    rotated_from: str | None = Field(description="The key that this one replaced.")
    rotated_to: str | None = Field(description="The key that replaced this one.")


class NewKeyOut(KeyOut):
    key: str = Field(description="The key itself. It is shown in this answer only; keep it safe.")


class KeysOut(Schema):
    items: list[KeyOut] = Field(description="All but the revoked ones, the newest first.")
    next_cursor: str | None = Field(default=None, description="Always null: there are never more.")


class SessionOut(Schema):
    id: str
    current: bool = Field(description="Whether this request came with it.")
    created_at: datetime
    expires_at: datetime
    last_seen_at: datetime = Field(description="To the hour.")
    user_agent: str
    address: str = Field(description="Where it was begun.")


class SessionsOut(Schema):
    items: list[SessionOut] = Field(description="The live ones, the newest first.")
    next_cursor: str | None = Field(default=None, description="Always null: there are never more.")


class OpenSessionOut(Schema):
    id: str
    csrf_token: str = Field(description="Send it as X-CSRF-Token with every request that changes something.")
    expires_at: datetime


class SignedOutOut(Schema):
    sessions_ended: int
    valid_since: datetime = Field(description="What was proved before this moment does not hold.")


def to_micro(limit: Decimal | None) -> int | None:
    return None if limit is None else int(limit * MICRO)
