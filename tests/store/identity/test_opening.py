"""An account comes to be with its owner's first request: exactly once, and never after it was erased."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from google.cloud.firestore import FieldFilter

from shared import store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.errors import AccountSuspended, Unauthenticated
from shared.identity import accounts
from shared.identity.authentication import Presented, authenticate
from shared.identity.permissions import Role
from shared.identity.tokens import Person
from tests.store.chat.support import id_token

CLAIMS = {
    "email": "ada@example.com",
    "email_verified": True,
    "name": "Ada",
    "picture": "https://example.com/ada.png",
    "role": "admin",
    "plan": "enterprise",
    "status": "active",
}


def let_in(uid, **claims):
    return authenticate(Presented(authorization=(f"Bearer {id_token(uid, **claims)}",)), now=utc_now())


def account(uid):
    return firestore_client().document(f"users/{uid}").get().to_dict()


def events(uid):
    query = firestore_client().collection("events").where(filter=FieldFilter("uid", "==", uid))
    return [each.to_dict() for each in query.stream()]


def test_the_first_request_opens_the_account(uid):
    caller = let_in(uid, **CLAIMS)
    assert (caller.uid, caller.role, caller.plan) == (uid, Role.USER, "free")
    document = account(uid)
    created_at = document.pop("created_at")
    assert created_at == document.pop("updated_at")
    assert document == {
        "role": "user",
        "status": "active",
        "plan": "free",
        "email": "ada@example.com",
        "email_verified": True,
        "display_name": "Ada",
        "photo_url": "https://example.com/ada.png",
        "username": accounts.default_username(uid),
    }


def test_a_new_account_is_told_without_anything_personal(uid):
    let_in(uid, **CLAIMS)
    [event] = events(uid)
    assert (event["type"], event["topic"], event["data"]) == (
        "user.registered",
        "user-events",
        {"email_verified": True},
    )
    assert "ada" not in str(event).replace(uid, "").lower()


def test_somebody_without_a_name_or_an_address_gets_an_account_too(uid):
    let_in(uid)
    document = account(uid)
    assert [document[name] for name in ("email", "display_name", "photo_url")] == [None, None, None]
    assert document["email_verified"] is False


def test_sixteen_first_requests_open_one_account(uid):
    ready = Barrier(16)

    def first_request(_):
        ready.wait()
        return let_in(uid, **CLAIMS)

    with ThreadPoolExecutor(16) as pool:
        callers = list(pool.map(first_request, range(16)))
    assert {(caller.uid, caller.role) for caller in callers} == {(uid, Role.USER)}
    assert len(events(uid)) == 1


def test_sixteen_processes_that_all_find_no_account_open_one(uid, monkeypatch):
    """Each has read that there is none before the first of them writes."""
    ready = Barrier(16)
    person = Person(uid=uid)
    commit = store.commit

    def all_at_once(batch):
        ready.wait()
        return commit(batch)

    monkeypatch.setattr(store, "commit", all_at_once)
    with ThreadPoolExecutor(16) as pool:
        standings = list(pool.map(lambda _: accounts._open(person, utc_now()), range(16)))
    assert set(standings) == {accounts.Standing()}
    assert len(events(uid)) == 1


def test_later_requests_change_nothing(uid):
    let_in(uid, **CLAIMS)
    before = account(uid)
    accounts.forget(uid)
    let_in(uid, **{**CLAIMS, "email": "eve@example.com", "name": "Eve"})
    assert account(uid) == before
    assert len(events(uid)) == 1


def test_signing_in_does_not_reset_a_role_or_lift_a_suspension(uid):
    let_in(uid)
    firestore_client().document(f"users/{uid}").update({"role": "admin"})
    accounts.forget(uid)
    assert let_in(uid).role is Role.ADMIN
    firestore_client().document(f"users/{uid}").update({"status": "suspended"})
    accounts.forget(uid)
    with pytest.raises(AccountSuspended):
        let_in(uid)
    assert account(uid)["role"] == "admin"


def test_an_erased_account_stays_erased(uid):
    firestore_client().document(f"erased_accounts/{accounts.tombstone_id(uid)}").set({"erased_at": utc_now()})
    with pytest.raises(Unauthenticated) as refusal:
        let_in(uid, **CLAIMS)
    assert refusal.value.details["reason"] == "account_deleted"
    assert account(uid) is None
    assert events(uid) == []


def test_a_token_of_another_project_opens_no_account(uid):
    foreign = {"aud": "other", "iss": "https://securetoken.google.com/other"}
    for claims in (foreign, {"aud": "other"}, {"exp": 1}, {"auth_time": 2**32}):
        with pytest.raises(Unauthenticated):
            let_in(uid, **claims)
    assert account(uid) is None


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Ada\u202e nimda\u202c", "Ada nimda"),
        ("Ada\r\nLovelace\x00", "AdaLovelace"),
        ("\u200b\u2060\ufeff", None),
        ("\u200d\u3164", None),
        ("👩\u200d🚀 Ada", "👩\u200d🚀 Ada"),
        ("a" * 2000, "a" * 80),
    ],
    ids=["turned around", "control characters", "nothing to see", "blank letters", "joined", "endless"],
)
def test_what_a_token_says_of_a_name_is_kept_as_far_as_it_can_be_seen(uid, said, kept):
    """Whoever signs up gives Firebase Auth any name they like, and operators read it."""
    let_in(uid, name=said)
    assert account(uid)["display_name"] == kept
