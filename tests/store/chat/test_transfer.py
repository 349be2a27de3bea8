"""Taking conversations along and in, over HTTP: what comes out goes in again, and nothing twice or by half."""

import gzip
import json
import threading
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.chat import removal, repository, schemas
from functions.chat.search import service as search
from functions.chat.search.schemas import SearchQuery
from functions.chat.transfer import importing
from functions.chat.transfer import repository as transfer
from shared import store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.errors import InvalidRequest, Unauthenticated, Unavailable
from shared.events import Event
from shared.identity import accounts
from shared.pages import page
from tests.store.chat.support import User

SAMPLES = Path(__file__).parents[2] / "unit" / "chat" / "imports"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
IMPORT = "/api/v1/conversations/import"


@pytest.fixture
def ada(poor_user):
    return opened(poor_user)


@pytest.fixture
def bob(chat_client, no_limits):
    return opened(User(f"user-{uuid.uuid4().hex}", chat_client))


def opened(user):
    assert user.request("GET", "/api/v1/conversations").status_code == 200, "the first request opens the account"
    return user


def send(user, content, **options):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return user.request("POST", IMPORT, raw, **options)


def take_in(user, content, **options):
    answer = send(user, content, **options)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.json


def sample(name):
    return (SAMPLES / name).read_bytes()


def flat(number, texts, **more):
    """An export of LibreChat."""
    messages = [
        {
            "messageId": f"m{place}",
            "parentMessageId": f"m{place - 1}" if place else None,
            "text": text,
            "isCreatedByUser": place % 2 == 0,
        }
        for place, text in enumerate(texts)
    ]
    return {"conversationId": f"c{number}", "title": f"Number {number}", "messages": messages, **more}


def conversations(user):
    return user.request("GET", "/api/v1/conversations?limit=100").json["items"]


def tree(user, conversation_id):
    """Every text with the one it follows."""
    found: list[dict] = []
    cursor = ""
    while cursor is not None:
        path = f"/api/v1/conversations/{conversation_id}/messages?limit=100" + (f"&cursor={cursor}" if cursor else "")
        page = user.request("GET", path).json
        found, cursor = found + page["items"], page["next_cursor"]
    texts = {
        each["id"]: "\n\n".join(part["text"] for part in each["parts"] if part["type"] == "text") for each in found
    }
    return sorted((texts.get(each["parent_id"]) or "", each["role"], texts[each["id"]]) for each in found)


def messages_stored(uid):
    """Also below conversations that are not there."""
    return len(firestore_client().collection(f"users/{uid}/conversations").recursive().get()) - len(
        firestore_client().collection(f"users/{uid}/conversations").get()
    )


def events_of(uid):
    found = [(each.id, each.to_dict() or {}) for each in firestore_client().collection("events").get()]
    mine = [Event.from_document(name, each) for name, each in found if each["uid"] == uid]
    return [each for each in mine if each.type == "chat.conversations.imported"]


def export(user, conversation_id, kind="json"):
    return user.request("GET", f"/api/v1/conversations/{conversation_id}/export?format={kind}")


# Import


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("chatgpt.json", [4, 1]),
        ("librechat_flat.json", [3]),
        ("librechat_recursive.json", [3]),
        ("open_webui.json", [3]),
        ("claude.json", [2]),
    ],
)
def test_a_file_of_another_product_is_taken_in(ada, name, counts):
    answer = take_in(ada, sample(name))
    assert [each["message_count"] for each in answer["imported"]] == counts
    assert (answer["imported_count"], answer["skipped"], answer["problems"], answer["more"]) == (
        len(counts),
        [],
        [],
        False,
    )
    for each in answer["imported"]:
        assert len(tree(ada, each["conversation_id"])) == each["message_count"]
        kept = ada.request("GET", f"/api/v1/conversations/{each['conversation_id']}").json
        assert (kept["title"], kept["message_count"]) == (each["title"], each["message_count"])


def test_an_imported_conversation_is_like_any_other(ada):
    [made] = take_in(ada, sample("open_webui.json"))["imported"]
    kept = ada.request("GET", f"/api/v1/conversations/{made['conversation_id']}").json
    assert (kept["title"], kept["title_source"], kept["model"], kept["state"]) == ("Soup", "user", "qwen", "archived")
    assert (kept["pinned"], kept["tags"], kept["settings"]["system_prompt"]) == (
        True,
        ["Food", "evening"],
        "You are a cook.",
    )
    assert kept["created_at"] == "2025-01-01T00:00:00Z"
    [message] = [each for each in ada.messages(made["conversation_id"]) if each["id"] == kept["tip"]]
    assert (message["parts"], message["status"]) == ([{"type": "text", "text": "Tomatoes."}], "completed")
    assert message["usage"] is message["credits"] is message["generation_id"] is None


def test_an_imported_conversation_is_gone_on_with(ada, user):
    [made] = take_in(ada, sample("claude.json"))["imported"]
    answer = user.ask(made["conversation_id"], "/say and on")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert ("Old pond", "user", "/say and on") in tree(ada, made["conversation_id"])


def test_imported_messages_and_titles_are_found(ada):
    [made] = take_in(ada, [flat(1, ["Where do zebras sleep?", "Standing, in giraffes' company."])])["imported"]
    for event in events_of(ada.uid):
        importing.index_imported(event, now=utc_now())
        importing.index_imported(event, now=utc_now())
    for asked, count in (("zebras", 1), ("giraffes", 1), ("Number", 1), ("lions", 0)):
        hits = search.search(ada.uid, SearchQuery(q=asked)).items
        assert [hit.conversation_id for hit in hits] == [made["conversation_id"]] * count, asked


def test_what_was_removed_since_is_not_made_searchable(ada):
    [made] = take_in(ada, [flat(1, ["zebras"])])["imported"]
    batch = store.new_batch()
    batch.delete(store.document("users", ada.uid, "conversations", made["conversation_id"]))
    store.commit(batch)
    [event] = events_of(ada.uid)
    importing.index_imported(event, now=utc_now())
    assert search.search(ada.uid, SearchQuery(q="zebras")).items == []


def test_the_same_file_again_takes_in_nothing(ada):
    first = take_in(ada, sample("chatgpt.json"))
    before = messages_stored(ada.uid)
    again = take_in(ada, sample("chatgpt.json"))
    assert (again["imported"], again["skipped_count"]) == ([], 2)
    assert {each["reason"] for each in again["skipped"]} == {"It was imported before."}
    assert messages_stored(ada.uid) == before
    assert len(events_of(ada.uid)) == 1
    assert first["imported_count"] == 2


def test_a_larger_file_takes_in_what_is_new(ada):
    take_in(ada, [flat(1, ["one"])])
    answer = take_in(ada, [flat(1, ["one"]), flat(2, ["two"]), flat(2, ["two"])])
    assert [each["title"] for each in answer["imported"]] == ["Number 2"]
    assert [(each["place"], each["reason"]) for each in answer["skipped"]] == [
        ("[2]", "It is in the file twice."),
        ("[0]", "It was imported before."),
    ]


def test_what_is_still_being_removed_is_not_taken_in_before_it_has_gone(ada, monkeypatch):
    content = [flat(1, ["one", "two"])]
    [made] = take_in(ada, content)["imported"]
    with monkeypatch.context() as dying:
        dying.setattr(removal, "REQUEST_TIME_S", 0.0)
        assert ada.request("DELETE", f"/api/v1/conversations/{made['conversation_id']}").status_code == 204

    early = take_in(ada, content)
    assert [each["reason"] for each in early["skipped"]] == [
        "It is still being removed; send the file again in a minute."
    ]
    removal.sweep(now=utc_now() + timedelta(minutes=2))
    assert messages_stored(ada.uid) == 0

    [again] = take_in(ada, content)["imported"]
    removal.sweep(now=utc_now() + timedelta(minutes=2))
    assert again["conversation_id"] == made["conversation_id"]
    assert messages_stored(ada.uid) == 2


def test_two_users_take_in_the_same_file_apart(ada, bob):
    [mine], [theirs] = (take_in(user, [flat(1, ["one"])])["imported"] for user in (ada, bob))
    assert mine["conversation_id"] != theirs["conversation_id"]
    assert bob.request("GET", f"/api/v1/conversations/{mine['conversation_id']}").status_code == 404


def test_a_crash_before_the_conversation_leaves_nothing_to_see_and_a_repetition_goes_on(ada, monkeypatch):
    commit, commits = store.commit, []

    def dies(batch):
        commits.append(batch)
        if len(commits) == 3:
            raise Unavailable("the process is gone")
        return commit(batch)

    content = [flat(1, [f"text {number}" for number in range(700)])]
    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", dies)
        assert send(ada, content).status_code == 503
    assert messages_stored(ada.uid) > 0
    assert conversations(ada) == []
    assert events_of(ada.uid) == []

    [made] = take_in(ada, content)["imported"]
    assert made["message_count"] == 700 == messages_stored(ada.uid)
    assert len(tree(ada, made["conversation_id"])) == 700


def test_many_who_send_the_same_file_at_once_take_it_in_once(ada, monkeypatch):
    monkeypatch.setattr(importing, "_one_at_a_time", threading.Semaphore(4))
    content = json.dumps([flat(number, ["one", "two"]) for number in range(40)]).encode()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: importing.import_conversations(ada.uid, content, now=utc_now()), range(4)))
    assert sum(answer.imported_count for answer in answers) == 40
    assert all(answer.imported_count + answer.skipped_count == 40 for answer in answers)
    assert len(conversations(ada)) == 40
    assert sum(event.data["conversation_count"] for event in events_of(ada.uid)) == 40
    assert messages_stored(ada.uid) == 80


def test_one_import_at_a_time_is_read(ada, monkeypatch):
    monkeypatch.setattr(importing, "_WAIT_S", 0.01)
    with importing._one_at_a_time:
        refused = send(ada, [flat(1, ["one"])])
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    assert take_in(ada, [flat(1, ["one"])])["imported_count"] == 1


def test_a_request_takes_in_so_many_conversations_and_the_next_goes_on(ada, monkeypatch):
    monkeypatch.setattr(importing, "MAX_CONVERSATIONS", 30)
    content = [flat(number, ["one"]) for number in range(70)]
    answers = [take_in(ada, content) for _ in range(3)]
    assert [(answer["imported_count"], answer["more"]) for answer in answers] == [(30, True), (30, True), (10, False)]
    assert len(conversations(ada)) == 70


def test_a_request_takes_in_so_many_messages_and_the_next_goes_on(ada, monkeypatch):
    monkeypatch.setattr(importing, "MAX_MESSAGES", 5)
    content = [flat(number, ["one", "two"]) for number in range(3)]
    answers = [take_in(ada, content) for _ in range(2)]
    assert [(answer["imported_count"], answer["more"]) for answer in answers] == [(2, True), (1, False)]


def test_a_request_takes_in_no_more_when_its_time_is_over(ada, monkeypatch):
    monkeypatch.setattr(importing, "TIME_S", -1.0)
    answer = take_in(ada, [flat(1, ["one"])])
    assert (answer["imported"], answer["more"]) == ([], True)


def test_an_account_on_its_way_out_takes_in_nothing(ada):
    content = json.dumps([flat(1, ["one"])]).encode()
    firestore_client().collection("users").document(ada.uid).update({"status": "erasing"})
    accounts.forget(ada.uid)
    with pytest.raises(Unauthenticated):
        importing.import_conversations(ada.uid, content, now=utc_now())
    assert messages_stored(ada.uid) == 0


def test_what_cannot_be_read_is_skipped_by_name_and_the_rest_is_taken_in(ada):
    content = [flat(1, ["one"]), {"conversationId": "x", "title": "Broken", "messages": 5}, 7, flat(2, [])]
    answer = take_in(ada, content)
    assert [each["title"] for each in answer["imported"]] == ["Number 1"]
    assert [(each["place"], each["title"]) for each in answer["skipped"]] == [
        ("[1]", "Broken"),
        ("[2]", None),
        ("[3]", "Number 2"),
    ]


def test_problems_are_told_by_their_place(ada):
    content = [{"mapping": {"a": {"message": {"author": {"role": "user"}, "content": {"parts": [5, "hi"]}}}}}]
    answer = take_in(ada, content)
    assert answer["problems"] == [
        {"place": "[0].mapping.a.message.content.parts[0]", "message": "is no text; it is left out"}
    ]
    assert answer["problem_count"] == 1


def test_lists_of_the_answer_are_bounded(ada):
    answer = take_in(ada, [flat(1, ["one"]), *[{"mapping": 5}] * 300])
    assert (len(answer["skipped"]), answer["skipped_count"]) == (100, 300)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"PK\x03\x04",
        b"[NaN]",
        b'[{"mapping": {}, "create_time": Infinity}]',
        b"[]",
        b"{}",
        b"null",
        b"5",
        b'[{"title": "x"}]',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"messagesTree":[' * 100_000 + b"]}" * 100_000,
        b"\xff",
        b'[{"title": "\xed\xa0\xbd"}]',
    ],
    ids=lambda raw: f"{raw[:20]!r} {len(raw)}",
)
def test_what_is_no_such_file_is_refused(ada, raw):
    refused = send(ada, raw)
    assert refused.status_code == 400
    assert refused.json["errors"][0]["field"] == "body"
    assert conversations(ada) == []


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}], ids=["unsaid", "said"])
def test_a_file_that_is_packed_is_not_unpacked_however_much_it_would_be(ada, headers):
    packed = gzip.compress(b" " * 50_000_000, compresslevel=1, mtime=0)
    tracemalloc.start()
    try:
        refused = send(ada, packed, headers=headers)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.status_code == 400
    assert "gzip archive: unpack it" in refused.json["detail"]
    assert most_bytes < 20_000_000


def test_a_file_of_two_hundred_megabytes_is_refused_unread_with_how_to_split_it(ada):
    refused = send(ada, b"[", environ_overrides={"CONTENT_LENGTH": str(200 * 1024 * 1024)})
    assert (refused.status_code, refused.json["code"]) == (413, "payload_too_large")
    assert "send it in several parts" in refused.json["detail"]


def test_of_what_a_file_says_twice_the_last_counts(ada):
    first, last = json.dumps(flat(1, ["first"])), json.dumps(flat(1, ["last", "word"], title="Twice"))
    [made] = take_in(ada, f"{first[:-1]},{last[1:]}".encode())["imported"]
    assert (made["title"], made["message_count"]) == ("Twice", 2)
    assert tree(ada, made["conversation_id"]) == [("", "user", "last"), ("last", "assistant", "word")]


def test_half_a_character_is_marked_or_left_out_wherever_it_stands(ada):
    half = "half \ud83d"
    messages = [{"messageId": half, "text": half, "isCreatedByUser": True, "model": half}]
    content = {"conversationId": half, "title": half, "tags": [half], "messages": messages, "options": {half: half}}
    [made] = take_in(ada, [content])["imported"]
    assert made["title"] == "half"
    assert tree(ada, made["conversation_id"]) == [("", "user", "half \ufffd")]
    assert take_in(ada, [content])["skipped_count"] == 1


def test_numbers_beyond_all_measure_are_no_times(ada):
    content = json.dumps(flat(1, ["one"], createdAt=0, updatedAt=1)).replace('"createdAt": 0', '"createdAt": 1e999')
    [made] = take_in(ada, content.encode())["imported"]
    shown = ada.request("GET", f"/api/v1/conversations/{made['conversation_id']}").json
    assert abs(datetime.fromisoformat(shown["created_at"]) - utc_now()) < timedelta(minutes=1)


def test_a_deeply_nested_branch_is_taken_in(ada):
    depth = 150
    children: list[dict] = []
    for place in reversed(range(depth)):
        children = [{"messageId": f"m{place}", "text": "one", "isCreatedByUser": True, "children": children}]
    [made] = take_in(ada, {"conversationId": "deep", "title": "Deep", "messagesTree": children})["imported"]
    assert made["message_count"] == depth


def test_a_file_that_is_too_large_is_refused_with_how_to_split_it(ada):
    refused = send(ada, b" " * (16 * 1024 * 1024 + 1))
    assert (refused.status_code, refused.json["code"]) == (413, "payload_too_large")
    assert "send it in several parts" in refused.json["detail"]


def test_the_same_request_with_its_key_gets_the_same_answer(ada):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = take_in(ada, [flat(1, ["one"])], headers=headers)
    again = send(ada, [flat(1, ["one"])], headers=headers)
    assert again.json == first
    assert again.headers["Idempotency-Replayed"] == "true"


# Export


def write(uid, messages, **conversation):
    conversation_id = f"conv_{uuid.uuid4().hex}"
    batch = store.new_batch()
    for place, message in enumerate(messages):
        shown = {"status": "completed", "created_at": START + timedelta(seconds=place), **message}
        stored = schemas.Message.model_validate(shown).to_document()
        batch.set(store.document("users", uid, "conversations", conversation_id, "messages", shown["id"]), stored)
    made = {"id": conversation_id, "title": "Köln & more", "message_count": len(messages), **conversation}
    kept = schemas.Conversation.model_validate({"created_at": START, "updated_at": START, **made})
    repository.create_conversation(batch, uid, kept)
    store.commit(batch)
    return conversation_id


RICH = (
    {
        "id": "msg_0",
        "role": "user",
        "parts": [
            {"type": "text", "text": "Show me"},
            {"type": "image", "upload_id": "upl_secret", "name": "a.png", "content_type": "image/png", "size_bytes": 9},
        ],
    },
    {
        "id": "msg_1",
        "parent_id": "msg_0",
        "role": "assistant",
        "model": "acme/one",
        "parts": [
            {"type": "reasoning", "text": "hm"},
            {"type": "text", "text": "```python\n# not a title\nprint('x')\n```"},
            {"type": "citation", "url": "https://example.com/a b", "title": "An [example]", "start": 0, "end": 5},
            {"type": "citation", "url": "javascript:alert(1)", "title": "Bad"},
        ],
        "credits": {"charged_micro": 5, "credits": "0.000005", "pending": False},
    },
    {"id": "msg_2", "parent_id": "msg_0", "role": "assistant", "parts": [{"type": "text", "text": "Another branch"}]},
)


def test_a_conversation_leaves_as_json_with_everything_in_it(ada):
    prompt = schemas.ConversationSettings(system_prompt="Be kind.", temperature=0.5)
    conversation_id = write(ada.uid, RICH, tip="msg_1", settings=prompt, tags=["a"])
    answer = export(ada, conversation_id)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"K-ln-more.json\"; filename*=UTF-8''K%C3%B6ln%20%26%20more.json"
    )
    exported = json.loads(answer.get_data())
    assert (exported["format"], exported["version"]) == ("craftpilot.conversation", 1)
    assert exported["conversation"] | {"tags": ["a"], "folder": None} == exported["conversation"]
    assert exported["conversation"]["settings"] == {"system_prompt": "Be kind.", "temperature": 0.5}
    assert [each["id"] for each in exported["messages"]] == ["msg_0", "msg_1", "msg_2"]
    assert exported["messages"][1]["credits"]["charged_micro"] == 5
    assert exported["messages"][0]["parts"][1] == {
        "type": "image",
        "name": "a.png",
        "content_type": "image/png",
        "size_bytes": 9,
    }
    assert "upl_secret" not in json.dumps(exported)


def test_the_name_of_the_folder_leaves_with_its_conversations(ada):
    folder = ada.request("POST", "/api/v1/folders", {"name": "Kitchen"}).json["id"]
    conversation_id = ada.request("POST", "/api/v1/conversations", {"folder_id": folder}).json["id"]
    assert json.loads(export(ada, conversation_id).get_data())["conversation"]["folder"] == "Kitchen"


def test_a_conversation_leaves_as_markdown_to_be_read(ada):
    text = export(ada, write(ada.uid, RICH, tip="msg_1"), "markdown").get_data(as_text=True)
    head, _, rest = text.partition("\n\n")
    assert head == "# Köln & more"
    assert rest.split("\n", 1)[1] == (
        "\n## You · 2026-03-01 12:00 UTC\n\nShow me\n\n- Attached: a.png (image/png)\n"
        "\n## Assistant · acme/one · 2026-03-01 12:00 UTC\n\n```python\n# not a title\nprint('x')\n```\n"
        "\nSources:\n\n1. [An \\[example\\]](<https://example.com/ab>)\n2. Bad\n"
    )


def test_everything_leaves_as_one_file_that_can_be_taken_in_again(ada, bob):
    for number in range(55):
        write(ada.uid, RICH[:2], tip="msg_1", title=f"Number {number}")
    answer = ada.request("GET", "/api/v1/conversations/export")
    exported = json.loads(answer.get_data())
    assert exported["format"] == "craftpilot.conversations"
    assert len(exported["conversations"]) == 55
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="conversations-')
    taken = take_in(bob, answer.get_data())
    assert {each["title"] for each in taken["imported"]} == {f"Number {number}" for number in range(55)}
    assert taken["problems"] == []


def test_nothing_at_all_leaves_as_a_file_too(ada):
    assert json.loads(ada.request("GET", "/api/v1/conversations/export").get_data())["conversations"] == []
    empty = export(ada, write(ada.uid, []))
    assert json.loads(empty.get_data())["messages"] == []
    assert "# Köln" in export(ada, write(ada.uid, []), "markdown").get_data(as_text=True)


def test_nobody_takes_along_what_is_somebody_elses(ada, bob):
    conversation_id = write(ada.uid, RICH, tip="msg_1")
    assert export(bob, conversation_id).status_code == 404
    assert json.loads(bob.request("GET", "/api/v1/conversations/export").get_data())["conversations"] == []


@pytest.mark.parametrize("path", ["{id}/export?format=pdf", "export?format=markdown"])
def test_a_format_that_there_is_not_is_refused(ada, path):
    asked = path.format(id=write(ada.uid, RICH))
    assert ada.request("GET", f"/api/v1/conversations/{asked}").status_code == 400


def test_an_export_that_breaks_off_is_no_valid_file(ada, monkeypatch):
    conversation_id = write(ada.uid, [{**RICH[2], "id": f"msg_{n}", "parent_id": None} for n in range(120)])
    pages: list[object] = []

    def breaks_off(*args, **options):
        pages.append(args)
        if len(pages) == 2:
            raise Unavailable("the database is gone")
        return page(*args, **options)

    monkeypatch.setattr(transfer, "page", breaks_off)
    with pytest.raises(Unavailable):
        export(ada, conversation_id).get_data()


# Anything

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
TREES = st.lists(st.tuples(TEXTS, st.integers(0, 100), st.sampled_from(["user", "assistant"])), min_size=1, max_size=12)


@given(TREES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_leaves_and_comes_in_elsewhere_is_the_same_tree_of_texts(ada, bob, nodes):
    messages = [
        {
            "id": f"msg_{n}",
            "role": role,
            "parts": [{"type": "text", "text": f"{n} {text}"}],
            "parent_id": f"msg_{parent % n}" if n and parent % 7 else None,
        }
        for n, (text, parent, role) in enumerate(nodes)
    ]
    original = write(ada.uid, messages, tip=f"msg_{len(nodes) - 1}")
    [taken] = take_in(bob, export(ada, original).get_data())["imported"]
    assert tree(bob, taken["conversation_id"]) == tree(ada, original)
    [again] = take_in(ada, export(bob, taken["conversation_id"]).get_data())["imported"]
    assert tree(ada, again["conversation_id"]) == tree(ada, original)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["mapping", "messages", "chat", "conversationId", "text", "messageId", "message", "content", "a"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(ANY_JSON | st.binary(max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_is_taken_in_or_refused(ada, content):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    try:
        answer = importing.import_conversations(ada.uid, raw, now=utc_now())
    except InvalidRequest:
        return
    answer.model_dump_json()
