"""Keys and sessions against the real database and the real Redis; and the database away."""

import time
from datetime import timedelta

import pytest
from google.cloud import firestore

from shared import clients, store
from shared.clients import firestore_client, redis_client
from shared.clock import utc_now
from shared.errors import AppError, RateLimited, Unauthenticated, Unavailable
from shared.firestore_channel import FirestoreChannel
from shared.identity import accounts, keys, last_use, secret_text, sessions
from shared.identity.authentication import Presented, authenticate
from tests.store.chat.support import id_token
from tests.store.documents import there

HOUR = timedelta(hours=1)


@pytest.fixture
def address(uid):
    """An address of this test's own."""
    number = int(secret_text.digest(uid), 16)
    return f"2001:db8:{number % 65536:x}:{number // 65536 % 65536:x}::1"


@pytest.fixture
def account(uid):
    firestore_client().document(f"users/{uid}").set({"role": "user", "status": "active", "plan": "pro"})
    return uid


@pytest.fixture
def key(account):
    made = keys.new_key()
    there(keys.reference(secret_text.digest(made))).set(
        {
            "uid": account,
            "id": "key_1",
            "scopes": ["chat:read"],
            "allowed_models": None,
            "monthly_limit_micro": None,
            "budget_id": "key_1",
            "expires_at": None,
            "revoked_at": None,
            "last_used_at": None,
        }
    )
    return made


@pytest.fixture
def cookie(account):
    made, now = sessions.new_cookie(), utc_now()
    there(sessions.reference(secret_text.digest(made))).set(
        {
            "uid": account,
            "id": "sess_1",
            "proved_at": now,
            "expires_at": now + sessions.LIFETIME,
            "revoked_at": None,
            "last_seen_at": now - 2 * HOUR,
        }
    )
    return made


def soon(look, wanted):
    """What is looked for, once it is as wanted; what is done off a request's way takes a moment."""
    for _ in range(100):
        if (found := look()) == wanted:
            return found
        time.sleep(0.05)
    return look()


def test_the_last_use_of_a_key_is_written_to_the_hour(key, account, address):
    document = there(keys.reference(secret_text.digest(key)))
    now = utc_now()
    for minutes in (0, 10, 59):
        caller = authenticate(Presented(api_key=(key,), address=address), now=now + timedelta(minutes=minutes))
        assert (caller.uid, caller.plan) == (account, "pro")
    assert soon(lambda: document.get().get("last_used_at"), now) == now
    later = now + timedelta(minutes=61)
    authenticate(Presented(api_key=(key,), address=address), now=later)
    assert soon(lambda: document.get().get("last_used_at"), later) == later


def test_the_last_use_of_a_session_is_written(cookie, address):
    now = utc_now()
    authenticate(Presented(session_cookie=cookie, address=address), now=now)
    document = there(sessions.reference(secret_text.digest(cookie)))
    assert soon(lambda: document.get().get("last_seen_at"), now) == now


def test_the_last_use_of_what_was_erased_does_not_bring_it_back(key, address):
    document = there(keys.reference(secret_text.digest(key)))
    found = keys.get_valid(key, address=address, now=utc_now())
    document.delete()
    keys.note_use(key, found, now=utc_now())
    last_use._writer().submit(lambda: None).result(timeout=10)
    assert not document.get().exists


def test_a_session_goes_from_the_database_to_redis_and_comes_back_the_same(cookie, address):
    first = sessions.get_valid(cookie, address=address, now=utc_now())
    assert redis_client().get(f"session:{secret_text.digest(cookie)}")
    sessions.forget_all()
    there(sessions.reference(secret_text.digest(cookie))).delete()  # so that only Redis can have it
    assert sessions.get_valid(cookie, address=address, now=utc_now()) == first


def test_a_scan_with_well_formed_keys_is_stopped_and_writes_nothing(address):
    """How many guesses an address has is for the limits to say; it is not many, and they all look the same."""
    before = len(list(firestore_client().collection("api_keys").list_documents()))
    outcomes = []
    for _ in range(200):
        with pytest.raises(AppError) as refusal:
            authenticate(Presented(api_key=(keys.new_key(),), address=address), now=utc_now())
        outcomes.append(type(refusal.value))
        if outcomes[-1] is RateLimited:
            break
    assert outcomes[-1] is RateLimited
    assert set(outcomes[:-1]) == {Unauthenticated}
    assert len(list(firestore_client().collection("api_keys").list_documents())) == before


@pytest.fixture
def no_database(monkeypatch):
    take_the_database_away(monkeypatch)


def take_the_database_away(monkeypatch):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")
    monkeypatch.setitem(clients._made, "firestore", firestore.Client(project="demo-craftpilot"))
    monkeypatch.setitem(clients._made, "firestore_channel", FirestoreChannel("127.0.0.1:9"))


@pytest.mark.timeout(40)
def test_without_the_database_nobody_new_gets_in_and_hears_so_soon(uid, address, no_database):
    for presented in (
        Presented(authorization=(f"Bearer {id_token(uid)}",), address=address),
        Presented(api_key=(keys.new_key(),), address=address),
        Presented(session_cookie=sessions.new_cookie(), address=address),
    ):
        with pytest.raises(Unavailable):
            authenticate(presented, now=utc_now())


def test_without_the_database_those_who_are_known_go_on_for_a_while(key, account, address, monkeypatch):
    now = utc_now()
    presented = Presented(api_key=(key,), address=address)
    authenticate(presented, now=now)
    take_the_database_away(monkeypatch)
    assert authenticate(presented, now=now + timedelta(seconds=29)).uid == account
    with pytest.raises(Unavailable):
        authenticate(presented, now=now + timedelta(seconds=30))


def test_what_was_proved_before_a_sign_out_everywhere_is_refused(uid, cookie, address):
    now = utc_now()
    shown = Presented(authorization=(f"Bearer {id_token(uid)}",), address=address)
    authenticate(shown, now=now)
    batch = store.new_batch()
    accounts.end_sign_ins(batch, uid, now + timedelta(seconds=1))
    store.commit(batch)
    accounts.forget(uid)
    for presented in (shown, Presented(session_cookie=cookie, address=address)):
        with pytest.raises(Unauthenticated) as refusal:
            authenticate(presented, now=now + timedelta(seconds=2))
        assert refusal.value.details["reason"] == "revoked_token"
