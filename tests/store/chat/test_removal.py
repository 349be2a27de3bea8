"""Removing conversations and branches: at once, completely, whoever dies on the way, and nothing else."""

import itertools
import uuid
from datetime import timedelta

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.chat import removal, schemas
from functions.chat.removal import repository
from functions.chat.search import service as search
from shared import store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.errors import Conflict, NotFound, Unavailable
from shared.store import StaleWrite
from tests.store.chat.support import User

CONVERSATIONS = "/api/v1/conversations"


@pytest.fixture
def ada(poor_user):
    return poor_user


@pytest.fixture
def bob(chat_client):
    return User(f"user-{uuid.uuid4().hex}", chat_client)


@pytest.fixture(autouse=True)
def nothing_is_left_to_sweep():
    """Marks that other tests left behind would count in the numbers of a sweep."""
    for name in ("removals", "conversations"):
        found = firestore_client().collection_group(name).stream()
        for each in found:
            if name == "removals" or each.get("state") == "temporary":
                each.reference.delete()


def conversation_of(user: User, **body) -> str:
    return user.request("POST", CONVERSATIONS, body).json["id"]


def document(user: User, path: str):
    return firestore_client().document(f"users/{user.uid}/{path}")


def grow(user: User, conversation_id: str, parents: dict[str, str | None]) -> None:
    """Messages of these names, each searchable by its own; the last one is where the branch in use ends."""
    batch = store.new_batch()
    for number, (name, parent) in enumerate(parents.items()):
        message = schemas.Message(
            id=name,
            parent_id=parent,
            role="user",
            parts=[schemas.Text(type="text", text=f"heron {name}")],
            status="completed",
            created_at=utc_now() + timedelta(milliseconds=number),
        )
        batch.set(document(user, f"conversations/{conversation_id}/messages/{name}"), message.to_document())
        search.add_message(batch, user.uid, conversation_id, message)
    change = {"tip": list(parents)[-1], "message_count": len(parents)}
    batch.update(document(user, f"conversations/{conversation_id}"), change)
    batch.set(document(user, f"contexts/{conversation_id}"), {"tip": None, "messages": "[]", "summary": "herons"})
    store.commit(batch)


def chain(length: int) -> dict[str, str | None]:
    return {f"m{n}": f"m{n - 1}" if n else None for n in range(length)}


def paths_below(user: User) -> set[str]:
    """Everything that is stored about the user's conversations."""
    collections = (
        f"conversations/{conversation.id}/messages"
        for conversation in firestore_client().collection(f"users/{user.uid}/conversations").list_documents()
    )
    names = itertools.chain(["conversations", "contexts", "search_entries", "removals"], collections)
    return {
        f"{name}/{each.id}"
        for name in names
        for each in firestore_client().collection(f"users/{user.uid}/{name}").stream()
    }


def messages_of(user: User, conversation_id: str) -> dict[str, str | None]:
    found = firestore_client().collection(f"users/{user.uid}/conversations/{conversation_id}/messages").stream()
    return {each.id: (each.to_dict() or {}).get("parent_id") for each in found}


def told(user: User, kind: str) -> list[dict]:
    mine = firestore_client().collection("events").where(filter=FieldFilter("uid", "==", user.uid)).stream()
    return [event.get("data") for event in mine if event.get("type") == kind]


def delete(user: User, conversation_id: str):
    return user.request("DELETE", f"{CONVERSATIONS}/{conversation_id}")


def found_by_search(user: User, q: str) -> set[str | None]:
    answer = user.request("GET", f"{CONVERSATIONS}/search", query_string={"q": q, "limit": 50})
    return {item["message_id"] for item in answer.json["items"]}


def test_a_removed_conversation_leaves_nothing_and_others_stay(ada):
    gone, other = conversation_of(ada, title="Herons"), conversation_of(ada, title="Storks")
    grow(ada, gone, chain(70))
    grow(ada, other, {"x": None})
    assert delete(ada, gone).status_code == 204
    assert paths_below(ada) == {
        f"conversations/{other}",
        f"conversations/{other}/messages/x",
        f"contexts/{other}",
        f"search_entries/title:{other}",
        "search_entries/x",
    }
    assert told(ada, "chat.conversation.deleted") == [{"conversation_id": gone, "reason": "user"}]
    assert found_by_search(ada, "heron") == {"x"}
    for path in ("", "/messages"):
        assert ada.request("GET", f"{CONVERSATIONS}/{gone}{path}").status_code == 404


def test_a_second_removal_finds_nothing(ada, bob):
    conversation = conversation_of(ada)
    assert delete(bob, conversation).status_code == 404
    assert delete(ada, conversation).status_code == 204
    assert delete(ada, conversation).status_code == 404
    assert len(told(ada, "chat.conversation.deleted")) == 1


@pytest.mark.parametrize(
    "place",
    [
        "functions.chat.sharing.service.remove_of",
        "functions.chat.removal.repository.delete_some_messages",
        "functions.chat.search.service.remove_of",
        "functions.chat.uploads.service.remove_of",
        "functions.chat.removal.repository.unmark",
    ],
)
def test_a_removal_that_dies_anywhere_is_gone_on_with(ada, monkeypatch, place):
    conversation = conversation_of(ada, title="Herons")
    grow(ada, conversation, chain(3))

    def die(*_, **__):
        raise Unavailable("Gone.")

    now = utc_now()
    with monkeypatch.context() as dying:
        dying.setattr(place, die)
        assert delete(ada, conversation).status_code == 204
        assert repository.marked(ada.uid, [conversation, "conv_other"]) == {conversation}
        assert delete(ada, conversation).status_code == 404
        assert removal.sweep(now=now + timedelta(minutes=2))["removals_failed"] == 1
    assert removal.sweep(now=now)["removals_finished"] == 0, "whoever began may still be at it"
    assert removal.sweep(now=now + timedelta(minutes=2))["removals_finished"] == 1
    assert paths_below(ada) == set()


def test_what_a_request_has_no_time_for_the_sweep_does(ada, monkeypatch):
    monkeypatch.setattr(repository, "_MESSAGES_PER_DELETION", 2)
    monkeypatch.setattr(removal, "REQUEST_TIME_S", 0.0)
    conversation = conversation_of(ada)
    grow(ada, conversation, chain(7))
    assert delete(ada, conversation).status_code == 204
    assert len(messages_of(ada, conversation)) == 5
    removal.sweep(now=utc_now() + timedelta(minutes=2))
    assert paths_below(ada) == set()


def test_a_removal_wins_against_a_turn_that_changes_the_conversation(ada, monkeypatch):
    conversation = conversation_of(ada)
    find = repository.find
    turns = iter(range(3))

    def changed_after_reading(uid, conversation_id):
        found = find(uid, conversation_id)
        if next(turns, None) is not None:
            document(ada, f"conversations/{conversation_id}").update({"model": str(uuid.uuid4())})
        return found

    monkeypatch.setattr(repository, "find", changed_after_reading)
    removal.remove(ada.uid, conversation, now=utc_now())
    assert paths_below(ada) == set()


def test_temporary_chats_are_removed_when_their_time_is_over(ada):
    over, not_yet = conversation_of(ada, temporary=True), conversation_of(ada, temporary=True, retention_hours=48)
    stays = conversation_of(ada)
    grow(ada, over, chain(2))
    swept = removal.sweep(now=utc_now() + timedelta(hours=25))
    assert swept == {"removals_finished": 0, "conversations_expired": 1, "removals_failed": 0}
    kept = {path for path in paths_below(ada) if path.startswith("conversations/")}
    assert kept == {f"conversations/{not_yet}", f"conversations/{stays}"}
    assert told(ada, "chat.conversation.deleted") == [{"conversation_id": over, "reason": "expired"}]


def test_a_chat_that_is_used_while_the_sweep_looks_is_left_to_the_next(ada, monkeypatch):
    conversation = conversation_of(ada, temporary=True)
    later = utc_now() + timedelta(hours=25)
    listed = repository.list_expired(later, 10)
    document(ada, f"conversations/{conversation}").update({"expires_at": later + timedelta(hours=1)})
    monkeypatch.setattr(repository, "list_expired", lambda *_: listed)
    assert removal.sweep(now=later)["conversations_expired"] == 0
    assert document(ada, f"conversations/{conversation}").get().exists


def test_a_removal_that_fails_does_not_stop_the_others(ada, monkeypatch):
    first, second = conversation_of(ada, temporary=True), conversation_of(ada, temporary=True)
    begin = repository.take_away

    def fail_for_the_first(batch, found, **rest):
        if found.id == first:
            raise RuntimeError("Poisoned.")
        begin(batch, found, **rest)

    monkeypatch.setattr(repository, "take_away", fail_for_the_first)
    swept = removal.sweep(now=utc_now() + timedelta(hours=25))
    assert (swept["conversations_expired"], swept["removals_failed"]) == (1, 1)
    assert not document(ada, f"conversations/{second}").get().exists


# Branches

TREE = {"q1": None, "a1": "q1", "q2": "a1", "a2": "q2", "q3": "a1", "a3": "q3"}


def branch(user: User, conversation_id: str, message_id: str):
    return user.request("DELETE", f"{CONVERSATIONS}/{conversation_id}/messages/{message_id}")


@pytest.mark.parametrize(
    ("message", "left", "tip"),
    [
        ("a3", {"q1", "a1", "q2", "a2", "q3"}, "q3"),
        ("q3", {"q1", "a1", "q2", "a2"}, "a1"),
        ("q2", {"q1", "a1", "q3", "a3"}, "a3"),
        ("a1", {"q1"}, "q1"),
        ("q1", set(), None),
    ],
)
def test_a_branch_goes_with_all_that_follows_and_the_conversation_ends_before_it(ada, message, left, tip):
    conversation = conversation_of(ada)
    grow(ada, conversation, TREE)
    assert branch(ada, conversation, message).status_code == 204
    assert set(messages_of(ada, conversation)) == left
    shown = ada.request("GET", f"{CONVERSATIONS}/{conversation}").json
    assert (shown["tip"], shown["message_count"]) == (tip, len(left))
    assert found_by_search(ada, "heron") == left
    assert not document(ada, f"contexts/{conversation}").get().exists
    (event,) = told(ada, "chat.messages.deleted")
    assert event == {"conversation_id": conversation, "message_id": message, "message_count": len(TREE) - len(left)}


def test_no_message_ever_follows_none_wherever_the_deletion_dies(ada, monkeypatch):
    monkeypatch.setattr(removal, "MESSAGES_AT_ONCE", 3)
    conversation = conversation_of(ada)
    grow(ada, conversation, {"root": None, **{name: parent or "root" for name, parent in chain(11).items()}})
    commits = itertools.count(1)
    commit = removal._commit_without_entries

    def die_after_each(batch, uid, message_ids):
        commit(batch, uid, message_ids)
        if next(commits) < 4:
            raise Unavailable("Gone.")

    monkeypatch.setattr(removal, "_commit_without_entries", die_after_each)
    for _ in range(3):
        assert branch(ada, conversation, "m0").status_code == 503
        left = messages_of(ada, conversation)
        assert all(parent is None or parent in left for parent in left.values())
        shown = ada.request("GET", f"{CONVERSATIONS}/{conversation}").json
        assert (shown["tip"], shown["message_count"]) == ("root", len(left))
    assert branch(ada, conversation, "m0").status_code == 204
    assert messages_of(ada, conversation) == {"root": None}
    assert found_by_search(ada, "heron") == {"root"}


def test_a_branch_of_hundreds_of_messages_goes(ada):
    conversation = conversation_of(ada)
    grow(ada, conversation, chain(200))
    assert branch(ada, conversation, "m1").status_code == 204
    assert messages_of(ada, conversation) == {"m0": None}
    assert ada.request("GET", f"{CONVERSATIONS}/{conversation}").json["message_count"] == 1


def test_a_message_that_is_not_there_or_is_a_strangers_is_not_found(ada, bob):
    conversation = conversation_of(ada)
    grow(ada, conversation, TREE)
    assert branch(ada, conversation, "nowhere").status_code == 404
    assert branch(bob, conversation, "q1").status_code == 404
    assert branch(ada, "conv_nowhere", "q1").status_code == 404
    assert len(messages_of(ada, conversation)) == len(TREE)


def test_a_branch_under_which_an_answer_is_being_made_stays(ada):
    conversation = conversation_of(ada)
    grow(ada, conversation, TREE)
    running = {"status": "running", "conversation_id": conversation, "parent_id": "a2", "started_at": utc_now()}
    document(ada, "generations/gen_1").set(running)
    with pytest.raises(Conflict):
        removal.remove_branch(ada.uid, conversation, "q2", now=utc_now())
    removal.remove_branch(ada.uid, conversation, "q3", now=utc_now())
    assert set(messages_of(ada, conversation)) == {"q1", "a1", "q2", "a2"}
    document(ada, "generations/gen_1").delete()


def test_an_answer_that_ended_meanwhile_goes_with_its_branch(ada, monkeypatch):
    conversation = conversation_of(ada)
    grow(ada, conversation, TREE)
    read = repository.read_parents
    first = iter([True])

    def answered_after_reading(uid, conversation_id):
        parents = read(uid, conversation_id)
        if next(first, False):
            grow(ada, conversation, {**TREE, "q4": "a3"})
        return parents

    monkeypatch.setattr(repository, "read_parents", answered_after_reading)
    removal.remove_branch(ada.uid, conversation, "q3", now=utc_now())
    assert set(messages_of(ada, conversation)) == {"q1", "a1", "q2", "a2"}
    assert document(ada, f"conversations/{conversation}").get().get("tip") == "a1"


def test_a_conversation_that_is_removed_meanwhile_ends_the_deletion_of_its_branch(ada, monkeypatch):
    monkeypatch.setattr(removal, "MESSAGES_AT_ONCE", 2)
    conversation = conversation_of(ada)
    grow(ada, conversation, chain(5))
    commit = removal._commit_without_entries
    first = iter([True])

    def removed_after_the_first(batch, uid, message_ids):
        commit(batch, uid, message_ids)
        if next(first, False):
            removal.remove(uid, conversation, now=utc_now())

    monkeypatch.setattr(removal, "_commit_without_entries", removed_after_the_first)
    with pytest.raises(NotFound):
        removal.remove_branch(ada.uid, conversation, "m0", now=utc_now())
    assert paths_below(ada) == set()


def test_a_busy_conversation_is_unavailable_rather_than_half_deleted(ada, monkeypatch):
    conversation = conversation_of(ada)
    grow(ada, conversation, TREE)

    def stale(*_, **__):
        raise StaleWrite("Changed.")

    monkeypatch.setattr(removal, "_commit_without_entries", stale)
    assert branch(ada, conversation, "q2").status_code == 503
    assert messages_of(ada, conversation) == TREE
