"""Sharing a conversation over HTTP: what others see, what stays private, and what is left when it ends."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from functions.chat import holdings as chat
from functions.chat import repository, schemas
from functions.chat.domain import ConversationState
from functions.chat.sharing import repository as shares
from functions.chat.sharing import service
from functions.chat.sharing.domain import MAX_REVISIONS, TOKEN
from functions.privacy import repository as privacy
from shared import store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.holdings import Documents
from shared.identity import accounts, secret_text
from shared.limits.policies import FAILED_LINKS
from tests.store.chat.support import User

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def client(chat_client):
    return chat_client


@pytest.fixture
def owner(poor_user):
    assert poor_user.request("GET", "/api/v1/conversations").status_code == 200, "the first request opens the account"
    return poor_user


@pytest.fixture
def stranger(chat_client, no_limits):
    somebody = User(f"user-{uuid.uuid4().hex}", chat_client)
    assert somebody.request("GET", "/api/v1/conversations").status_code == 200, "the first request opens the account"
    return somebody


def said(number, text=None, **more):
    role = "assistant" if number % 2 else "user"
    return {"id": f"msg_{number}", "role": role, "parts": [{"type": "text", "text": text or f"text {number}"}], **more}


def write(uid, messages, **conversation):
    """A conversation with these messages, each following the one before it unless it says otherwise."""
    conversation_id = f"conv_{uuid.uuid4().hex}"
    before = None
    for start in range(0, len(messages), 400):
        batch = store.new_batch()
        for place, message in enumerate(messages[start : start + 400], start=start):
            shown = {
                "parent_id": before,
                "status": "completed",
                "created_at": START + timedelta(seconds=place),
                **message,
            }
            before = shown["id"]
            stored = schemas.Message.model_validate(shown).to_document()
            batch.set(store.document("users", uid, "conversations", conversation_id, "messages", before), stored)
        store.commit(batch)
    batch = store.new_batch()
    made = {"id": conversation_id, "title": "Blue skies", "tip": before, "message_count": len(messages), **conversation}
    kept = schemas.Conversation.model_validate({"created_at": START, "updated_at": START, **made})
    repository.create_conversation(batch, uid, kept)
    store.commit(batch)
    return conversation_id


def path_of(conversation_id):
    return f"/api/v1/conversations/{conversation_id}/share"


def share(user, conversation_id, **body):
    answer = user.request("POST", path_of(conversation_id), body)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.json


def read(client, token, address=None, **query):
    """As anyone reads it: without any credentials."""
    headers = {"X-Forwarded-For": address} if address else {}
    return client.get(f"/api/v1/shared/{token}", query_string=query, headers=headers)


def texts(page):
    return [part["text"] for item in page["items"] for part in item["parts"]]


def documents_of(uid, collection):
    found = firestore_client().collection(collection).get()
    return [each for each in found if each.get("uid") == uid]


def events_of(uid):
    found = [each for each in documents_of(uid, "events") if each.get("type").startswith("chat.conversation.")]
    return sorted((each.get("type"), json.dumps(each.get("data"), sort_keys=True)) for each in found)


def test_whoever_has_the_link_reads_the_branch_as_it_was(owner, client):
    conversation_id = write(owner.uid, [said(0), said(1, model="acme/one")])
    shared = share(owner, conversation_id)
    assert shared["url_path"] == f"/api/v1/shared/{shared['token']}"
    assert (shared["revision"], shared["message_count"], shared["title"]) == (1, 2, "Blue skies")

    answer = read(client, shared["token"])
    assert answer.status_code == 200
    assert answer.json["title"] == "Blue skies"
    assert answer.json["items"] == [
        {
            "role": "user",
            "parts": [{"type": "text", "text": "text 0"}],
            "model": None,
            "created_at": "2026-03-01T12:00:00Z",
        },
        {
            "role": "assistant",
            "parts": [{"type": "text", "text": "text 1"}],
            "model": "acme/one",
            "created_at": "2026-03-01T12:00:01Z",
        },
    ]
    assert answer.json["next_cursor"] is None
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"


def test_nothing_of_the_owner_is_told(owner, client):
    usage = {"prompt_tokens": 11111, "completion_tokens": 22222, "reasoning_tokens": 0, "cached_tokens": 0}
    charge = {"charged_micro": 33333, "credits": "0.033333", "pending": False}
    parts = [
        {"type": "reasoning", "text": "private thought"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_call", "id": "call_1", "name": "secret_tool", "arguments": '{"secret": 1}'},
        {
            "type": "file",
            "upload_id": "upl_private",
            "name": "plan.pdf",
            "content_type": "application/pdf",
            "size_bytes": 1,
        },
    ]
    messages = [
        said(0),
        {**said(1), "parts": parts, "usage": usage, "credits": charge, "generation_id": "gen_private"},
        {
            "id": "msg_2",
            "role": "tool",
            "parts": [{"type": "tool_result", "tool_call_id": "call_1", "text": "private result"}],
        },
        said(3),
    ]
    prompt = schemas.ConversationSettings(system_prompt="private prompt")
    conversation_id = write(owner.uid, messages, settings=prompt)
    told = read(client, share(owner, conversation_id)["token"]).get_data(as_text=True)
    for private in (owner.uid, conversation_id, "private", "secret", "11111", "22222", "33333", "msg_", "call_"):
        assert private not in told
    assert "plan.pdf" in told


def test_only_the_branch_is_shown(owner, client):
    messages = [said(0), said(1), {**said(3, "another answer"), "parent_id": "msg_0"}]
    conversation_id = write(owner.uid, messages, tip="msg_1")
    token = share(owner, conversation_id)["token"]
    assert texts(read(client, token).json) == ["text 0", "text 1"]
    assert share(owner, conversation_id, message_id="msg_3")["token"] == token
    assert texts(read(client, token).json) == ["text 0", "another answer"]


def test_what_is_written_later_stays_private_until_it_is_shared_again(owner, client):
    conversation_id = write(owner.uid, [said(0), said(1), said(2)], tip="msg_1")
    first = share(owner, conversation_id, title="First")
    batch = store.new_batch()
    repository.change_conversation(batch, owner.uid, conversation_id, {"tip": "msg_2", "title": "Secret plans"})
    store.commit(batch)
    page = read(client, first["token"]).json
    assert (texts(page), page["title"]) == (["text 0", "text 1"], "First")

    second = share(owner, conversation_id)
    assert (second["token"], second["revision"]) == (first["token"], 2)
    assert texts(read(client, first["token"]).json) == ["text 0", "text 1", "text 2"]


def test_earlier_revisions_stay_readable_by_their_number(owner, client):
    conversation_id = write(owner.uid, [said(0), said(1)])
    token = share(owner, conversation_id, message_id="msg_0", title="Short")["token"]
    share(owner, conversation_id)
    page = read(client, token).json
    assert [(each["revision"], each["title"], each["message_count"]) for each in page["revisions"]] == [
        (1, "Short", 1),
        (2, "Blue skies", 2),
    ]
    assert texts(read(client, token, revision=1).json) == ["text 0"]
    assert read(client, token, revision=3).status_code == 404


def test_the_oldest_revisions_are_forgotten(owner, client):
    conversation_id = write(owner.uid, [said(0)])
    for _ in range(MAX_REVISIONS + 2):
        token = share(owner, conversation_id)["token"]
    numbers = [each["revision"] for each in read(client, token).json["revisions"]]
    assert numbers == list(range(3, MAX_REVISIONS + 3))
    assert read(client, token, revision=2).status_code == 404
    assert len(documents_of(owner.uid, "share_pages")) == MAX_REVISIONS


def test_pages_are_read_one_after_the_other_also_when_a_new_revision_comes_between(owner, client):
    conversation_id = write(owner.uid, [said(number) for number in range(7)])
    token = share(owner, conversation_id)["token"]
    first = read(client, token, limit=3).json
    share(owner, conversation_id, message_id="msg_0")
    second = read(client, token, limit=3, cursor=first["next_cursor"]).json
    third = read(client, token, limit=3, cursor=second["next_cursor"]).json
    assert texts(first) + texts(second) + texts(third) == [f"text {number}" for number in range(7)]
    assert third["next_cursor"] is None
    assert (first["revisions"] is None, second["revisions"]) == (False, None)
    assert read(client, token, revision=2, cursor=first["next_cursor"]).status_code == 400


@pytest.mark.parametrize("cursor", ["", "x", "1-7", "1-999999", "9-1", "1-0"])
def test_a_made_up_cursor_is_refused(owner, client, cursor):
    token = share(owner, write(owner.uid, [said(number) for number in range(7)]))["token"]
    assert read(client, token, cursor=cursor).status_code in (400, 404)


def test_a_long_conversation_is_stored_in_pieces_and_read_whole(owner, client):
    conversation_id = write(owner.uid, [said(number, f"{number} " + "x" * 20_000) for number in range(60)])
    token = share(owner, conversation_id)["token"]
    assert len(documents_of(owner.uid, "share_pages")) == 3
    found, cursor = [], None
    while True:
        page = read(client, token, limit=100, **({"cursor": cursor} if cursor else {})).json
        found += [text.split()[0] for text in texts(page)]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == [str(number) for number in range(60)]


def test_more_than_two_thousand_messages_cannot_be_shared_and_a_part_of_them_can(owner, client):
    conversation_id = write(owner.uid, [said(number) for number in range(2_001)])
    refused = owner.request("POST", path_of(conversation_id), {})
    assert (refused.status_code, "2000 messages" in refused.json["detail"]) == (400, True)
    assert share(owner, conversation_id, message_id="msg_1999")["message_count"] == 2_000
    assert owner.request("GET", path_of(conversation_id)).json["message_count"] == 2_000


def test_what_was_too_large_leaves_nothing(owner):
    parts = [{"type": "text", "text": "\x01" * 200_000}]
    conversation_id = write(owner.uid, [*[said(n, "x" * 300_000) for n in range(3)], {**said(3), "parts": parts}])
    assert owner.request("POST", path_of(conversation_id), {}).status_code == 400
    assert documents_of(owner.uid, "share_pages") == []


def test_the_owner_finds_the_link_again_and_nobody_else(owner, stranger):
    conversation_id = write(owner.uid, [said(0)])
    assert owner.request("GET", path_of(conversation_id)).status_code == 404
    shared = share(owner, conversation_id)
    assert owner.request("GET", path_of(conversation_id)).json == shared
    kept = owner.request("GET", f"/api/v1/conversations/{conversation_id}").json["share"]
    assert (kept["token"], kept["revision"]) == (shared["token"], 1)
    for method, body in (("GET", None), ("POST", {}), ("DELETE", None)):
        assert stranger.request(method, path_of(conversation_id), body).status_code == 404
    assert owner.request("GET", path_of(conversation_id)).json == shared


def test_a_withdrawn_link_is_dead_at_once_and_for_good(owner, client):
    conversation_id = write(owner.uid, [said(0)])
    dead = share(owner, conversation_id)["token"]
    assert owner.request("DELETE", path_of(conversation_id)).status_code == 204
    assert read(client, dead).status_code == 404
    assert owner.request("GET", path_of(conversation_id)).status_code == 404
    assert documents_of(owner.uid, "shares") == documents_of(owner.uid, "share_pages") == []
    assert owner.request("DELETE", path_of(conversation_id)).status_code == 204, "again is nothing"

    alive = share(owner, conversation_id)
    assert alive["token"] != dead
    assert alive["revision"] == 1
    assert read(client, dead).status_code == 404
    assert [kind for kind, _ in events_of(owner.uid)] == [
        "chat.conversation.shared",
        "chat.conversation.shared",
        "chat.conversation.unshared",
    ]


def test_no_event_tells_the_token(owner):
    conversation_id = write(owner.uid, [said(0)])
    token = share(owner, conversation_id)["token"]
    told = events_of(owner.uid)
    expected = {"conversation_id": conversation_id, "message_count": 1, "revision": 1}
    assert told == [("chat.conversation.shared", json.dumps(expected))]
    assert token not in json.dumps(told)


def test_a_token_is_not_stored_where_it_is_looked_up(owner):
    token = share(owner, write(owner.uid, [said(0)]))["token"]
    [document] = documents_of(owner.uid, "shares")
    assert document.id == secret_text.digest(token)
    assert token not in json.dumps(document.to_dict(), default=str)


def test_an_empty_conversation_cannot_be_shared(owner):
    assert owner.request("POST", path_of(write(owner.uid, [])), {}).status_code == 400
    only_tools = [{"id": "msg_0", "role": "tool", "parts": [{"type": "tool_result", "tool_call_id": "c", "text": "x"}]}]
    assert owner.request("POST", path_of(write(owner.uid, only_tools)), {}).status_code == 400
    assert documents_of(owner.uid, "shares") == []


def test_a_temporary_chat_cannot_be_shared(owner):
    conversation_id = write(owner.uid, [said(0)], state=ConversationState.TEMPORARY)
    assert owner.request("POST", path_of(conversation_id), {}).status_code == 409


@pytest.mark.parametrize("body", [{"message_id": "msg_9"}, {"message_id": "../x"}, {"title": ""}, {"titel": "x"}, []])
def test_a_bad_wish_is_refused(owner, body):
    assert owner.request("POST", path_of(write(owner.uid, [said(0)])), body).status_code == 400
    assert documents_of(owner.uid, "shares") == []


def test_a_message_of_another_conversation_cannot_be_shown(owner, stranger):
    write(stranger.uid, [said(0, "a secret")])
    other = write(owner.uid, [{**said(5, "mine"), "id": "msg_other"}])
    assert owner.request("POST", path_of(other), {"message_id": "msg_0"}).status_code == 400


def test_the_same_request_again_makes_no_second_revision(owner):
    conversation_id = write(owner.uid, [said(0)])

    def act(snapshot):
        return service.share(owner.uid, conversation_id, message_id=None, title=None, snapshot=snapshot, now=utc_now())

    first = act(f"snap_{conversation_id}_1")
    assert act(f"snap_{conversation_id}_1") == first
    assert act(f"snap_{conversation_id}_2").revision == 2


def test_many_who_share_at_once_get_one_link_and_all_their_revisions(owner, client):
    conversation_id = write(owner.uid, [said(0), said(1)])

    def act(number):
        return service.share(
            owner.uid,
            conversation_id,
            message_id=None,
            title=None,
            snapshot=f"snap_{conversation_id}_{number}",
            now=utc_now(),
        )

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(act, range(4)))
    assert len({each.token for each in made}) == 1
    assert sorted(each.revision for each in made) == [1, 2, 3, 4]
    for number in range(1, 5):
        assert texts(read(client, made[0].token, revision=number).json) == ["text 0", "text 1"]
    assert len(documents_of(owner.uid, "shares")) == 1


def test_sharing_and_withdrawing_at_once_leave_no_link_that_nobody_knows_of(owner, client):
    for _ in range(5):
        conversation_id = write(owner.uid, [said(0)])
        share(owner, conversation_id)
        ready = threading.Barrier(2)

        def again(conversation_id=conversation_id, ready=ready):
            ready.wait()
            return service.share(
                owner.uid,
                conversation_id,
                message_id=None,
                title=None,
                snapshot=f"snap_{uuid.uuid4().hex}",
                now=utc_now(),
            )

        def withdraw(conversation_id=conversation_id, ready=ready):
            ready.wait()
            service.unshare(owner.uid, conversation_id, now=utc_now())

        with ThreadPoolExecutor(2) as pool:
            made, _ = pool.submit(again), pool.submit(withdraw).result()
            token = made.result().token
        conversation = repository.find_conversation(owner.uid, conversation_id)
        assert conversation is not None
        known = conversation.share
        of_it = [each for each in documents_of(owner.uid, "shares") if each.get("conversation_id") == conversation_id]
        assert [each.id for each in of_it] == ([secret_text.digest(known.token)] if known else [])
        assert read(client, token).status_code == (200 if known and known.token == token else 404)


def test_a_turn_that_comes_between_does_not_hinder_sharing(owner, monkeypatch):
    conversation_id = write(owner.uid, [said(0)])
    publish = service._publish
    disturbed: list[object] = []

    def disturb(*args):
        if not disturbed:
            found = shares.find_conversation

            def stale(uid, conversation_id):
                conversation = found(uid, conversation_id)
                batch = store.new_batch()
                repository.change_conversation(batch, uid, conversation_id, {"updated_at": utc_now()})
                disturbed.append(store.commit(batch))
                return conversation

            with monkeypatch.context() as patched:
                patched.setattr(shares, "find_conversation", stale)
                return publish(*args)
        return publish(*args)

    monkeypatch.setattr(service, "_publish", disturb)
    assert share(owner, conversation_id)["revision"] == 1
    assert disturbed


def test_what_is_shown_goes_with_its_conversation(owner, client):
    conversation_id, other = write(owner.uid, [said(0)]), write(owner.uid, [said(0)])
    token, kept = share(owner, conversation_id)["token"], share(owner, other)["token"]
    service.remove_of(owner.uid, conversation_id)
    assert read(client, token).status_code == 404
    assert read(client, kept).status_code == 200
    assert len(documents_of(owner.uid, "share_pages")) == 1


def test_the_erasure_of_an_account_finds_all_that_is_shown_of_it(owner, stranger, client):
    share(owner, write(owner.uid, [said(number, "x" * 20_000) for number in range(60)]))
    kept = share(stranger, write(stranger.uid, [said(0)]))["token"]
    shown = [each for each in chat.HOLDINGS if isinstance(each, Documents) and each.path in ("shares", "share_pages")]
    assert [privacy.count_documents(each, owner.uid) for each in shown] == [1, 3]
    for each in shown:
        while found := privacy.next_references(each, owner.uid):
            privacy.delete_documents(found)
    assert documents_of(owner.uid, "shares") == documents_of(owner.uid, "share_pages") == []
    assert texts(read(client, kept).json) == ["text 0"]


@pytest.mark.parametrize("status", ["suspended", "erasing"])
def test_nothing_is_shown_of_an_account_that_is_cut_off(owner, client, status):
    token = share(owner, write(owner.uid, [said(0)]))["token"]
    firestore_client().collection("users").document(owner.uid).update({"status": status})
    accounts.forget(owner.uid)
    assert read(client, token).status_code == 404


def test_nothing_is_shown_of_an_account_that_is_gone(owner, client):
    token = share(owner, write(owner.uid, [said(0)]))["token"]
    firestore_client().collection("users").document(owner.uid).delete()
    accounts.forget(owner.uid)
    assert read(client, token).status_code == 404


def test_a_made_up_token_costs_no_look_at_the_database(client, monkeypatch, no_limits):
    monkeypatch.setattr(shares, "find_share", lambda token: pytest.fail(f"looked up {token}"))
    for token in ("x", TOKEN.new()[:-1] + "_", "cp_live_" + "0" * 38, "a" * 128):
        assert read(client, token).status_code == 404


def test_an_address_that_guesses_is_stopped_and_others_are_not(owner, client):
    token = share(owner, write(owner.uid, [said(0)]))["token"]
    guesser = f"203.0.{uuid.uuid4().int % 256}.{uuid.uuid4().int % 256}"
    # Exact counts are for the unit tests: here a busy machine may keep Redis from answering in time.
    statuses = [404]
    while statuses[-1] == 404 and len(statuses) < 5 * FAILED_LINKS.quota:
        statuses.append(read(client, TOKEN.new(), guesser).status_code)
    assert statuses[-1] == 429
    refused = read(client, token, guesser)
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
    assert read(client, token, "198.51.100.200").status_code == 200
