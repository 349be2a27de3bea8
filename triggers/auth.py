"""Before Firebase Auth creates a user: the account is opened, so that it is there before the first request.

Needs Identity Platform, which not every project has, so it is deployed only when asked for. Without it the first
request opens the account, and with both it is still opened once. Anonymous users and those an administrator creates do
not come this way (https://firebase.google.com/docs/auth/extend-with-blocking-functions).
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any

from firebase_functions.identity_fn import before_user_created

from shared import log
from shared.clock import utc_now
from shared.deployment import arguments_of
from shared.errors import AppError
from shared.identity import accounts
from shared.identity.tokens import Person
from triggers.edge import edge

if TYPE_CHECKING:
    from firebase_functions.identity_fn import AuthBlockingEvent

PATIENCE_S = 3.0
"""Firebase Auth refuses the sign-up when there is no answer after seven seconds."""
_NAME = "on_user_creating"


@edge(_NAME)
def _on_user_creating(fired: AuthBlockingEvent) -> None:
    """Never in the way of a sign-up, which waits for this: what fails or takes long here, the first request does."""
    user = fired.data
    person = Person(
        uid=user.uid,
        email=user.email,
        email_verified=bool(user.email_verified),
        display_name=user.display_name,
        photo_url=user.photo_url,
    )
    opening = Thread(target=_open, args=(person,), daemon=True)
    opening.start()
    opening.join(PATIENCE_S)
    if opening.is_alive():
        log.warning("account is opened later than its sign-up", uid_hash=log.uid_hash(person.uid))


def _open(person: Person) -> None:
    try:
        accounts.get_or_open(person, now=utc_now())
    except AppError as error:
        log.warning("account not opened at sign-up", code=error.code, uid_hash=log.uid_hash(person.uid))


on_user_creating: Any = before_user_created(**arguments_of(_NAME))(_on_user_creating)
