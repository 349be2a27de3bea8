"""Preferences are what Firestore holds, whatever Redis says, forgets, delays or makes up."""

import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.users import preferences, preferences_cache, repository
from functions.users.preferences_cache import Copy, version_of
from functions.users.schemas import Preferences
from shared.clients import firestore_client, redis_client
from shared.clock import utc_now
from shared.redis_link import Link
from shared.settings import settings
from tests.store.users.support import ME, Somebody

PATH = f"{ME}/preferences"
DARK = Preferences(theme="dark")
LIGHT = Preferences(theme="light")


def key(somebody: Somebody) -> str:
    return preferences_cache.key(somebody.uid)


def cached(somebody: Somebody):
    text = redis_client().get(key(somebody))
    return None if text is None else json.loads(text)


def poison(somebody: Somebody, **changes) -> None:
    """A copy that somebody else wrote, right in everything but the changes."""
    document = {"uid": somebody.uid, "format": preferences_cache.FORMAT, "version": version_of(utc_now()), "value": {}}
    redis_client().set(key(somebody), json.dumps(document | changes))


@pytest.fixture
def reads(monkeypatch):
    """How often Firestore was asked for preferences."""
    asked: list[str] = []
    find = repository.find_preferences

    def counted(uid):
        asked.append(uid)
        return find(uid)

    monkeypatch.setattr(repository, "find_preferences", counted)
    return asked


def test_preferences_are_defaults_until_somebody_chooses(someone):
    answer = someone.request("GET", PATH)

    assert answer.status_code == 200
    assert answer.json == Preferences().model_dump(mode="json")
    assert "preferences" not in someone.document()


def test_a_put_replaces_everything_and_fills_in_defaults(someone):
    someone.request(
        "PUT", PATH, {"theme": "dark", "favourite_models": ["a/b"], "notifications": {"push": {"product": False}}}
    )

    answer = someone.request("PUT", PATH, {"language": "pt-br"})

    expected = Preferences(language="pt-BR").model_dump(mode="json")
    assert answer.json == expected
    assert someone.request("GET", PATH).json == expected
    assert someone.document()["preferences"] == expected
    assert someone.event_types() == ["user.preferences.updated"] * 2


def test_an_unknown_field_is_refused_and_nothing_changes(someone):
    answer = someone.request("PUT", PATH, {"theme": "dark", "plan": "enterprise"})

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == ["plan"]
    assert "preferences" not in someone.document()


def test_a_second_read_is_answered_by_the_copy(someone, reads):
    preferences.get(someone.uid, now=utc_now())
    preferences.get(someone.uid, now=utc_now())

    assert reads == [someone.uid]
    assert 0 < redis_client().ttl(key(someone)) <= preferences_cache.KEPT_S


def test_a_read_after_a_write_needs_no_database_and_sees_it(someone, reads):
    preferences.put(someone.uid, DARK, now=utc_now())

    assert preferences.get(someone.uid, now=utc_now()) == DARK
    assert reads == []


def test_what_expired_comes_back_from_firestore(someone, reads):
    preferences.put(someone.uid, DARK, now=utc_now())
    redis_client().delete(key(someone))

    assert preferences.get(someone.uid, now=utc_now()) == DARK
    assert reads == [someone.uid]


FUTURE = 4 * 10**15
GARBAGE = ["", "not json", "[]", "7", "null", '{"theme": "light"}', "\x00\xff", "{" * 5000]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_the_cache_is_neither_believed_nor_kept(someone, garbage):
    preferences.put(someone.uid, DARK, now=utc_now())
    redis_client().set(key(someone), garbage)

    assert preferences.get(someone.uid, now=utc_now()) == DARK
    assert cached(someone)["value"]["theme"] == "dark"


@pytest.mark.parametrize(
    "changes",
    [
        {"uid": "somebody-else", "value": {"theme": "light"}},
        {"format": 0, "value": {"theme": "light"}},
        {"version": FUTURE, "value": {"theme": "light"}},
        {"version": "1", "value": {"theme": "light"}},
        {"version": None, "value": {"theme": "light"}},
        {"value": "light"},
        {"value": {"theme": "pink"}},
        {"value": {"time_zone": "Mars/Phobos"}},
    ],
    ids=[
        "another user's",
        "another format",
        "the future",
        "a text version",
        "no version",
        "no object",
        "bad",
        "unknown",
    ],
)
def test_a_copy_that_cannot_be_ours_is_not_believed(someone, changes):
    preferences.put(someone.uid, DARK, now=utc_now())
    poison(someone, **changes)

    assert preferences.get(someone.uid, now=utc_now()) == DARK


def test_a_key_of_another_type_is_replaced(someone):
    preferences.put(someone.uid, DARK, now=utc_now())
    redis_client().delete(key(someone))
    redis_client().rpush(key(someone), "a list")

    assert preferences.get(someone.uid, now=utc_now()) == DARK
    assert cached(someone)["value"]["theme"] == "dark"


def test_a_copy_from_the_future_does_not_keep_a_write_out(someone):
    poison(someone, version=FUTURE, value={"theme": "light"})

    preferences.put(someone.uid, DARK, now=utc_now())

    assert cached(someone)["value"]["theme"] == "dark"


def test_no_copy_ever_reaches_firestore(someone):
    poison(someone, value={"theme": "light"})

    preferences.get(someone.uid, now=utc_now())

    assert "preferences" not in someone.document()


def test_a_slow_reader_does_not_put_back_what_a_writer_replaced(someone, monkeypatch):
    """The reader reads the old state, then the writer does all of its work, then the reader fills the cache."""
    preferences.put(someone.uid, LIGHT, now=utc_now())
    redis_client().delete(key(someone))
    find = repository.find_preferences

    def read_then_wait_for_a_writer(uid):
        found = find(uid)
        preferences.put(uid, DARK, now=utc_now())
        return found

    monkeypatch.setattr(repository, "find_preferences", read_then_wait_for_a_writer)
    assert preferences.get(someone.uid, now=utc_now()) == LIGHT

    assert cached(someone)["value"]["theme"] == "dark"
    assert preferences.get(someone.uid, now=utc_now()) == DARK


def test_two_writers_leave_the_later_commit_in_the_cache(someone):
    now = utc_now()
    preferences.put(someone.uid, DARK, now=now)
    newer = cached(someone)["version"]

    preferences_cache.put(someone.uid, Copy(LIGHT.model_dump(mode="json"), newer - 1), now)

    assert cached(someone)["value"]["theme"] == "dark"


def test_a_slow_reader_puts_nothing_old_back_after_the_copy_is_gone(someone):
    preferences.put(someone.uid, LIGHT, now=utc_now())
    read_before = Copy(LIGHT.model_dump(mode="json"), cached(someone)["version"])
    preferences.put(someone.uid, DARK, now=utc_now())
    redis_client().delete(key(someone))
    preferences_cache.put(someone.uid, read_before, utc_now())
    assert redis_client().get(key(someone)) is None
    assert preferences.get(someone.uid, now=utc_now()).theme == "dark"


@pytest.fixture
def patient_link(monkeypatch):
    """A link that waits for a starved machine: what a lost write does to a copy is another test."""
    link = Link(settings().redis_url, timeout_s=10)
    monkeypatch.setattr(preferences_cache, "_link", lambda _: link)
    yield
    link.close()


@pytest.mark.usefixtures("patient_link")
def test_readers_and_writers_at_once_end_with_what_firestore_holds(someone):
    states = [DARK, LIGHT, Preferences()]

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(6):
            if chance.random() < 0.5:
                preferences.put(someone.uid, chance.choice(states), now=utc_now())
            else:
                preferences.get(someone.uid, now=utc_now())
            if chance.random() < 0.3:
                redis_client().delete(key(someone))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))

    assert preferences.get(someone.uid, now=utc_now()).model_dump(mode="json") == someone.document()["preferences"]


@pytest.fixture
def silent_redis(monkeypatch):
    """Takes connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken = []
    stopped = threading.Event()

    def accept() -> None:
        listener.settimeout(0.1)
        while not stopped.is_set():
            try:
                taken.append(listener.accept()[0])
            except TimeoutError:
                continue

    thread = threading.Thread(target=accept)
    thread.start()
    link = Link(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    monkeypatch.setattr(preferences_cache, "_link", lambda _url: link)
    yield
    stopped.set()
    thread.join()
    for connection in [listener, *taken]:
        connection.close()


@pytest.fixture
def dead_redis(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    link = Link(f"redis://127.0.0.1:{port}/0")
    monkeypatch.setattr(preferences_cache, "_link", lambda _url: link)


@pytest.mark.parametrize("redis", ["silent_redis", "dead_redis"])
def test_without_redis_everything_works_and_nothing_waits(someone, redis, request):
    request.getfixturevalue(redis)
    began = time.monotonic()

    preferences.put(someone.uid, DARK, now=utc_now())
    assert preferences.get(someone.uid, now=utc_now()) == DARK

    # Three calls of 30 ms at most, and what Firestore takes; the library's own time-outs would be seconds.
    assert time.monotonic() - began < 2
    assert someone.document()["preferences"]["theme"] == "dark"


def test_what_was_valid_once_and_is_no_more_gets_its_default_and_locks_nobody_out(someone):
    """As when a time zone is renamed, or a theme given up."""
    someone.set(preferences={"theme": "sepia", "time_zone": "Mars/Olympus", "language": "tr", "notifications": "all"})

    answers = [someone.request("GET", PATH) for _ in range(2)]

    for answer in answers:
        assert (answer.status_code, answer.json) == (200, Preferences(language="tr").model_dump(mode="json"))
    assert someone.document()["preferences"]["time_zone"] == "Mars/Olympus"


def test_preferences_of_an_account_that_is_gone_are_not_invented(someone):
    someone.request("GET", PATH)
    firestore_client().collection("users").document(someone.uid).delete()
    redis_client().delete(key(someone))

    assert someone.request("GET", PATH).status_code == 404
    assert someone.request("PUT", PATH, {"theme": "dark"}).status_code == 404
    assert cached(someone) is None
