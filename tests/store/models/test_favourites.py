"""Favourites are added and removed one by one, so that nobody's devices overwrite each other."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.users import preferences, repository
from functions.users.schemas import MAX_FAVOURITES
from shared.clock import utc_now
from tests.store.models.support import FLASH, MINI, SONNET, SPARE, headers_of, ids, models_client
from tests.store.users.support import ME

GONE = "acme/gone"


@pytest.fixture
def mark(someone):
    """Makes a model a favourite of somebody's, or with another method no longer; gives the answer."""

    def request(slug, method="PUT"):
        return models_client().open(f"/api/v1/models/{slug}/favourite", method=method, headers=headers_of(someone))

    return request


def favourites(someone):
    return someone.request("GET", f"{ME}/preferences").json["favourite_models"]


def test_a_favourite_shows_in_the_catalogue_until_it_is_removed(mark, ask, someone):
    assert mark(SPARE).status_code == 204
    assert mark(FLASH).status_code == 204
    assert favourites(someone) == [SPARE, FLASH]
    assert ids(ask("?favourites=true")) == sorted([SPARE, FLASH])

    assert mark(SPARE, "DELETE").status_code == 204
    assert ids(ask("?favourites=true")) == favourites(someone) == [FLASH]


def test_nothing_else_of_the_preferences_changes(mark, someone):
    chosen = someone.request("PUT", f"{ME}/preferences", {"theme": "dark", "default_model": MINI}).json
    mark(SPARE)
    assert someone.request("GET", f"{ME}/preferences").json == chosen | {"favourite_models": [SPARE]}
    assert someone.document()["preferences"] == chosen | {"favourite_models": [SPARE]}


def test_the_same_again_changes_and_tells_nothing(mark, someone):
    mark(MINI)
    mark(SPARE)
    before = someone.document()
    assert mark(MINI).status_code == 204
    assert mark(FLASH, "DELETE").status_code == 204
    assert someone.document() == before
    assert someone.event_types() == ["user.preferences.updated"] * 2


def test_a_model_is_kept_under_the_name_that_the_catalogue_has_for_it(mark, someone):
    mark("anthropic/claude-sonnet-4-5")
    assert favourites(someone) == [SONNET]
    mark("anthropic/claude-sonnet-4-5", "DELETE")
    assert favourites(someone) == []


def test_a_model_that_is_not_offered_is_not_found_by_its_field(mark, someone):
    answer = mark(GONE)
    assert (answer.status_code, [error["field"] for error in answer.json["errors"]]) == (404, ["model"])
    assert "preferences" not in someone.document()


def test_a_favourite_that_is_offered_no_more_can_still_be_removed(mark, someone):
    someone.request("PUT", f"{ME}/preferences", {"favourite_models": [GONE, MINI]})
    assert mark(GONE, "DELETE").status_code == 204
    assert favourites(someone) == [MINI]


def test_there_are_only_so_many(mark, someone):
    many = [f"acme/m{number}" for number in range(MAX_FAVOURITES - 1)]
    someone.request("PUT", f"{ME}/preferences", {"favourite_models": many})
    assert mark(MINI).status_code == 204

    answer = mark(SPARE)

    assert answer.status_code == 409
    assert "remove one first" in answer.json["detail"]
    assert favourites(someone) == [*many, MINI]
    assert mark(MINI).status_code == 204, "one that is there takes no room"


def test_what_several_devices_do_at_once_is_all_kept(mark, someone):
    preferences.add_favourite(someone.uid, GONE, now=utc_now())
    with ThreadPoolExecutor(4) as devices:
        answers = list(devices.map(mark, [MINI, FLASH, SPARE, GONE], ["PUT", "PUT", "PUT", "DELETE"]))
    assert [answer.status_code for answer in answers] == [204] * 4
    assert sorted(favourites(someone)) == sorted([MINI, FLASH, SPARE])


def test_what_another_device_did_between_reading_and_writing_is_kept(mark, someone, monkeypatch):
    find, others = repository.find_preferences, [FLASH]

    def found_then_changed(uid):
        read = find(uid)
        if others:
            preferences.add_favourite(uid, others.pop(), now=utc_now())
        return read

    monkeypatch.setattr(repository, "find_preferences", found_then_changed)
    assert mark(SPARE).status_code == 204
    assert favourites(someone) == [FLASH, SPARE]


def test_an_account_that_never_stops_changing_is_told_when_to_come_back(mark, someone, monkeypatch):
    find, changes = repository.find_preferences, itertools.count(1)

    def found_then_changed(uid):
        read = find(uid)
        someone.set(bio=f"changed {next(changes)} times")
        return read

    monkeypatch.setattr(preferences, "_PAUSE_S", 0.0)
    monkeypatch.setattr(repository, "find_preferences", found_then_changed)
    answer = mark(SPARE)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
