"""Signed links: what is signed with, locally and deployed, and what the local bucket thinks of forged ones."""

from datetime import UTC, datetime, timedelta

import google.auth
import pytest
from google.auth import credentials as google_credentials
from google.auth import exceptions as auth_errors

from emulator.storage import Refused, check_link, check_size
from shared import clients, storage
from shared.errors import Unavailable
from shared.settings import settings

HOUR = timedelta(hours=1)
BUCKET = "demo-craftpilot.firebasestorage.app"


@pytest.fixture(autouse=True)
def _local_bucket(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(clients, "_made", {})


def parts(url: str) -> tuple[str, dict[str, str]]:
    """What a client would send: the target and its host."""
    _, _, rest = url.partition("://")
    host, _, target = rest.partition("/")
    return f"/{target}", {"host": host}


def link() -> tuple[str, dict[str, str]]:
    return parts(storage.sign_download("avatars/u1/a b.png", lifetime=HOUR))


def refused(*arguments) -> str:
    with pytest.raises(Refused) as caught:
        check_link(*arguments)
    return caught.value.code


def test_a_link_holds_for_its_method_until_it_ends():
    target, headers = link()
    now = datetime.now(UTC)

    check_link("GET", target, headers, now)
    check_link("GET", target, headers, now + HOUR - timedelta(seconds=5))

    assert refused("PUT", target, headers, now) == "SignatureDoesNotMatch"
    assert refused("GET", target, headers, now + HOUR) == "ExpiredToken"
    assert refused("GET", target, headers, now - timedelta(hours=1)) == "ExpiredToken"


@pytest.mark.parametrize(
    ("found", "forged"),
    [("avatars/u1", "avatars/u2"), ("X-Goog-Expires=3600", "X-Goog-Expires=360000"), ("a%20b", "a%20c"), (BUCKET, "b")],
)
def test_a_link_that_was_changed_is_worth_nothing(found, forged):
    target, headers = link()
    assert found in target

    assert refused("GET", target.replace(found, forged), headers, datetime.now(UTC)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("target", ["/b/x", "/b/x?alt=media", "/b/x?X-Goog-Signature=", "/b/x?a=b&X-Goog-Signature=00"])
def test_no_link_is_no_access(target):
    assert refused("GET", target, {"host": "h"}, datetime.now(UTC)) == "AccessDenied"


def test_an_upload_sends_what_was_signed():
    upload = storage.sign_upload("uploads/u1/x", content_type="image/png", size_bytes=7, lifetime=HOUR)
    target, headers = parts(upload.url)
    sent = {**headers, "content-type": "image/png", storage.SIZE_LIMIT_HEADER: "7,7"}
    now = datetime.now(UTC)

    check_link("PUT", target, sent, now)

    assert refused("PUT", target, {**sent, "content-type": "text/html"}, now) == "SignatureDoesNotMatch"
    assert refused("PUT", target, {**sent, storage.SIZE_LIMIT_HEADER: "0,9"}, now) == "SignatureDoesNotMatch"
    assert refused("PUT", target, headers, now) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("length", "code"), [("6", "EntityTooSmall"), ("8", "EntityTooLarge"), (None, "MissingContentLength")]
)
def test_a_body_of_another_size_is_refused(length, code):
    headers = {storage.SIZE_LIMIT_HEADER: "7,7"} | ({"Content-Length": length} if length else {})

    with pytest.raises(Refused) as caught:
        check_size(headers)

    assert caught.value.code == code
    check_size({storage.SIZE_LIMIT_HEADER: "7,7", "Content-Length": "7"})


class _Identity(google_credentials.Credentials):
    """A service account without its key, as the platform gives it."""

    service_account_email = "default"

    def __init__(self) -> None:
        super().__init__()
        self.refreshed = 0

    def refresh(self, _request) -> None:
        self.refreshed += 1
        self.token, self.service_account_email = "a-token", "functions@example.iam"


@pytest.fixture
def deployed(monkeypatch):
    """A process outside the emulator. Gives what IAM was asked to sign, and as whom."""
    monkeypatch.delenv("FUNCTIONS_EMULATOR")
    settings.cache_clear()
    storage._default_credentials.cache_clear()
    identity = _Identity()
    monkeypatch.setattr(google.auth, "default", lambda **_: (identity, "demo-craftpilot"))
    asked = []

    def sign(message, token, email, _domain):
        asked.append((email, token))
        return "c2lnbmF0dXJl"

    monkeypatch.setattr("google.cloud.storage._signing._sign_message", sign)
    yield identity, asked
    storage._default_credentials.cache_clear()


def test_a_deployed_process_has_iam_sign_as_its_own_service_account(deployed):
    identity, asked = deployed

    url = storage.sign_download("avatars/u1/x", lifetime=HOUR)
    storage.sign_download("avatars/u1/y", lifetime=HOUR)

    assert asked == [("functions@example.iam", "a-token")] * 2
    assert identity.refreshed == 1
    assert "functions%40example.iam" in url
    assert url.endswith(b"signature".hex())


def test_the_key_of_the_local_suite_signs_nothing_when_deployed(deployed):
    target, headers = parts(storage.sign_download("avatars/u1/x", lifetime=HOUR))

    assert refused("GET", target, headers, datetime.now(UTC)) == "SignatureDoesNotMatch"


def test_iam_that_is_away_is_said_by_name(deployed, monkeypatch):
    def away(*_):
        raise auth_errors.TransportError("away")

    monkeypatch.setattr("google.cloud.storage._signing._sign_message", away)

    with pytest.raises(Unavailable, match="Files"):
        storage.sign_download("avatars/u1/x", lifetime=HOUR)
