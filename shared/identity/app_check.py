"""Firebase App Check: whether a request comes from one of our apps (https://firebase.google.com/docs/app-check).

There is no emulator of it. A token that is sent must hold everywhere, in the local suite too.
"""

from __future__ import annotations

from shared import log
from shared.clients import firebase_app
from shared.errors import Unauthenticated, Unavailable

MAX_TOKEN_CHARS = 8192


def verify(token: str) -> None:
    """Raises Unauthenticated for a token that does not hold, Unavailable when that cannot be known."""
    from firebase_admin import app_check
    from jwt.exceptions import PyJWKClientConnectionError, PyJWKClientError, PyJWKSetError

    if not token or len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise _invalid()
    try:
        app_check.verify_token(token, app=firebase_app())
    except (PyJWKClientConnectionError, PyJWKSetError) as error:
        log.warning("the keys of App Check cannot be had", reason=repr(error))
        raise Unavailable("The app cannot be checked right now; try again.", retry_after_s=2) from error
    except (PyJWKClientError, ValueError, TypeError, RecursionError) as error:
        raise _invalid() from error


def _invalid() -> Unauthenticated:
    return Unauthenticated("The App Check token does not hold: fetch a fresh one.", reason="invalid_app_check")
