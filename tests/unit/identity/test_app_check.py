"""App Check: what is asked of apps, with real signatures and the keys of a Google in miniature."""

import time

import jwt
import pytest
from jwt.exceptions import PyJWKClientConnectionError

from shared.clients import firebase_app
from shared.errors import Unauthenticated, Unavailable
from shared.identity.authentication import Presented, check_app
from shared.identity.keys import new_key
from shared.settings import settings
from tests.unit.identity.signing import KID, jwks, public_key_pem, signed, signed_with_public_key, unsigned

PROJECT = "demo-craftpilot"
CREDENTIALS = {
    "an ID token": {"authorization": ("Bearer x.y.z",)},
    "a session": {"session_cookie": "cps_x"},
    "nothing": {},
    "a key and a token": {"authorization": ("Bearer x.y.z",), "api_key": (new_key(),)},
}
KEYS = {
    "a key": {"api_key": (new_key(),)},
    "a key as bearer": {"authorization": (f"Bearer {new_key()}",)},
}


def claims(**changes):
    now = int(time.time())
    whole = {
        "iss": "https://firebaseappcheck.googleapis.com/123456",
        "aud": ["projects/123456", f"projects/{PROJECT}"],
        "sub": "1:123456:web:abc",
        "iat": now - 60,
        "exp": now + 3600,
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


class Google:
    def __init__(self):
        self.asked = 0
        self.away = False
        self.keys = jwks()

    def fetch(self, *_):
        self.asked += 1
        if self.away:
            raise PyJWKClientConnectionError("no route to Google")
        return self.keys


@pytest.fixture(autouse=True)
def google(monkeypatch):
    found = Google()
    monkeypatch.setattr(jwt.PyJWKClient, "fetch_data", found.fetch)
    # The Admin SDK keeps what it fetched with the app.
    monkeypatch.delitem(firebase_app()._services, "_app_check", raising=False)
    yield found
    firebase_app()._services.pop("_app_check", None)


@pytest.fixture
def asked(monkeypatch):
    def ask(what):
        monkeypatch.setenv("APP_CHECK", what)
        settings.cache_clear()

    return ask


def reason_of(**shown):
    with pytest.raises(Unauthenticated) as refusal:
        check_app(Presented(**shown))
    return refusal.value.details["reason"]


@pytest.mark.parametrize("what", ["verify", "required"])
@pytest.mark.parametrize("credential", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_an_app_of_ours_may(asked, what, credential):
    asked(what)
    check_app(Presented(app_check_token=signed(claims()), **credential))


@pytest.mark.parametrize("credential", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_where_it_is_required_nobody_comes_without(asked, credential):
    asked("required")
    assert reason_of(**credential) == "app_check_required"


@pytest.mark.parametrize("credential", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_where_it_is_not_required_one_may_come_without(asked, google, credential):
    asked("verify")
    check_app(Presented(**credential))
    assert google.asked == 0


def test_verifying_what_is_sent_is_the_default():
    assert reason_of(authorization=("Bearer x.y.z",), app_check_token="garbage") == "invalid_app_check"


@pytest.mark.parametrize("credential", KEYS.values(), ids=KEYS.keys())
def test_a_program_with_a_key_is_no_app(asked, google, credential):
    asked("required")
    check_app(Presented(**credential))
    check_app(Presented(app_check_token="garbage", **credential))
    assert google.asked == 0


def test_where_it_is_off_nothing_is_looked_at(asked, google):
    asked("off")
    check_app(Presented(app_check_token="garbage"))
    assert google.asked == 0


FORGED = {
    "garbage": lambda: "garbage",
    "nothing": lambda: "",
    "dots": lambda: "..",
    "not ASCII": lambda: "é.é.é",
    "very long": lambda: "x" * 10_000,
    "no signature": lambda: unsigned(claims(), kid=KID),
    "the public key as a secret": lambda: signed_with_public_key(claims(), public_key_pem()),
    "another's key": lambda: signed(claims(), key="mallory"),
    "a key that Google has not": lambda: signed(claims(), key="mallory", kid="mallory"),
    "no key's name": lambda: signed(claims(), kid=None),
    "another type": lambda: signed(claims(), typ="at+jwt"),
    "an expired one": lambda: signed(claims(exp=int(time.time()) - 60)),
    "a foreign project": lambda: signed(claims(aud=["projects/other"])),
    "a bare audience": lambda: signed(claims(aud=f"projects/{PROJECT}")),
    "no audience": lambda: signed(claims(aud=None)),
    "another issuer": lambda: signed(claims(iss="https://evil.example/123456")),
    "no app": lambda: signed(claims(sub=None)),
    "an ID token": lambda: signed(claims(iss=f"https://securetoken.google.com/{PROJECT}", aud=PROJECT)),
}


@pytest.mark.parametrize("what", ["verify", "required"])
@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_a_token_that_does_not_hold_is_refused(asked, what, forge):
    asked(what)
    assert reason_of(authorization=("Bearer x.y.z",), app_check_token=forge()) == "invalid_app_check"


def test_without_googles_keys_it_cannot_be_known(google):
    google.away = True
    with pytest.raises(Unavailable):
        check_app(Presented(app_check_token=signed(claims())))


@pytest.mark.parametrize("found", [{"keys": []}, {}])
def test_keys_that_cannot_be_used_are_not_the_apps_fault(google, found):
    google.keys = found
    with pytest.raises(Unavailable):
        check_app(Presented(app_check_token=signed(claims())))


def test_googles_keys_are_fetched_once(google):
    for _ in range(3):
        check_app(Presented(app_check_token=signed(claims())))
    assert google.asked == 1
