"""Signed links of the local suite. Apart from `shared.storage`, because google-auth takes long to import."""

from __future__ import annotations

import hashlib
import hmac

from google.auth import credentials as google_credentials

_LOCAL_KEY = b"craftpilot local suite"


class LocalSigner(google_credentials.AnonymousCredentials, google_credentials.Signing):
    """Signs in the local suite, where there is no service account. The storage emulator knows the same key.

    A deployed process never comes here: it refuses to start as an emulator (`shared.startup`).
    """

    signer_email = "local-suite@craftpilot.invalid"

    @property
    def signer(self) -> LocalSigner:
        return self

    def sign_bytes(self, message: bytes) -> bytes:
        return hmac.digest(_LOCAL_KEY, message, hashlib.sha256)
