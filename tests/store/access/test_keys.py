"""API keys from making to revoking, through the whole pipeline."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from functions.access import repository, service
from functions.access.domain import MAX_LIVE_KEYS
from shared import store
from shared.clients import firestore_client
from shared.errors import Conflict, InvalidRequest, Unauthenticated
from shared.identity import accounts, keys, secret_text
from shared.identity.authentication import Presented, authenticate
from shared.identity.caller import Caller
from shared.identity.permissions import KEY_SCOPES, Permission, Role
from tests.store.access.support import GOOD_KEY, KEYS, SESSIONS, ask

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def let_in(key, now):
    return authenticate(Presented(api_key=(key,), address="198.51.100.7"), now=now)


def refusal_of(key, now):
    with pytest.raises(Unauthenticated) as refusal:
        let_in(key, now)
    return refusal.value.details["reason"]


def elsewhere():
    """What another process knows: nothing."""
    keys.forget_all()
    accounts.forget_all()


# --- making ----------------------------------------------------------------------------------------------------------


def test_a_new_key_is_shown_once_and_stored_as_a_hash(ada):
    made = ada.make_key()
    assert keys.is_well_formed(made["key"])
    assert made["hint"] == made["key"][-4:]
    [(name, document)] = ada.documents("api_keys").items()
    assert name == secret_text.digest(made["key"])
    everything = json.dumps([document, ada.events()], default=str)
    assert made["key"] not in everything
    assert made["key"][8:40] not in everything
    for path in (KEYS, f"{KEYS}/{made['id']}"):
        answer = ada.ask("GET", path)
        assert answer.status == 200
        assert made["key"] not in json.dumps(answer.json)
        assert name not in json.dumps(answer.json), "not even its hash"


def test_a_new_key_lets_a_program_in_with_its_scopes(ada, clock):
    made = ada.make_key(scopes=["chat:read"], allowed_models=["a/b", "a/b"], monthly_limit_credits=1.5)
    caller = let_in(made["key"], clock.now)
    assert (caller.uid, caller.role) == (ada.uid, Role.USER)
    assert [permission for permission in Permission if caller.may(permission)] == [Permission.CHAT_READ]
    assert caller.key is not None
    assert (caller.key.id, caller.key.monthly_limit_micro) == (made["id"], 1_500_000)
    assert caller.key.allowed_models == {"a/b"}
    assert (made["monthly_limit_credits"], made["allowed_models"]) == ("1.5", ["a/b"])


def test_making_a_key_is_told_without_naming_it(ada):
    made = ada.make_key()
    [event] = [event for event in ada.events() if event["type"] == "user.key.created"]
    assert event["subject"] == f"api_keys/{made['id']}"
    assert set(event["data"]) == {"key_id", "scopes", "expires_at", "monthly_limit_micro"}


def test_a_request_sent_again_gets_the_same_key(ada):
    answers = [ada.ask("POST", KEYS, GOOD_KEY, **{"Idempotency-Key": "once"}) for _ in range(3)]
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["key"] for answer in answers}) == 1
    assert len(ada.documents("api_keys")) == 1
    assert ada.event_types().count("user.key.created") == 1


def test_a_request_that_died_on_its_way_back_gets_the_same_key(ada, clock):
    """Its answer was never recorded, so it runs a second time, under the same seed."""
    ada.ask("GET", KEYS)
    wish = service.KeyWish("CI", [Permission.CHAT_READ], None, None, None)

    def run(at):
        return service.make_key(Caller(uid=ada.uid), wish, key_id="key_again", seed=ada.uid, now=at)

    first, secret = run(clock.now)
    second, again = run(clock.now + SECOND)
    assert secret == again
    assert first == second
    assert len(ada.documents("api_keys")) == 1
    assert ada.event_types().count("user.key.created") == 1


def test_the_seed_of_one_request_makes_no_other_requests_key(ada):
    first, second = (ada.ask("POST", KEYS, GOOD_KEY, **{"Idempotency-Key": name}).json for name in ("a", "b"))
    assert first["key"] != second["key"]


@pytest.mark.parametrize("scope", sorted(set(Permission) - KEY_SCOPES))
@pytest.mark.parametrize("role", [Role.USER, Role.ADMIN])
def test_no_key_is_made_for_what_keys_must_not_do(ada, role, scope):
    ada.ask("GET", KEYS)
    firestore_client().document(f"users/{ada.uid}").update({"role": role.value})
    elsewhere()
    answer = ada.ask("POST", KEYS, {"name": "x", "scopes": ["chat:read", scope]})
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "scopes[1]")
    assert ada.documents("api_keys") == {}


def test_a_key_carries_no_more_than_its_owners_role(ada, clock, monkeypatch):
    monkeypatch.setattr(service, "GRANTED", {Role.USER: {Permission.CHAT_READ}})
    wish = service.KeyWish("CI", [Permission.CHAT_READ, Permission.CHAT_WRITE], None, None, None)
    with pytest.raises(InvalidRequest) as refusal:
        service.make_key(Caller(uid=ada.uid), wish, key_id="key_1", seed=None, now=clock.now)
    assert [problem.field for problem in refusal.value.fields] == ["scopes[1]"]


@pytest.mark.parametrize("life", [timedelta(0), -DAY, 3651 * DAY])
def test_a_key_expires_in_the_future_and_in_this_life(ada, clock, life):
    answer = ada.ask("POST", KEYS, {**GOOD_KEY, "expires_at": (clock.now + life).isoformat()})
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "expires_at")


def test_a_key_expires(ada, clock):
    made = ada.make_key(expires_in_days=30)
    assert datetime.fromisoformat(made["expires_at"]) == clock.now + 30 * DAY
    clock.move(30 * DAY)
    elsewhere()
    assert refusal_of(made["key"], clock.now) == "expired_key"
    assert ada.ask("GET", f"{KEYS}/{made['id']}").json["state"] == "expired"


def test_there_are_at_most_fifty_live_keys(ada, clock):
    ada.make_key(expires_in_days=1)
    for number in range(MAX_LIVE_KEYS - 1):
        wish = service.KeyWish(f"key {number}", [Permission.CHAT_READ], None, None, None)
        service.make_key(Caller(uid=ada.uid), wish, key_id=f"key_{number}", seed=None, now=clock.now)
    refused = ada.ask("POST", KEYS, GOOD_KEY)
    assert (refused.status, refused.json["reason"]) == (409, "too_many_keys")
    clock.move(DAY)  # one expires, which makes room
    ada.make_key()
    assert ada.ask("POST", KEYS, GOOD_KEY).status == 409


def test_a_rotation_with_grace_does_not_get_around_the_limit(ada, clock):
    made = ada.make_key()
    for number in range(MAX_LIVE_KEYS - 1):
        wish = service.KeyWish(f"key {number}", [Permission.CHAT_READ], None, None, None)
        service.make_key(Caller(uid=ada.uid), wish, key_id=f"key_{number}", seed=None, now=clock.now)
    refused = ada.ask("POST", f"{KEYS}/{made['id']}/rotate", {"grace_seconds": 60})
    assert (refused.status, refused.json["reason"]) == (409, "too_many_keys")
    assert ada.ask("POST", f"{KEYS}/{made['id']}/rotate", {}).status == 201


# --- who may ---------------------------------------------------------------------------------------------------------

ROUTES = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/{id}"),
    ("PATCH", "/{id}"),
    ("POST", "/{id}/rotate"),
    ("DELETE", "/{id}"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_key_can_touch_keys_and_sessions(ada, clock, method, path):
    made = ada.make_key(scopes=sorted(scope.value for scope in KEY_SCOPES))
    for target in (KEYS + path.format(id=made["id"]), SESSIONS):
        answer = ask(clock, method, target, {}, **{"X-API-Key": made["key"]})
        assert answer.status in {403, 405}
    assert ada.ask("GET", f"{KEYS}/{made['id']}").json["state"] == "live"


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1]])
def test_somebody_elses_key_is_not_there(ada, mallory, method, path):
    made = ada.make_key()
    body = {"name": "mine now"} if method == "PATCH" else {}
    answer = mallory.ask(method, KEYS + path.format(id=made["id"]), body)
    assert answer.status == 404
    assert ada.ask("GET", f"{KEYS}/{made['id']}").json["name"] == "CI"
    assert mallory.ask("GET", KEYS).json["items"] == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_gets_in_without_a_credential(clock, method, path):
    assert ask(clock, method, KEYS + path.format(id="key_1"), {}).status == 401


def test_a_sign_in_that_was_revoked_makes_no_key(ada, clock, firebase_auth):
    ada.make_key()
    firebase_auth.valid_after_s[ada.uid] = int(clock.now.timestamp()) + 1
    answer = ada.ask("POST", KEYS, GOOD_KEY)
    assert (answer.status, answer.json["reason"]) == (401, "revoked_token")


# --- listing and changing --------------------------------------------------------------------------------------------


def test_keys_are_listed_newest_first_without_the_revoked_ones(ada, clock):
    made = []
    for number in range(3):
        made.append(ada.make_key(name=f"key {number}"))
        clock.move(SECOND)
    assert ada.ask("DELETE", f"{KEYS}/{made[1]['id']}").status == 204
    listed = ada.ask("GET", KEYS).json
    assert [item["name"] for item in listed["items"]] == ["key 2", "key 0"]
    assert listed["next_cursor"] is None
    assert ada.ask("GET", f"{KEYS}/{made[1]['id']}").json["state"] == "revoked"


def test_a_change_is_known_here_at_once(ada, clock):
    made = ada.make_key(monthly_limit_credits=5)
    let_in(made["key"], clock.now)
    answer = ada.ask("PATCH", f"{KEYS}/{made['id']}", {"name": "Deploy", "scopes": ["chat:read"]})
    assert answer.status == 200
    assert (answer.json["name"], answer.json["scopes"]) == ("Deploy", ["chat:read"])
    assert answer.json["monthly_limit_credits"] == "5", "what is left out stays"
    assert not let_in(made["key"], clock.now).may(Permission.CHAT_WRITE)


def test_limits_can_be_set_and_lifted(ada, clock):
    made = ada.make_key()
    path = f"{KEYS}/{made['id']}"
    ada.ask("PATCH", path, {"monthly_limit_credits": 2, "allowed_models": ["b/c", "a/b"]})
    grant = let_in(made["key"], clock.now).key
    assert grant is not None
    assert (grant.monthly_limit_micro, grant.allowed_models) == (2_000_000, {"a/b", "b/c"})
    lifted = ada.ask("PATCH", path, {"monthly_limit_credits": None, "allowed_models": None}).json
    assert (lifted["monthly_limit_micro"], lifted["allowed_models"]) == (None, None)


def test_a_change_that_changes_nothing_is_not_told(ada):
    made = ada.make_key()
    for body in ({}, {"name": "CI"}):
        assert ada.ask("PATCH", f"{KEYS}/{made['id']}", body).status == 200
    assert "user.key.changed" not in ada.event_types()


def test_a_change_cannot_widen_a_key_beyond_what_keys_may_do(ada):
    made = ada.make_key()
    answer = ada.ask("PATCH", f"{KEYS}/{made['id']}", {"scopes": ["keys:manage"]})
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "scopes[0]")


def test_a_dead_key_is_not_changed(ada):
    made = ada.make_key()
    ada.ask("DELETE", f"{KEYS}/{made['id']}")
    answer = ada.ask("PATCH", f"{KEYS}/{made['id']}", {"name": "alive"})
    assert (answer.status, answer.json["reason"]) == (409, "key_revoked")


# --- rotating and revoking -------------------------------------------------------------------------------------------


def test_a_rotated_key_dies_at_once(ada, clock):
    old = ada.make_key(monthly_limit_credits=5, allowed_models=["a/b"], expires_in_days=10)
    let_in(old["key"], clock.now)
    clock.move(4 * DAY)
    ada.sign_in()
    new = ada.ask("POST", f"{KEYS}/{old['id']}/rotate", {}).json
    assert refusal_of(old["key"], clock.now) == "revoked_key"
    assert let_in(new["key"], clock.now).uid == ada.uid
    same = ("name", "scopes", "allowed_models", "monthly_limit_micro")
    assert [new[field] for field in same] == [old[field] for field in same]
    assert (new["rotated_from"], new["last_used_at"]) == (old["id"], None)
    assert datetime.fromisoformat(new["expires_at"]) == clock.now + 10 * DAY
    assert ada.ask("GET", f"{KEYS}/{old['id']}").json["rotated_to"] == new["id"]


def test_a_rotated_key_dies_after_its_grace(ada, clock):
    old = ada.make_key()
    new = ada.ask("POST", f"{KEYS}/{old['id']}/rotate", {"grace_seconds": 3600}).json
    clock.move(HOUR - SECOND)
    assert let_in(old["key"], clock.now).uid == let_in(new["key"], clock.now).uid == ada.uid
    clock.move(SECOND)
    assert refusal_of(old["key"], clock.now) == "expired_key"
    assert let_in(new["key"], clock.now).uid == ada.uid


def test_the_old_and_the_new_key_spend_from_one_budget(ada, clock):
    old = ada.make_key()
    new = ada.ask("POST", f"{KEYS}/{old['id']}/rotate", {"grace_seconds": 3600}).json
    grants = [let_in(key["key"], clock.now).key for key in (old, new)]
    assert {grant.budget_id for grant in grants if grant} == {old["id"]}
    again = ada.ask("POST", f"{KEYS}/{new['id']}/rotate", {}).json
    grant = let_in(again["key"], clock.now).key
    assert grant is not None
    assert grant.budget_id == old["id"]


def test_a_key_is_replaced_once(ada):
    old = ada.make_key()
    assert ada.ask("POST", f"{KEYS}/{old['id']}/rotate", {"grace_seconds": 60}).status == 201
    again = ada.ask("POST", f"{KEYS}/{old['id']}/rotate", {"grace_seconds": 60})
    assert (again.status, again.json["reason"]) == (409, "already_rotated")
    assert len(ada.documents("api_keys")) == 2


def test_of_many_that_rotate_a_key_at_once_one_succeeds(ada, clock):
    old = ada.make_key()

    def rotate(number):
        try:
            return service.rotate_key(
                ada.uid, old["id"], new_id=f"key_new_{number}", grace=HOUR, seed=None, now=clock.now
            )
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        rotated = [each for each in pool.map(rotate, range(8)) if each]
    assert len(rotated) == 1
    assert len(ada.documents("api_keys")) == 2
    assert ada.event_types().count("user.key.rotated") == 1


def test_a_rotation_that_died_on_its_way_back_gives_the_same_key(ada, clock):
    old = ada.make_key()

    def run():
        return service.rotate_key(ada.uid, old["id"], new_id="key_new", grace=timedelta(0), seed=ada.uid, now=clock.now)

    (first, secret), (second, again) = run(), run()
    assert (first, secret) == (second, again)
    assert let_in(secret, clock.now).uid == ada.uid
    assert ada.event_types().count("user.key.rotated") == 1


def test_a_dead_key_is_not_rotated(ada, clock):
    expired, revoked = ada.make_key(expires_in_days=1), ada.make_key()
    ada.ask("DELETE", f"{KEYS}/{revoked['id']}")
    clock.move(DAY)
    for key, reason in ((expired, "key_expired"), (revoked, "key_revoked")):
        answer = ada.ask("POST", f"{KEYS}/{key['id']}/rotate", {})
        assert (answer.status, answer.json["reason"]) == (409, reason)


def test_a_revoked_key_is_dead_here_at_once_and_elsewhere_in_thirty_seconds(ada, clock, monkeypatch):
    made = ada.make_key()
    let_in(made["key"], clock.now)
    with monkeypatch.context() as other_process:
        other_process.setattr(keys, "forget", lambda _: None)
        assert ada.ask("DELETE", f"{KEYS}/{made['id']}").status == 204
    clock.move(29 * SECOND)
    assert let_in(made["key"], clock.now).uid == ada.uid
    clock.move(SECOND)
    assert refusal_of(made["key"], clock.now) == "revoked_key"
    second = ada.make_key()
    let_in(second["key"], clock.now)
    ada.ask("DELETE", f"{KEYS}/{second['id']}")
    assert refusal_of(second["key"], clock.now) == "revoked_key"


def test_revoking_twice_changes_nothing(ada, clock):
    made = ada.make_key()
    assert ada.ask("DELETE", f"{KEYS}/{made['id']}").status == 204
    before = ada.documents("api_keys")
    clock.move(HOUR)
    assert ada.ask("DELETE", f"{KEYS}/{made['id']}").status == 204
    assert ada.documents("api_keys") == before
    assert ada.event_types().count("user.key.revoked") == 1


def test_a_revoked_key_has_a_day_on_which_it_is_forgotten(ada, clock):
    made = ada.make_key()
    [document] = ada.documents("api_keys").values()
    assert document["forgotten_at"] is None
    ada.ask("DELETE", f"{KEYS}/{made['id']}")
    [document] = ada.documents("api_keys").values()
    assert document["forgotten_at"] == clock.now + 30 * DAY


def test_a_change_that_comes_between_is_not_lost(ada, clock, monkeypatch):
    """Somebody writes between our read and our write: we read again."""
    made = ada.make_key()
    real, times = repository.change_key, list[int]()

    def change_key(batch, before, after):
        if not times:
            times.append(1)
            firestore_client().document(f"api_keys/{before.digest}").update({"last_used_at": clock.now})
        real(batch, before, after)

    monkeypatch.setattr(repository, "change_key", change_key)
    assert ada.ask("PATCH", f"{KEYS}/{made['id']}", {"name": "Deploy"}).status == 200
    found = ada.ask("GET", f"{KEYS}/{made['id']}").json
    assert (found["name"], datetime.fromisoformat(found["last_used_at"])) == ("Deploy", clock.now)


def test_a_key_that_others_keep_changing_is_given_up(ada, monkeypatch):
    made = ada.make_key()

    def stale(*_):
        raise store.StaleWrite

    monkeypatch.setattr(store, "commit", stale)
    answer = ada.ask("PATCH", f"{KEYS}/{made['id']}", {"name": "Deploy"})
    assert (answer.status, answer.json["code"]) == (409, "conflict")
