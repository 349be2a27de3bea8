"""What Firebase Auth says about an account, made equal to what Firestore says.

Firestore is the truth for roles, suspensions and ended sign-ins. Firebase Auth holds copies: the claim `role` for
security rules and the clients' own eyes, `disabled` so that nobody suspended gets new tokens, and the moment before
which refresh tokens are worth nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared import log
from shared.clients import firebase_app
from shared.errors import Unavailable
from shared.identity.accounts import Status
from shared.identity.permissions import Role

if TYPE_CHECKING:
    from functions.users.domain import User

_ROLE_CLAIM = "role"


def align(user: User) -> None:
    """Make Firebase Auth agree with the account. Doing it again does no harm.

    Raises Unavailable when Firebase Auth does not answer; what was not done is then done by the next call.
    """
    from firebase_admin import auth
    from firebase_admin.exceptions import FirebaseError

    app = firebase_app()
    try:
        record = auth.get_user(user.uid, app=app)
        claims = _claims(record.custom_claims or {}, user.role)
        if claims != (record.custom_claims or {}):
            auth.set_custom_user_claims(user.uid, claims, app=app)
        disabled = user.status == Status.SUSPENDED
        if record.disabled != disabled:
            auth.update_user(user.uid, disabled=disabled, app=app)
        if user.valid_since and record.tokens_valid_after_timestamp < int(user.valid_since.timestamp()) * 1000:
            auth.revoke_refresh_tokens(user.uid, app=app)
    except auth.UserNotFoundError:
        # Somebody deleted the sign-in and left the account: there is nothing that could disagree.
        log.warning("account without a sign-in", uid_hash=log.uid_hash(user.uid))
    except FirebaseError as error:
        raise Unavailable(
            "The change is made, but Firebase Auth does not know it yet; send it again.", retry_after_s=2
        ) from error


def find_uid(email: str) -> str | None:
    """Whose e-mail address it is now. Raises Unavailable."""
    from firebase_admin import auth
    from firebase_admin.exceptions import FirebaseError

    try:
        uid: str = auth.get_user_by_email(email, app=firebase_app()).uid
    except (auth.UserNotFoundError, ValueError):  # the SDK's word for what can be nobody's address
        return None
    except FirebaseError as error:
        raise Unavailable("Firebase Auth does not answer right now; try again.", retry_after_s=2) from error
    return uid


def _claims(present: dict[str, object], role: Role) -> dict[str, object]:
    """The claims with this role; those of others stay. Users have none: a claim is a thing to be checked."""
    others = {name: value for name, value in present.items() if name != _ROLE_CLAIM}
    return others if role is Role.USER else {**others, _ROLE_CLAIM: role.value}
