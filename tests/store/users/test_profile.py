"""Somebody's own profile, from the request to the document."""

import pytest

from shared.clients import firestore_client
from tests.store.users.support import ME, Somebody, fresh_name, open_account, owner_of, reservations_of


def test_the_first_request_opens_the_account_and_shows_it(auth, uid):
    answer = Somebody(uid).request("GET", ME)

    assert answer.status_code == 200
    assert answer.json["uid"] == uid
    assert answer.json["username"].startswith("user_")
    assert (answer.json["role"], answer.json["status"], answer.json["plan"]) == ("user", "active", "free")


def test_a_profile_is_changed_and_told_of_once(someone):
    body = {"display_name": " Ada Lovelace ", "bio": "First.\nProgrammer."}

    changed = someone.request("PATCH", ME, body)
    again = someone.request("PATCH", ME, body)

    assert (changed.status_code, again.status_code) == (200, 200)
    assert again.json == changed.json
    assert changed.json["display_name"] == "Ada Lovelace"
    assert changed.json["bio"] == "First.\nProgrammer."
    told = [event["data"] for event in someone.events() if event["type"] == "user.profile.updated"]
    assert told == [{"fields": ["bio", "display_name"]}]


def test_null_removes_and_what_is_absent_stays(someone):
    someone.request("PATCH", ME, {"display_name": "Ada", "bio": "x"})

    answer = someone.request("PATCH", ME, {"bio": None})

    assert (answer.json["display_name"], answer.json["bio"]) == ("Ada", None)


@pytest.mark.parametrize("field", ["role", "status", "plan", "credits", "email", "uid", "valid_since"])
def test_a_client_can_never_set_what_only_the_server_sets(someone, field):
    before = someone.document()

    answer = someone.request("PATCH", ME, {"display_name": "Eve", field: "admin"})

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert someone.document() == before


def test_the_account_that_is_changed_is_the_callers_whatever_headers_say(someone):
    victim = open_account(display_name="Victim")

    someone.request("PATCH", ME, {"display_name": "Eve"}, **{"X-User-Id": victim.uid, "X-Auth-Processed": "true"})

    assert victim.document()["display_name"] == "Victim"
    assert someone.document()["display_name"] == "Eve"


def test_a_user_name_is_taken_and_the_old_one_is_free_again(someone):
    first, second = fresh_name(), fresh_name()

    assert someone.request("PATCH", ME, {"username": first.upper()}).json["username"] == first
    assert owner_of(first) == someone.uid
    assert someone.request("PATCH", ME, {"username": second}).json["username"] == second

    assert reservations_of(someone.uid) == [second]
    assert open_account().request("PATCH", ME, {"username": first}).status_code == 200


def test_a_name_that_somebody_has_is_refused_by_name(someone):
    name = fresh_name()
    open_account().request("PATCH", ME, {"username": name})
    before = someone.document()

    answer = someone.request("PATCH", ME, {"username": name.upper(), "bio": "lost"})

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert [error["field"] for error in answer.json["errors"]] == ["username"]
    assert someone.document() == before


def test_taking_ones_own_name_again_changes_nothing(someone):
    name = fresh_name()
    someone.request("PATCH", ME, {"username": name})

    answer = someone.request("PATCH", ME, {"username": name})

    assert answer.status_code == 200
    assert reservations_of(someone.uid) == [name]
    assert someone.event_types() == ["user.profile.updated"]


def test_the_default_name_may_be_sent_back_but_not_chosen(someone):
    default = someone.document()["username"]

    assert someone.request("PATCH", ME, {"username": default}).status_code == 200
    refused = open_account().request("PATCH", ME, {"username": default})

    assert refused.status_code == 400
    assert refused.json["errors"] == [{"field": "username", "message": "is reserved; choose another"}]
    assert owner_of(default) is None


def test_a_change_of_an_account_that_is_gone_is_not_found(someone):
    someone.request("GET", ME)
    firestore_client().collection("users").document(someone.uid).delete()

    assert someone.request("PATCH", ME, {"bio": "ghost"}).status_code == 404
    assert someone.event_types() == []


@pytest.mark.parametrize(
    ("told", "shown"),
    [("https://lh3.example/a.png", "https://lh3.example/a.png"), ("javascript:alert(1)", None), ("http://a/b", None)],
)
def test_a_picture_of_the_identity_provider_is_shown_when_it_is_a_web_address(auth, told, shown):
    assert open_account(photo_url=told).request("GET", ME).json["photo_url"] == shown
