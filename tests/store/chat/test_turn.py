"""The chat turn from the request to what is stored, and every way it can fail."""

import json
import time
from decimal import Decimal

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.chat import repository, service, turn
from functions.models.domain import DEFAULT_MODEL
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.openrouter import OpenRouter, Timeouts
from shared.settings import settings
from tests.store.chat.support import User, events_of, give, id_token, usage_record

FLAT_RATE = "craftpilot/flat-rate"


def told_events(user):
    mine = FieldFilter("uid", "==", user.uid)
    return firestore_client().collection("events").where(filter=mine).stream()


def text_of(message: dict) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def test_an_answer_is_stored_paid_for_and_told_of(user, standin):
    conversation = user.conversation()
    answer = user.ask(conversation, "/say Merhaba dünya 🌍").json
    assert text_of(answer["message"]) == "Merhaba dünya 🌍"
    assert answer["message"]["parent_id"] == answer["user_message"]["id"]
    stored = user.messages(conversation)
    assert [message["id"] for message in stored] == [answer["user_message"]["id"], answer["message"]["id"]]

    record = usage_record(answer["generation_id"])
    upstream = standin.asked()[-1]
    assert record["cost_pico_usd"] == int(Decimal(str(upstream["cost"])) * 10**12)
    assert answer["credits"]["charged_micro"] == -(-record["cost_pico_usd"] * 120 // 100_000)
    assert user.balance().available_micro == 1000 * 10**6 - answer["credits"]["charged_micro"]
    user.assert_money_is_in_order()

    told = [event.to_dict() for event in told_events(user)]
    assert {event["type"] for event in told} == {
        "user.registered",
        "credits.granted",
        "chat.conversation.created",
        "chat.message.completed",
    }


def test_a_streamed_answer_has_the_same_text_as_the_stored_one(user):
    conversation = user.conversation()
    response = user.ask(conversation, "What is a quokka?", stream=True)
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    frames = events_of(response)
    streamed = "".join(frame["delta"] for frame in frames[:-1] if frame["type"] == "text-delta")
    assert frames[-1] == "[DONE]"
    assert frames[-2]["type"] == "finish"
    assert streamed == text_of(user.messages(conversation)[-1])
    user.assert_money_is_in_order()


def test_the_conversation_goes_along_with_the_next_question(user, standin):
    conversation = user.conversation()
    first = user.ask(conversation, "/say The code word is heron.").json
    user.ask(conversation, "What was the code word?")
    sent = standin.asked()[-1]["body"]["messages"]
    assert [message["content"] for message in sent] == [
        "/say The code word is heron.",
        "The code word is heron.",
        "What was the code word?",
    ]
    aside = user.ask(conversation, "And now?", parent_id=first["message"]["id"]).json
    assert aside["user_message"]["parent_id"] == first["message"]["id"]
    sent = standin.asked()[-1]["body"]["messages"]
    assert [message["content"] for message in sent][-1] == "And now?"
    assert len(sent) == 3


def test_reasoning_is_kept_apart_from_the_text(user, standin):
    standin.fault(reasoning=True)
    conversation = user.conversation()
    message = user.ask(conversation, "/say Done.").json["message"]
    kinds = [part["type"] for part in message["parts"]]
    assert kinds == ["reasoning", "text"]
    assert text_of(message) == "Done."


# What the provider can answer instead of 200. Nothing is charged, nothing held, nothing kept.
UPSTREAM_REFUSALS = {
    "400": (400, "upstream_rejected"),
    "401": (502, "upstream_failed"),
    "402": (503, "unavailable"),
    "403": (400, "upstream_rejected"),
    "404": (400, "upstream_rejected"),
    "408": (504, "upstream_timeout"),
    "413": (400, "upstream_rejected"),
    "422": (400, "upstream_rejected"),
    "429": (503, "upstream_busy"),
    "500": (502, "upstream_failed"),
    "502": (502, "upstream_failed"),
    "503": (503, "upstream_busy"),
    "524": (504, "upstream_timeout"),
    "529": (503, "upstream_busy"),
}


# What may be over in a moment is asked for again; what the request or our account is at fault for is not.
PASSING_REFUSALS = {"408", "429", "500", "502", "503", "524", "529"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("upstream_status", sorted(UPSTREAM_REFUSALS))
def test_a_refusal_of_the_provider_costs_nothing_and_leaves_nothing(user, standin, upstream_status, stream):
    standin.fault(times=10, status=upstream_status, retry_after=1)
    conversation = user.conversation()
    response = user.ask(conversation, "Hello", stream=stream, model=DEFAULT_MODEL)
    status, code = UPSTREAM_REFUSALS[upstream_status]
    assert (response.status_code, response.json["code"]) == (status, code)
    assert response.json["trace_id"] == response.headers["X-Request-Id"]
    assert "sk-or" not in response.get_data(as_text=True)
    assert len(standin.asked()) == (3 if upstream_status in PASSING_REFUSALS else 1)
    assert user.messages(conversation) == []
    assert user.balance().available_micro == 1000 * 10**6
    user.assert_money_is_in_order()
    if code == "upstream_busy":
        assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "asked",
    [
        ("", {"content": "Hello"}, "content"),
        ("/{question}/edit", {"content": "Hello"}, "content"),
        ("/{answer}/regenerate", {}, "model"),
        ("/{answer}/continue", {}, "model"),
    ],
    ids=["asked", "edited", "regenerated", "continued"],
)
def test_what_the_model_cannot_read_is_named_costs_nothing_and_leaves_nothing(user, standin, asked, stream):
    way, body, field = asked
    conversation = user.conversation()
    said = user.ask(conversation, "/say Hello").json
    before, messages = user.balance().available_micro, user.messages(conversation)
    standin.fault(context_overflow=True)

    path = f"/api/v1/conversations/{conversation}/messages{way}"
    path = path.format(question=said["user_message"]["id"], answer=said["message"]["id"])
    refused = user.request("POST", path, {**body, "stream": stream})

    assert (refused.status_code, refused.json["error_type"]) == (400, "context_length_exceeded")
    assert [error["field"] for error in refused.json["errors"]] == [field]
    assert "shorten the message" in refused.json["detail"]
    assert user.messages(conversation) == messages
    assert user.balance().available_micro == before
    user.assert_money_is_in_order()


@pytest.mark.parametrize("fault", [{"reset": True}, {"truncated_json": "body"}, {"error_200": "body"}])
def test_a_broken_connection_leaves_nothing(user, standin, fault):
    standin.fault(times=10, **fault)  # what breaks unanswered is asked again
    conversation = user.conversation()
    response = user.ask(conversation, "Hello")
    assert response.status_code == 502
    assert user.messages(conversation) == []
    user.assert_money_is_in_order()


# The shapes of a failure after HTTP 200: none of them may look like success.
MID_STREAM_FAILURES = [
    {"stream_error_a": 2},
    {"stream_error_b": 2},
    {"stream_error_c": 2},
    {"stream_error_d": 2},
    {"reset_after": 2},
    {"truncated_json": "body"},
    {"truncated_json": "connection"},
]


@pytest.mark.parametrize("fault", MID_STREAM_FAILURES, ids=lambda fault: "-".join(map(str, next(iter(fault.items())))))
def test_a_failure_in_mid_stream_keeps_what_was_seen_and_charges_what_it_cost(user, standin, fault):
    standin.fault(**fault, chunk_delay_ms=10)
    conversation = user.conversation()
    frames = events_of(user.ask(conversation, "/repeat 30 word", stream=True))
    kinds = [frame["type"] for frame in frames[:-1]]
    assert "error" in kinds
    assert "finish" not in kinds
    error = json.loads(next(frame for frame in frames if frame["type"] == "error")["errorText"])
    assert error["code"]
    assert error["trace_id"]
    streamed = "".join(frame["delta"] for frame in frames[:-1] if frame["type"] == "text-delta")
    _, message = user.messages(conversation)
    assert message["status"] == "failed"
    assert text_of(message) == streamed != ""

    service.sweep(now=utc_now())
    record = usage_record(message["generation_id"])
    assert record["settlement_pending"] is False
    assert record["cost_pico_usd"] == int(Decimal(str(standin.asked()[-1]["cost"])) * 10**12)
    assert 1000 * 10**6 - user.balance().available_micro == record["charged_micro"]
    user.assert_money_is_in_order()

    assert user.ask(conversation, "/say again").status_code == 200


@pytest.mark.parametrize("fault", MID_STREAM_FAILURES, ids=lambda fault: "-".join(map(str, next(iter(fault.items())))))
def test_a_failure_of_a_whole_answer_leaves_no_half_of_it(user, standin, fault):
    standin.fault(**fault)
    conversation = user.conversation()
    response = user.ask(conversation, "/repeat 30 word")
    assert response.status_code >= 400
    assert response.json["trace_id"]
    assert user.messages(conversation) == []
    service.sweep(now=utc_now())
    [generation] = firestore_client().collection(f"users/{user.uid}/generations").list_documents()
    record = usage_record(generation.id)
    assert record["settlement_pending"] is False
    assert record["cost_pico_usd"] == int(Decimal(str(standin.asked()[-1]["cost"])) * 10**12)
    assert 1000 * 10**6 - user.balance().available_micro == record["charged_micro"]
    user.assert_money_is_in_order()


def test_a_provider_that_never_answers_is_given_up(user, standin, monkeypatch):
    impatient = OpenRouter(
        base_url=settings().openrouter_base_url,
        api_key=settings().openrouter_api_key,
        timeouts=Timeouts(first_byte_s=0.5),
    )
    monkeypatch.setattr(turn, "openrouter", lambda: impatient)
    standin.fault(timeout=True)
    conversation = user.conversation()
    response = user.ask(conversation, "Hello")
    assert (response.status_code, response.json["code"]) == (504, "upstream_timeout")
    user.assert_money_is_in_order()


def test_without_credits_nothing_is_asked(poor_user, standin):
    conversation = poor_user.conversation()
    before = len(standin.asked())
    response = poor_user.ask(conversation, "Hello")
    assert (response.status_code, response.json["code"]) == (402, "insufficient_credits")
    assert len(standin.asked()) == before
    assert poor_user.messages(conversation) == []


def test_an_account_that_cannot_cover_the_turn_keeps_its_credits(poor_user, standin):
    give(poor_user.uid, 0.5)
    conversation = poor_user.conversation()
    response = poor_user.ask(conversation, "Hello", model=FLAT_RATE)
    assert response.status_code == 402
    assert response.json["needed_micro"] == 1_200_000
    assert response.json["available_micro"] == 500_000
    assert poor_user.balance().available_micro == 500_000
    poor_user.assert_money_is_in_order()


def test_an_unknown_model_is_named(user, standin):
    before = len(standin.asked())
    response = user.ask(user.conversation(), "Hello", model="acme/fake-1.0")
    assert response.status_code == 400
    assert response.json["errors"][0]["field"] == "model"
    assert len(standin.asked()) == before
    user.assert_money_is_in_order()


@pytest.mark.parametrize("model", [".", "..", "__x__", "a b", "x" * 200, "ş"])
def test_a_name_that_is_no_models_is_refused(user, model):
    response = user.ask(user.conversation(), "Hello", model=model)
    assert response.status_code == 400
    assert response.json["errors"][0]["field"] == "model"


def test_an_unknown_parent_is_named_and_its_hold_returned(user):
    conversation = user.conversation()
    response = user.ask(conversation, "Hello", parent_id="msg_nowhere")
    assert response.status_code == 400
    assert response.json["errors"][0]["field"] == "parent_id"
    assert user.balance().available_micro == 1000 * 10**6
    user.assert_money_is_in_order()


def test_an_unknown_conversation_is_not_found_and_nothing_is_held(user):
    response = user.ask("conv_nowhere", "Hello")
    assert (response.status_code, response.json["code"]) == (404, "not_found")
    assert user.balance().available_micro == 1000 * 10**6
    user.assert_money_is_in_order()


def test_somebody_elses_conversation_is_not_found(user, uid):
    conversation = user.conversation()
    user.ask(conversation, "/say secret")
    stranger = User(f"stranger-{uid}", user.client)
    give(stranger.uid, 1000)
    assert stranger.ask(conversation, "Hello").status_code == 404
    for path in (f"/api/v1/conversations/{conversation}", f"/api/v1/conversations/{conversation}/messages"):
        assert stranger.request("GET", path).status_code == 404
    assert stranger.request("GET", "/api/v1/conversations").json["items"] == []
    stranger.assert_money_is_in_order()


def test_somebody_elses_generation_is_not_found(user, uid):
    generation = user.ask(user.conversation(), "/say secret").json["generation_id"]
    stranger = User(f"stranger-{uid}", user.client)
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/stop")):
        assert stranger.request(method, f"/api/v1/generations/{generation}{path}").status_code == 404


def test_a_ten_megabyte_message_is_refused_by_its_size(user):
    body = json.dumps({"content": "x" * 10 * 1024 * 1024}).encode()
    response = user.request("POST", f"/api/v1/conversations/{user.conversation()}/messages", body)
    assert (response.status_code, response.json["code"]) == (413, "payload_too_large")


def test_the_longest_message_that_fits_is_answered_and_stored_whole(user):
    conversation = user.conversation()
    longest = "ş" * 100_000
    assert user.ask(conversation, longest, max_tokens=5).status_code == 200
    assert text_of(user.messages(conversation)[0]) == longest
    assert user.ask(conversation, longest + "x").status_code == 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": "  \n "}, "content"),
        ({"content": 5}, "content"),
        ({"content": None}, "content"),
        ({"content": []}, "content"),
        ({"content": [{"type": "image"}]}, "content[0].upload_id"),
        ({"content": [{"type": "video"}]}, "content[0].type"),
        ({"content": "x", "tool_results": [{"tool_call_id": "c", "content": "y"}]}, "content"),
        ({"content": [{"type": "text", "text": 5}]}, "content[0].text"),
        ({"content": "x", "max_tokens": 0}, "max_tokens"),
        ({"content": "x", "max_tokens": "5"}, "max_tokens"),
        ({"content": "x", "temperature": 9}, "temperature"),
        ({"content": "x", "parent_id": "../x"}, "parent_id"),
        ({"content": "x", "stream": "yes"}, "stream"),
        ({"content": "x", "uid": "somebody"}, "uid"),
    ],
)
def test_a_wrong_field_is_named(user, body, field):
    response = user.request("POST", f"/api/v1/conversations/{user.conversation()}/messages", body)
    assert response.status_code == 400
    assert field in [error["field"] for error in response.json["errors"]]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"nul", b"\xff\xfe", b'{"content": "\\ud800"}', b"[" * 20_000])
def test_a_body_that_is_no_json_object_is_refused(user, raw):
    response = user.request("POST", f"/api/v1/conversations/{user.conversation()}/messages", raw)
    assert (response.status_code, response.json["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "missing_token"),
        ("Basic abc", "bad_scheme"),
        ("Bearer", "bad_scheme"),
        ("Bearer nonsense", "invalid_token"),
        (f"Bearer {id_token('u', exp=1)}", "expired_token"),
        (f"Bearer {id_token('u', aud='another-project')}", "invalid_token"),
        (f"Bearer {id_token('u', iss='https://securetoken.google.com/another')}", "invalid_token"),
        (f"Bearer {id_token('')}", "invalid_token"),
        (f"Bearer {id_token('a/b')}", "invalid_token"),
        (f"Bearer {'x' * 9000}", "invalid_token"),
    ],
)
def test_nobody_gets_in_without_a_token_that_holds(user, authorization, reason):
    headers = {"Authorization": authorization} if authorization else {}
    response = user.client.get("/api/v1/conversations", headers=headers)
    assert (response.status_code, response.json["reason"]) == (401, reason)
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_deleted_conversation_still_pays_for_the_answer_in_the_making(user, standin):
    conversation = user.conversation()
    standin.fault(chunk_delay_ms=20)
    response = user.ask(conversation, "/repeat 10 word", stream=True)
    chunks = iter(response.response)
    next(chunks)
    firestore_client().document(f"users/{user.uid}/conversations/{conversation}").delete()
    for _ in chunks:
        pass
    response.close()
    assert user.balance().available_micro < 1000 * 10**6
    user.assert_money_is_in_order()
    assert not firestore_client().document(f"users/{user.uid}/conversations/{conversation}").get().exists


def test_a_client_that_goes_away_leaves_a_whole_answer_paid_once(user, standin):
    standin.fault(chunk_delay_ms=20)
    conversation = user.conversation()
    response = user.ask(conversation, "/repeat 20 word", stream=True)
    chunks = iter(response.response)
    next(chunks)
    response.close()
    message = user.messages(conversation)[-1]
    assert message["status"] == "completed"
    assert text_of(message).split() == ["word"] * 20
    user.assert_money_is_in_order()


def test_a_client_that_goes_away_before_the_first_byte_leaves_a_whole_answer(user):
    conversation = user.conversation()
    user.ask(conversation, "/say complete", stream=True).close()
    assert text_of(user.messages(conversation)[-1]) == "complete"
    user.assert_money_is_in_order()


def test_conversations_and_messages_come_in_pages(user):
    conversations = [user.conversation() for _ in range(5)]
    seen, cursor = [], ""
    while cursor is not None:
        page = user.request("GET", f"/api/v1/conversations?limit=2{cursor and '&cursor=' + cursor}").json
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(conversations)
    assert user.request("GET", "/api/v1/conversations?cursor=nonsense").json["errors"][0]["field"] == "cursor"
    assert user.request("GET", "/api/v1/conversations?limit=0").json["errors"][0]["field"] == "limit"


def test_an_old_branch_is_found_beyond_the_newest_messages(user, monkeypatch, standin):
    monkeypatch.setattr(repository, "_READ_AHEAD", -60)
    conversation = user.conversation()
    first = user.ask(conversation, "/say one").json
    for _ in range(3):
        user.ask(conversation, "/say more")
    assert user.ask(conversation, "Back", parent_id=first["message"]["id"]).status_code == 200
    assert [message["content"] for message in standin.asked()[-1]["body"]["messages"]] == ["/say one", "one", "Back"]


def test_time_passes_between_question_and_answer(user, standin):
    standin.fault(first_token_delay_ms=100)
    conversation = user.conversation()
    started = time.monotonic()
    answer = user.ask(conversation, "/say slow").json
    assert time.monotonic() - started >= 0.1
    assert answer["user_message"]["created_at"] < answer["message"]["created_at"]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/api/v1/conversations", {"settings": {"tool_choice": "auto"}}, "settings.tool_choice"),
        ("POST", "/api/v1/conversations", {"settings": {"seed": 10**40}}, "settings.seed"),
        ("POST", "/api/v1/conversations", {"retention_hours": 3}, "retention_hours"),
        ("GET", "/api/v1/conversations?folder_id=folder_1&tag=x", None, "tag"),
    ],
)
def test_a_rule_about_several_fields_names_the_one_to_change(user, method, path, body, field):
    answer = user.request(method, path, body)
    assert (answer.status_code, [error["field"] for error in answer.json["errors"]]) == (400, [field])
