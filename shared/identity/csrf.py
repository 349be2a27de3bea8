"""Requests forged from another site: a browser sends its cookie along whoever made the page.

A request that a session proves and that changes something must show the session's CSRF token, which only pages of ours
can read. The token is derived from the cookie, so there is nothing to store and nothing to expire. What the browser
itself says of the page (`Origin`, `Sec-Fetch-Site`) must not speak against it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from shared.errors import PermissionDenied
from shared.identity.origins import is_ours

if TYPE_CHECKING:
    from shared.identity.authentication import Presented


def token_of(cookie: str) -> str:
    return hmac.digest(cookie.encode(), b"csrf", hashlib.sha256).hex()


def refuse_forged(presented: Presented, cookie: str) -> None:
    """Raises PermissionDenied, reason `csrf`, when the request may come from a page that is not ours."""
    shown = (presented.csrf_token or "").encode()
    if not hmac.compare_digest(shown, token_of(cookie).encode()):
        raise _forged("Send the session's csrf_token in X-CSRF-Token; GET /api/v1/sessions/current has it.")
    if presented.origin is not None and not is_ours(presented.origin):
        raise _forged("This page is not one of this service.")
    if (presented.sec_fetch_site or "").strip().lower() == "cross-site":
        raise _forged("This request comes from another site.")


def _forged(message: str) -> PermissionDenied:
    return PermissionDenied(message, reason="csrf")
