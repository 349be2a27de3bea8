"""Content search through its route: what is found, in pages, by whom; and what is found no more."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.chat import schemas
from functions.chat.events import MessageCompleted
from functions.chat.search import repository, service
from shared import events, store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.ids import new_id
from tests.store.chat.support import User

BEGUN_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def ada(poor_user):
    return poor_user


@pytest.fixture
def bob(chat_client):
    return User(f"user-{uuid.uuid4().hex}", chat_client)


def conversation_of(user: User, **body) -> str:
    return user.request("POST", "/api/v1/conversations", body).json["id"]


def add(user: User, conversation_id: str, text: str, *, role: Any = "user", after: int = 0, index: bool = True) -> str:
    """A message, `after` so many seconds."""
    message = schemas.Message(
        id=new_id("msg"),
        role=role,
        parts=[schemas.Text(type="text", text=text)],
        status="completed",
        created_at=BEGUN_AT + timedelta(seconds=after),
    )
    batch = store.new_batch()
    batch.set(message_reference(user, conversation_id, message.id), message.to_document())
    if index:
        service.add_message(batch, user.uid, conversation_id, message)
    store.commit(batch)
    return message.id


def message_reference(user: User, conversation_id: str, message_id: str):
    return firestore_client().document(f"users/{user.uid}/conversations/{conversation_id}/messages/{message_id}")


def search(user: User, q: str, **query):
    return user.request("GET", "/api/v1/conversations/search", query_string={"q": q, **query})


def found(user: User, q: str, **query) -> list[str]:
    return [item["message_id"] for item in search(user, q, **query).json["items"]]


def pages_of(user: User, q: str, **query) -> list[list[str]]:
    """What every page holds, to the last."""
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = search(user, q, **query, **cursor).json
        pages.append([item["message_id"] for item in page["items"]])
        if page["next_cursor"] is None:
            return pages
        cursor = {"cursor": page["next_cursor"]}


def entries(user: User) -> list[str]:
    return [each.id for each in firestore_client().collection(f"users/{user.uid}/search_entries").stream()]


def completed(user: User, conversation_id: str, message_id: str, user_message_id: str | None) -> events.Event:
    return events.Event(
        id=new_id("evt"),
        type=MessageCompleted.type,
        version=1,
        topic="chat-events",
        uid=user.uid,
        subject=f"conversations/{conversation_id}/messages/{message_id}",
        data={"conversation_id": conversation_id, "message_id": message_id, "user_message_id": user_message_id},
        occurred_at=BEGUN_AT,
        traceparent="",
    )


def test_a_message_is_found_by_its_words_with_what_a_list_shows_of_it(ada):
    conversation = conversation_of(ada, title="Birds of the lake")
    add(ada, conversation, "What stands in the reeds?")
    answer = add(ada, conversation, "A grey heron, most likely. " + "It waits. " * 60, role="assistant", after=1)
    (item,) = search(ada, "HERON grey").json["items"]
    assert item == {
        "conversation_id": conversation,
        "title": "Birds of the lake",
        "state": "active",
        "message_id": answer,
        "role": "assistant",
        "snippet": item["snippet"],
        "matches": [[2, 6], [7, 12]],
        "at": "2026-03-01T12:00:01Z",
    }
    assert item["snippet"].startswith("A grey heron, most likely. It waits.")
    assert len(item["snippet"]) <= 160


def test_a_title_is_found_and_the_one_before_is_not(ada):
    conversation = conversation_of(ada, title="Herons of the lake")
    assert found(ada, "heron") == [None]
    assert ada.request("PATCH", f"/api/v1/conversations/{conversation}", {"title": "Storks"}).status_code == 200
    assert found(ada, "heron") == []
    assert found(ada, "storks") == [None]
    assert found(ada, "storks", role="user") == []


def test_nobody_finds_what_somebody_else_wrote(ada, bob):
    of_ada = add(ada, conversation_of(ada), "The code word is heron.")
    of_bob = add(bob, conversation_of(bob), "The code word is heron.")
    assert found(ada, "heron") == [of_ada]
    assert found(bob, "heron") == [of_bob]


def test_phrases_and_roles_and_folders_narrow_a_search(ada):
    folder = ada.request("POST", "/api/v1/folders", {"name": "Birds"}).json["id"]
    inside, outside = conversation_of(ada, folder_id=folder), conversation_of(ada)
    first = add(ada, inside, "grey heron", after=1)
    second = add(ada, outside, "heron, grey", role="assistant", after=2)
    assert found(ada, "grey heron") == [second, first]
    assert found(ada, '"grey heron"') == [first]
    assert found(ada, "heron", role="assistant") == [second]
    assert found(ada, "heron", folder_id=folder) == [first]
    assert found(ada, "heron", folder_id="fld_nowhere") == []


def test_pages_lose_nothing_and_repeat_nothing(ada):
    one, other = conversation_of(ada), conversation_of(ada)
    written = [add(ada, (one, other)[n % 2], f"needle number {n}", after=n // 3) for n in range(300)]
    pages = pages_of(ada, "needle", limit=17)
    seen = [message_id for page in pages for message_id in page]
    assert sorted(seen) == sorted(written)
    assert all(len(page) <= 17 for page in pages)
    moments = {message_id: n // 3 for n, message_id in enumerate(written)}
    assert [moments[each] for each in seen] == sorted(moments.values(), reverse=True)


def test_a_search_that_looked_at_much_in_vain_goes_on_with_the_next_page(ada, monkeypatch):
    monkeypatch.setattr(service, "MAX_CANDIDATES", 50)
    conversation = conversation_of(ada)
    wanted = add(ada, conversation, "heron grey tall")
    for n in range(120):
        add(ada, conversation, f"heron and grey {n}", after=n + 1)
    assert pages_of(ada, '"heron grey"') == [[], [], [wanted]]


def test_a_long_message_is_found_once_by_all_of_its_words(ada):
    conversation = conversation_of(ada)
    words = [f"heron{number}" for number in range(1500)]
    long = add(ada, conversation, " ".join(words))
    assert len(entries(ada)) > 1
    for asked in ("heron0", "heron1499", "her", "heron1 heron1444"):
        assert [each for page in pages_of(ada, asked, limit=1) for each in page] == [long]


def test_archived_chats_are_found_and_temporary_ones_never(ada):
    archived, temporary = conversation_of(ada), conversation_of(ada, temporary=True)
    kept = add(ada, archived, "heron")
    hidden = add(ada, temporary, "heron", index=False)
    service.index_turn(completed(ada, temporary, hidden, None), now=utc_now())
    assert entries(ada) == [kept]
    ada.request("PATCH", f"/api/v1/conversations/{archived}", {"archived": True})
    (item,) = search(ada, "heron").json["items"]
    assert (item["message_id"], item["state"]) == (kept, "archived")
    add(ada, temporary, "heron")  # even if it were there
    assert found(ada, "heron") == [kept]


def test_a_turn_is_indexed_once_by_its_event(ada):
    conversation = conversation_of(ada)
    asked = add(ada, conversation, "Which bird?", index=False)
    answered = add(ada, conversation, "A heron.", role="assistant", after=1, index=False)
    event = completed(ada, conversation, answered, asked)
    service.index_turn(event, now=utc_now())
    service.index_turn(event, now=utc_now())
    assert found(ada, "heron") == [answered]
    assert found(ada, "bird") == [asked]
    assert sorted(entries(ada)) == sorted([asked, answered])


def test_indexing_changes_neither_the_conversation_nor_its_messages(ada):
    conversation = conversation_of(ada)
    answered = add(ada, conversation, "A heron.", role="assistant", index=False)
    reference = firestore_client().document(f"users/{ada.uid}/conversations/{conversation}")
    before = reference.get().to_dict(), message_reference(ada, conversation, answered).get().to_dict()
    service.index_turn(completed(ada, conversation, answered, None), now=utc_now())
    assert (reference.get().to_dict(), message_reference(ada, conversation, answered).get().to_dict()) == before


def test_no_entry_is_written_for_a_conversation_that_was_removed_after_it_was_read(ada, monkeypatch):
    conversation = conversation_of(ada)
    answered = add(ada, conversation, "A heron.", role="assistant", index=False)
    read = repository.find_messages

    def read_then_removed(uid, places):
        messages = read(uid, places)
        assert ada.request("DELETE", f"/api/v1/conversations/{conversation}").status_code == 204
        return messages

    monkeypatch.setattr(repository, "find_messages", read_then_removed)
    service.index_turn(completed(ada, conversation, answered, None), now=utc_now())
    assert entries(ada) == []


def test_of_a_turn_whose_question_was_deleted_meanwhile_the_rest_is_indexed(ada, monkeypatch):
    conversation = conversation_of(ada)
    asked = add(ada, conversation, "Which bird?", index=False)
    answered = add(ada, conversation, "A heron.", role="assistant", after=1, index=False)
    read = repository.find_messages

    def read_then_deleted(uid, places):
        messages = read(uid, places)
        message_reference(ada, conversation, asked).delete()
        return messages

    monkeypatch.setattr(repository, "find_messages", read_then_deleted)
    service.index_turn(completed(ada, conversation, answered, asked), now=utc_now())
    assert entries(ada) == [answered]


def test_what_was_deleted_is_not_found_even_while_its_entry_is_left(ada):
    conversation = conversation_of(ada)
    message = add(ada, conversation, "heron")
    message_reference(ada, conversation, message).delete()
    assert entries(ada) == [message]
    assert found(ada, "heron") == []


def test_a_conversation_that_came_in_at_once_is_indexed_whole(ada):
    conversation = conversation_of(ada)
    written = [add(ada, conversation, f"heron {n}", after=n, index=False) for n in range(12)]
    service.index_conversation(ada.uid, conversation)
    assert found(ada, "heron") == written[::-1]


@pytest.mark.parametrize("query", [{"q": ""}, {"q": "x" * 201}, {"q": "?!"}, {}, {"q": "a", "limit": 51}])
def test_a_question_that_cannot_be_asked_is_refused_by_its_name(ada, query):
    answer = ada.request("GET", "/api/v1/conversations/search", query_string=query)
    assert answer.status_code == 400
    assert [problem["field"] for problem in answer.json["errors"]] == [("limit" if "limit" in query else "q")]


@pytest.mark.parametrize("cursor", ["nonsense", "bm93fHg=", "%00"])
def test_a_cursor_that_no_page_gave_is_refused(ada, cursor):
    assert search(ada, "heron", cursor=cursor).status_code == 400


def test_hostile_questions_are_only_questions(ada):
    add(ada, conversation_of(ada), "heron")
    for asked in (
        '"' * 200,
        "a " * 100,
        "\x00\x01x",
        "\u202eevil",
        "../../etc/passwd",
        "{$ne: null}",
        "a" * 200,
        "\u0301" * 200,
    ):
        assert search(ada, asked).status_code in (200, 400)
