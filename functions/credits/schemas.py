"""Answers of the credit routes. Amounts come twice: exact integers of a millionth of a credit, and decimal text."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from functions.credits.domain import EntryKind
from shared.http.schema import Schema

Micro = Annotated[int, Field(description="In micro-credits, a millionth of a credit.")]


class GrantOut(Schema):
    id: str
    source: str
    note: str
    amount_micro: Micro
    remaining_micro: Micro = Field(description="What is free of it or backs work in progress, in micro-credits.")
    remaining: str
    priority: int = Field(description="Grants with a lower number pay first.")
    promotional: bool
    granted_at: datetime
    expires_at: datetime | None


class CreditsOut(Schema):
    """What the caller can spend now. Below zero: a cost exceeded what there was, and the next credits pay it first."""

    available_micro: Micro
    available: str = Field(description="In credits, exact.", examples=["12.5"])
    held_micro: Micro = Field(description="Set aside for work in progress, in micro-credits.")
    held: str
    grants: list[GrantOut] = Field(description="Those with anything left, in the order they pay.")
    next_expiry_at: datetime | None


class EntryOut(Schema):
    """One line of the ledger. The deltas say what it added to each sum of the account."""

    id: str
    kind: EntryKind
    at: datetime
    available_delta_micro: Micro
    held_delta_micro: Micro
    granted_delta_micro: Micro
    spent_delta_micro: Micro
    expired_delta_micro: Micro
    adjusted_delta_micro: Micro
    hold_id: str | None
    grant_id: str | None
    ref: dict[str, str] = Field(description="What it was for.")


class EntriesPage(Schema):
    items: list[EntryOut]
    next_cursor: str | None


class EntriesQuery(Schema):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=400)] | None = None
