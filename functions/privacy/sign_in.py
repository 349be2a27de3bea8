"""What Firebase Auth holds about a user: how they sign in. Each call is one request to it, and none minds a user who is
gone already.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.clients import firebase_app
from shared.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


def revoke(uid: str) -> None:
    """No refresh token of the user makes ID tokens any more; those that are out live on for up to an hour."""
    from firebase_admin import auth

    with _translated_errors():
        try:
            auth.revoke_refresh_tokens(uid, app=firebase_app())
        except auth.UserNotFoundError:
            return


def delete(uid: str) -> None:
    from firebase_admin import auth

    with _translated_errors():
        try:
            auth.delete_user(uid, app=firebase_app())
        except auth.UserNotFoundError:
            return


def find(uid: str) -> dict[str, Any] | None:
    """What is known about the user, without the password's hash; None when there is no such user."""
    from firebase_admin import auth

    with _translated_errors():
        try:
            user = auth.get_user(uid, app=firebase_app())
        except auth.UserNotFoundError:
            return None
    return {
        "uid": user.uid,
        "email": user.email,
        "email_verified": user.email_verified,
        "phone_number": user.phone_number,
        "display_name": user.display_name,
        "photo_url": user.photo_url,
        "disabled": user.disabled,
        "created_at": _moment(user.user_metadata.creation_timestamp),
        "last_sign_in_at": _moment(user.user_metadata.last_sign_in_timestamp),
        "claims": user.custom_claims,
        "providers": [
            {
                "provider": provider.provider_id,
                "uid": provider.uid,
                "email": provider.email,
                "phone_number": provider.phone_number,
                "display_name": provider.display_name,
                "photo_url": provider.photo_url,
            }
            for provider in user.provider_data
        ],
    }


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Whatever Firebase Auth says against it, a later try may go well."""
    from firebase_admin import exceptions

    try:
        yield
    except exceptions.FirebaseError as error:
        raise Unavailable("Firebase Auth does not answer; try again.", retry_after_s=2) from error
