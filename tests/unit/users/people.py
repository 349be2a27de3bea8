"""Accounts for tests, with the fields filled in that a test does not care about."""

from datetime import UTC, datetime
from typing import Any

from functions.users.domain import User
from shared.identity.permissions import Role

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def person(**fields: Any) -> User:
    usual: dict[str, Any] = {
        "uid": "user-1",
        "role": Role.USER,
        "status": "active",
        "plan": "free",
        "username": "user_abcdefghijkl",
        "email": None,
        "email_verified": False,
        "display_name": None,
        "photo_url": None,
        "bio": None,
        "avatar": None,
        "created_at": NOW,
        "updated_at": NOW,
        "valid_since": None,
        "suspension": None,
        "export_job_id": None,
        "erasure_job_id": None,
    }
    return User(**(usual | fields))
