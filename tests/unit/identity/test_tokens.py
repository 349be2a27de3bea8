"""ID tokens as deployed: signed, with the certificates of a Google in miniature; and who is asked when it matters."""

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from firebase_admin import auth, exceptions
from google.auth.exceptions import TransportError
from google.oauth2 import id_token as google_id_token

from shared.errors import AccountSuspended, Unauthenticated, Unavailable
from shared.identity import secret_text, sessions, tokens
from shared.identity.authentication import Presented, authenticate
from tests.unit.identity.signing import (
    KID,
    certificate,
    public_key_pem,
    signed,
    signed_with_public_key,
    unsigned,
)

PROJECT = "demo-craftpilot"
NOW = datetime.now(UTC).replace(microsecond=0)
"""The Admin SDK looks at the real clock. Who signs in here did so a minute before."""
ADA = tokens.Person(
    uid="user-1",
    email="ada@example.com",
    email_verified=True,
    display_name="Ada",
    photo_url="https://example.com/ada.png",
)


def claims(**changes):
    signed_in = int(NOW.timestamp()) - 60
    whole = {
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "aud": PROJECT,
        "sub": "user-1",
        "iat": signed_in,
        "auth_time": signed_in,
        "exp": int(time.time()) + 3600,
        "email": "ada@example.com",
        "email_verified": True,
        "name": "Ada",
        "picture": "https://example.com/ada.png",
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


class Google:
    """Where the certificates come from."""

    def __init__(self):
        self.asked = 0
        self.away = False

    def fetch(self, *_):
        self.asked += 1
        if self.away:
            raise TransportError("no route to Google")
        return {KID: certificate(KID), "key-of-yesterday": certificate("key-of-yesterday")}


@pytest.fixture(autouse=True)
def google(monkeypatch):
    """As deployed: no emulator is set, so the Admin SDK checks signatures."""
    monkeypatch.delenv("FIREBASE_AUTH_EMULATOR_HOST")
    found = Google()
    monkeypatch.setattr(google_id_token, "_fetch_certs", found.fetch)
    return found


def reason_of(text):
    with pytest.raises(Unauthenticated) as refusal:
        tokens.verify(text, now=datetime.now(UTC))
    return refusal.value.details["reason"]


@pytest.mark.parametrize("key", [KID, "key-of-yesterday"])
def test_a_token_that_google_signed_holds(key):
    sign_in = tokens.verify(signed(claims(), key=key, kid=key), now=datetime.now(UTC))
    assert sign_in.person == ADA
    assert sign_in.signed_in_at == NOW - timedelta(seconds=60)


FORGED = {
    "no signature at all": lambda: unsigned(claims()),
    "no signature, with a key's name": lambda: unsigned(claims(), kid=KID),
    "no signature but RS256 in the header": lambda: unsigned(claims(), alg="RS256", kid=KID),
    "the public key as a secret": lambda: signed_with_public_key(claims(), public_key_pem()),
    "the certificate as a secret": lambda: signed_with_public_key(claims(), certificate(KID)),
    "a key that Google has not": lambda: signed(claims(), key="mallory", kid="mallory"),
    "a key that Google has not, under the name of one it has": lambda: signed(claims(), key="mallory"),
    "another of Google's keys": lambda: signed(claims(), key="key-of-yesterday"),
    "no key's name": lambda: signed(claims(), kid=None),
    "a path for a key's name": lambda: signed(claims(), kid="../../../dev/null"),
    "claims changed after signing": lambda: _with_claims_of(signed(claims()), unsigned(claims(sub="user-2"))),
    "a foreign project": lambda: signed(claims(aud="other", iss="https://securetoken.google.com/other")),
    "a foreign audience": lambda: signed(claims(aud="other")),
    "a foreign issuer": lambda: signed(claims(iss="https://securetoken.google.com/other")),
    "issued in the future": lambda: signed(claims(iat=int(time.time()) + 60)),
    "signed in in the future": lambda: signed(claims(auth_time=int(time.time()) + 60)),
    "without a sign-in": lambda: signed(claims(auth_time=None)),
    "no subject": lambda: signed(claims(sub="")),
    "a tenant's": lambda: signed(claims(firebase={"tenant": "tenant-1"})),
}


def _with_claims_of(text, other):
    head, _, signature = text.split(".")
    return f"{head}.{other.split('.')[1]}.{signature}"


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_refused(forge):
    assert reason_of(forge()) == "invalid_token"


def test_a_forged_token_is_refused_the_second_time_too():
    text = unsigned(claims(), kid=KID)
    assert [reason_of(text), reason_of(text)] == ["invalid_token"] * 2


def test_an_expired_token_says_so():
    assert reason_of(signed(claims(exp=int(time.time()) - 60))) == "expired_token"


def test_a_token_is_verified_once_and_remembered_for_five_minutes(google):
    text = signed(claims())
    for minutes in (0, 1, 4):
        tokens.verify(text, now=datetime.now(UTC) + timedelta(minutes=minutes))
    assert google.asked == 1
    tokens.verify(text, now=datetime.now(UTC) + timedelta(minutes=9))
    assert google.asked == 2


def test_without_googles_certificates_nobody_new_gets_in(google):
    google.away = True
    with pytest.raises(Unavailable):
        tokens.verify(signed(claims()), now=datetime.now(UTC))


@pytest.mark.parametrize("name", ["email", "name", "picture"])
@pytest.mark.parametrize("value", [7, ["a"], "", "x" * 5000, "\ud800"], ids=repr)
def test_what_a_token_says_of_a_person_is_taken_when_it_can_be_kept(name, value):
    person = tokens.verify(signed(claims(**{name: value})), now=datetime.now(UTC)).person
    fields = {"email": person.email, "name": person.display_name, "picture": person.photo_url}
    assert fields.pop(name) is None
    assert None not in fields.values()


@pytest.mark.parametrize("value", ["true", 1, None, False])
def test_an_address_is_verified_only_when_the_token_says_just_that(value):
    assert tokens.verify(signed(claims(email_verified=value)), now=datetime.now(UTC)).person.email_verified is False


# --- revocation ------------------------------------------------------------------------------------------------------


@pytest.fixture
def firebase_auth(monkeypatch):
    """The user as Firebase Auth has them; an exception in their place is raised."""
    found = SimpleNamespace(user=SimpleNamespace(disabled=False, tokens_valid_after_timestamp=0), asked=[])

    def get_user(uid, **_):
        found.asked.append(uid)
        if isinstance(found.user, Exception):
            raise found.user
        return found.user

    monkeypatch.setattr(auth, "get_user", get_user)
    return found


@pytest.fixture
def shown(database):
    database.stored["users/user-1"] = {"role": "user", "status": "active", "plan": "free"}
    return Presented(authorization=(f"Bearer {signed(claims())}",))


def in_ms(moment):
    return int(moment.timestamp()) * 1000


def test_firebase_auth_is_asked_only_where_it_matters(shown, firebase_auth):
    authenticate(shown, now=datetime.now(UTC))
    assert firebase_auth.asked == []
    authenticate(shown, now=datetime.now(UTC), fresh=True)
    assert firebase_auth.asked == ["user-1"]


REVOKED = {
    "disabled": SimpleNamespace(disabled=True, tokens_valid_after_timestamp=0),
    "signed out since": SimpleNamespace(disabled=False, tokens_valid_after_timestamp=in_ms(NOW)),
    "gone": auth.UserNotFoundError("no such user"),
}


@pytest.mark.parametrize("user", REVOKED.values(), ids=REVOKED.keys())
def test_a_revoked_token_is_refused_where_it_matters(shown, firebase_auth, user):
    firebase_auth.user = user
    with pytest.raises(Unauthenticated) as refusal:
        authenticate(shown, now=datetime.now(UTC), fresh=True)
    assert refusal.value.details["reason"] == "revoked_token"


@pytest.mark.parametrize("user", REVOKED.values(), ids=REVOKED.keys())
def test_a_session_of_a_revoked_sign_in_is_refused_where_it_matters(database, firebase_auth, user):
    cookie = sessions.new_cookie("a seed")
    database.stored |= {
        "users/user-1": {"role": "user", "status": "active"},
        f"sessions/{secret_text.digest(cookie)}": {
            "uid": "user-1",
            "id": "sess_1",
            "proved_at": NOW - timedelta(minutes=5),
            "expires_at": NOW + sessions.LIFETIME,
            "last_seen_at": NOW,
            "revoked_at": None,
        },
    }
    assert authenticate(Presented(session_cookie=cookie), now=NOW).uid == "user-1"
    firebase_auth.user = user
    with pytest.raises(Unauthenticated) as refusal:
        authenticate(Presented(session_cookie=cookie), now=NOW, fresh=True)
    assert refusal.value.details["reason"] == "revoked_token"


def test_a_sign_in_after_the_sign_out_holds(shown, firebase_auth):
    firebase_auth.user = SimpleNamespace(
        disabled=False, tokens_valid_after_timestamp=in_ms(NOW - timedelta(minutes=10))
    )
    assert authenticate(shown, now=datetime.now(UTC), fresh=True).uid == "user-1"


def test_without_firebase_auth_nobody_gets_in_where_it_matters(shown, firebase_auth):
    firebase_auth.user = exceptions.UnavailableError("no route to Firebase")
    with pytest.raises(Unavailable):
        authenticate(shown, now=datetime.now(UTC), fresh=True)


def test_where_it_matters_the_standing_is_read_anew(database, shown, firebase_auth):
    authenticate(shown, now=datetime.now(UTC))
    database.stored["users/user-1"]["status"] = "suspended"
    assert authenticate(shown, now=datetime.now(UTC)).uid == "user-1"
    with pytest.raises(AccountSuspended):
        authenticate(shown, now=datetime.now(UTC), fresh=True)


def test_revoking_the_tokens_of_somebody_who_is_gone_is_done_already(monkeypatch):
    def revoke(uid, **_):
        raise auth.UserNotFoundError(uid)

    monkeypatch.setattr(auth, "revoke_refresh_tokens", revoke)
    tokens.revoke_refresh_tokens("user-1")


def test_when_tokens_cannot_be_revoked_it_is_said(monkeypatch):
    def revoke(_, **__):
        raise exceptions.UnavailableError("no route to Firebase")

    monkeypatch.setattr(auth, "revoke_refresh_tokens", revoke)
    with pytest.raises(Unavailable):
        tokens.revoke_refresh_tokens("user-1")
