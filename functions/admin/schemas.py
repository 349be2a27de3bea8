"""Bodies and answers of the operators' routes."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from functions.users.domain import as_line, as_username
from shared.http.schema import Body, Schema
from shared.identity.accounts import Status
from shared.identity.permissions import Role

Reason = Annotated[
    str,
    Field(min_length=3, max_length=500, description="Why; kept with the account, for operators."),
    AfterValidator(as_line),
]


class UsersQuery(Schema):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=400)] | None = None
    role: Role | None = None
    status: Status | None = None


class UserSearch(Body):
    """Exactly one of them. An e-mail address belongs in a body: addresses of requests end up in logs."""

    email: Annotated[str, Field(max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    username: Annotated[str, Field(max_length=30), AfterValidator(as_username)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.email is None) == (self.username is None):
            raise ValueError("give either an email or a username")
        return self


class RoleChange(Body):
    role: Role
    reason: Reason


class SuspensionRequest(Body):
    reason: Reason


class SuspensionOut(Schema):
    reason: str
    by: str = Field(description="The operator's user id.")
    at: datetime


class UserOut(Schema):
    """An account as operators see it."""

    uid: str
    username: str
    display_name: str | None
    email: str | None
    email_verified: bool
    role: Role
    status: Status
    plan: str
    created_at: datetime
    updated_at: datetime
    signed_out_at: datetime | None = Field(description="What was proved before this moment does not hold.")
    suspension: SuspensionOut | None


class UserPage(Schema):
    items: list[UserOut]
    next_cursor: str | None
