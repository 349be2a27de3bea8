"""Who the product is to Firestore, where it goes, and how patient it is; nothing is sent."""

import itertools
import time
from typing import Any, ClassVar

import google.auth
import google.auth.transport.grpc
import grpc  # type: ignore[import-untyped]  # it ships no types
import pytest
from google.api_core.gapic_v1 import routing_header
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.base_client import _DEFAULT_CHANNEL_OPTIONS
from google.cloud.firestore_v1.services.firestore import FirestoreClient

from shared import clients, firestore_channel, store
from shared.errors import Unavailable
from shared.firestore_channel import Exchange, FirestoreChannel
from shared.firestore_wire import MESSAGES
from shared.settings import settings

DATABASE = "projects/demo-craftpilot/databases/(default)"
REFUSALS = {
    "ALREADY_EXISTS": store.AlreadyExists,
    "FAILED_PRECONDITION": store.StaleWrite,
    "NOT_FOUND": store.StaleWrite,
    "INVALID_ARGUMENT": store.WriteRefused,
    "ABORTED": Unavailable,
    "DATA_LOSS": Unavailable,
    "DEADLINE_EXCEEDED": Unavailable,
    "INTERNAL": Unavailable,
    "RESOURCE_EXHAUSTED": Unavailable,
    "UNAVAILABLE": Unavailable,
    "UNIMPLEMENTED": Unavailable,
    "UNKNOWN": Unavailable,
}


class Failed(grpc.RpcError):  # type: ignore[misc]  # gRPC ships no types
    """How a call ends that did not go well."""

    def __init__(self, status: str) -> None:
        super().__init__()
        self._status = status

    def code(self) -> Any:
        return grpc.StatusCode[self._status]

    def details(self) -> str:
        return f"it is {self._status}"


class Script:
    """A channel whose calls end as it is told, one after the other; the last one again and again."""

    def __init__(self, *endings: Any) -> None:
        self.endings = list(endings)
        self.timeouts: list[float] = []

    def begin(self, _: Any, timeout_s: float) -> Any:
        self.timeouts.append(timeout_s)
        ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]

        def wait():
            if isinstance(ending, str):
                raise Failed(ending)
            return ending

        return wait

    commit = start_commit = start_reading = begin


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Nobody sleeps; how long they would have is noted, and the clock goes by it."""
    taken: list[float] = []
    monkeypatch.setattr(time, "sleep", taken.append)
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + sum(taken))
    return taken


@pytest.fixture
def script(monkeypatch):
    def use(*endings: Any) -> Script:
        made = Script(*endings)
        monkeypatch.setitem(clients._made, "firestore_channel", made)
        return made

    return use


def committed() -> list[Any]:
    return [MESSAGES["CommitResponse"](write_results=[MESSAGES["WriteResult"]()])]


def a_batch() -> store.Batch:
    batch = store.Batch()
    batch.create(store.document("things", "one"), {"a": 1})
    return batch


# --- patience --------------------------------------------------------------------------------------------------------


def test_a_call_is_made_again_while_that_may_help(pauses):
    script = Script("UNAVAILABLE", "UNAVAILABLE", ["answer"])
    exchange = Exchange(lambda left: script.begin(None, left), retried={"UNAVAILABLE"}, patience_s=10)
    assert exchange.messages() == ["answer"]
    assert len(pauses) == 2


def test_a_call_is_given_up_when_its_time_is_over(pauses):
    script = Script("UNAVAILABLE")
    exchange = Exchange(lambda left: script.begin(None, left), retried={"UNAVAILABLE"}, patience_s=10)
    with pytest.raises(Failed):
        exchange.messages()
    assert 8 < sum(pauses) < 10
    assert all(later < earlier for earlier, later in itertools.pairwise(script.timeouts))


def test_what_will_not_change_is_not_tried_again(pauses):
    script = Script("PERMISSION_DENIED")
    exchange = Exchange(lambda left: script.begin(None, left), retried={"UNAVAILABLE"}, patience_s=10)
    with pytest.raises(Failed):
        exchange.messages()
    assert (pauses, script.timeouts) == ([], [10])


def test_a_commit_that_was_given_up_under_contention_is_tried_again(script, pauses):
    script("ABORTED", "ABORTED", committed())
    assert len(store.commit(a_batch())) == 1
    assert len(pauses) == 2
    made = script("ABORTED")
    with pytest.raises(Unavailable):
        store.commit(a_batch())
    assert len(made.timeouts) == store.COMMIT_ATTEMPTS


@pytest.mark.parametrize("again", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_a_commit_that_did_not_get_through_is_sent_again(script, again):
    made = script(again, committed())
    store.start_committing(a_batch()).result()
    assert len(made.timeouts) == 2


@pytest.mark.parametrize("again", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL"])
def test_a_read_that_failed_is_tried_again(script, again):
    made = script(again, [])
    assert store.read(store.document("things", "one")) is None
    assert len(made.timeouts) == 2


def test_whoever_has_little_patience_hears_soon(script, pauses):
    script("UNAVAILABLE")
    with pytest.raises(Unavailable):
        store.read(store.document("things", "one"), patience_s=2)
    assert sum(pauses) < 2


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "error"), REFUSALS.items())
def test_every_way_to_fail_has_one_name(script, status, error):
    script(status)
    with pytest.raises(error) as refusal:
        store.commit(a_batch())
    assert isinstance(refusal.value.__cause__, Failed)


@pytest.mark.parametrize("status", ["PERMISSION_DENIED", "UNAUTHENTICATED", "CANCELLED", "OUT_OF_RANGE"])
def test_a_mistake_of_ours_is_told_as_it_is(script, status):
    script(status)
    with pytest.raises(Failed):
        store.commit(a_batch())


@pytest.mark.parametrize(("status", "error"), REFUSALS.items())
def test_the_librarys_errors_have_the_same_names(status, error):
    from google.api_core import exceptions

    with pytest.raises(error), store.translated_errors():
        raise exceptions.from_grpc_status(grpc.StatusCode[status], "so it is")


def test_the_librarys_errors_without_a_status_are_an_outage():
    from google.api_core import exceptions

    for error in (exceptions.RetryError("over", None), exceptions.BadGateway("502"), exceptions.TooManyRequests("429")):
        with pytest.raises(Unavailable), store.translated_errors():
            raise error


def test_errors_of_others_pass():
    with pytest.raises(KeyError), store.translated_errors():
        raise KeyError("mine")


# --- where, and as whom ----------------------------------------------------------------------------------------------


class Recorded:
    """A gRPC channel that only notes what it is asked for."""

    calls: ClassVar[list[tuple[str, Any, dict[str, Any]]]] = []

    def unary_unary(self, method: str, *_: Any) -> Any:
        def call(request: Any, **options: Any) -> Any:
            self.calls.append((method, request, options))
            return MESSAGES["CommitResponse"]()

        return call

    def unary_stream(self, method: str, *_: Any) -> Any:
        def call(request: Any, **options: Any) -> Any:
            self.calls.append((method, request, options))
            return iter(())

        return call


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(Recorded, "calls", [])
    monkeypatch.setattr(grpc, "insecure_channel", lambda *_, **__: Recorded())
    return Recorded.calls


def test_every_call_names_its_database_where_the_library_names_it(recorded, monkeypatch):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")
    theirs = firestore.Client(project="demo-craftpilot")
    channel = FirestoreChannel("127.0.0.1:9")
    channel.commit(MESSAGES["CommitRequest"](database=DATABASE), 3)()
    channel.start_commit(MESSAGES["CommitRequest"](database=DATABASE), 3)()
    channel.start_reading(MESSAGES["BatchGetDocumentsRequest"](database=DATABASE), 3)()
    expected = {*theirs._rpc_metadata, routing_header.to_grpc_metadata((("database", DATABASE),))}
    assert [method.rpartition("/")[2] for method, _, _ in recorded] == ["Commit", "Commit", "BatchGetDocuments"]
    for _, _, options in recorded:
        assert set(options["metadata"]) == expected
        assert options["timeout"] == 3


def test_a_call_that_is_begun_is_sent_at_once_and_another_when_it_is_waited_for(recorded):
    channel = FirestoreChannel("127.0.0.1:9")
    channel.commit(MESSAGES["CommitRequest"](database=DATABASE), 3)
    assert recorded == []
    channel.start_commit(MESSAGES["CommitRequest"](database=DATABASE), 3)
    channel.start_reading(MESSAGES["BatchGetDocumentsRequest"](database=DATABASE), 3)
    assert len(recorded) == 2


def test_without_an_emulator_it_is_googles_firestore_and_googles_credentials(monkeypatch):
    found = AnonymousCredentials()
    asked = {}

    def default(scopes):
        asked["scopes"] = scopes
        return found, "demo-craftpilot"

    def authorized(credentials, _, target, options):
        asked.update(credentials=credentials, target=target, options=options)
        return Recorded()

    monkeypatch.setattr(google.auth, "default", default)
    monkeypatch.setattr(google.auth.transport.grpc, "secure_authorized_channel", authorized)
    monkeypatch.setattr(Recorded, "calls", [])
    channel = FirestoreChannel()
    channel.commit(MESSAGES["CommitRequest"](database=DATABASE), 3)()
    assert asked["credentials"] is found
    assert asked["scopes"] == firestore.Client.SCOPE
    assert asked["target"] == f"{FirestoreClient.DEFAULT_ENDPOINT}:443"
    assert set(_DEFAULT_CHANNEL_OPTIONS) <= set(asked["options"])
    assert "authorization" not in dict(Recorded.calls[0][2]["metadata"])


def test_the_channel_is_the_emulators_where_googles_libraries_would_go_there(monkeypatch):
    hosts: list[str] = []

    def insecure(host):
        hosts.append(host)
        return Recorded()

    monkeypatch.setattr(firestore_channel, "_insecure", insecure)
    monkeypatch.setattr(clients, "_made", {})
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:21999")
    settings.cache_clear()
    clients.firestore_channel()
    assert hosts == ["127.0.0.1:21999"]
    assert clients.firestore_database() == DATABASE
