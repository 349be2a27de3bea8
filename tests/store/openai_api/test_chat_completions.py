"""Chat completions from the request to the ledger: what is asked, what is told, what is paid."""

import json

import pytest

from functions.chat import service as chat
from functions.chat.prompt import MOST_BYTES_OF_A_TOKEN
from tests.store.openai_api.conftest import MODEL

SMALL = "mistralai/mistral-small"
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def test_an_answer_is_told_and_paid_once(program):
    answer = program.chat()
    assert answer.status_code == 200
    assert answer.json["choices"][0]["message"]["content"] == "Hello there."
    assert answer.json["model"] == MODEL
    record = program.usage(answer.json["id"])
    assert record["conversation_id"] is None
    assert record["prompt_tokens"] == answer.json["usage"]["prompt_tokens"]
    assert record["charged_micro"] == answer.json["credits"]["charged_micro"] == program.spent_micro() > 0
    program.assert_money_is_in_order()


def test_a_streamed_answer_is_told_and_paid_once(program):
    chunks = program.stream(stream_options={"include_usage": True})
    assert chunks[-1] == "[DONE]"
    text = "".join(choice["delta"].get("content", "") for chunk in chunks[:-1] for choice in chunk["choices"])
    assert text == "Hello there."
    assert chunks[-2]["credits"]["charged_micro"] == program.spent_micro() > 0
    program.assert_money_is_in_order()


def test_what_was_said_can_be_read_again_by_the_id_of_the_generation(program):
    answer = program.chat()
    generation_id = answer.json["id"].replace("chatcmpl-", "gen_")
    log = chat.read_events(program.uid, generation_id, after=0, wait_s=0)
    assert "".join(event["text"] for event in log.items if event["type"] == "text") == "Hello there."
    assert log.done


def test_a_client_that_goes_away_pays_for_the_whole_answer(program):
    answer = program.chat("/say one two three four five six", stream=True)
    chunks = iter(answer.response)
    next(chunks)
    answer.close()
    [generation] = program.generations()
    assert generation["status"] == "completed"
    assert program.spent_micro() > 0
    program.assert_money_is_in_order()


def test_all_that_can_be_honoured_reaches_the_model(program):
    asked = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n\n"],
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {"1": 5},
        "parallel_tool_calls": False,
        "tools": [WEATHER],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "verbosity": "low",
        "prompt_cache_key": "mine",
    }
    assert program.chat(**asked, max_completion_tokens=77, reasoning_effort="low", user="me").status_code == 200
    sent = program.sent()
    assert {name: sent[name] for name in asked} == asked
    assert sent["max_tokens"] == 77
    assert sent["reasoning"] == {"effort": "low"}
    assert sent["user"] not in {"me", program.uid}, "the provider learns neither who asks nor for whom"
    assert not {"metadata", "store", "n", "service_tier", "plugins"} & set(sent)


def test_messages_reach_the_model_as_they_were_sent_without_what_only_our_answers_have(program):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look."}], "name": "ada"},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "a", "function": {"name": "get_weather", "arguments": "{}"}, "index": 0}],
            "reasoning_content": "Hm.",
            "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
            "annotations": [{"type": "url_citation"}],
            "audio": None,
            "function_call": None,
        },
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "user", "content": "/say Yes."},
    ]
    assert program.post("/v1/chat/completions", {"model": MODEL, "messages": messages}).status_code == 200
    sent = program.sent()["messages"]
    assert sent[2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}],
        "reasoning": "Hm.",
        "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
    }
    assert [sent[place] for place in (0, 1, 3, 4)] == [messages[place] for place in (0, 1, 3, 4)]


def test_a_document_is_read_by_what_costs_nothing(program):
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQ="}}
    content = [{"type": "text", "text": "/say Read."}, part]
    answer = program.post("/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 200
    assert program.sent()["plugins"] == [{"id": "file-parser", "pdf": {"engine": "pdf-text"}}]


def test_a_chosen_provider_may_cost_no_more_than_what_is_held(program):
    assert program.chat(provider={"only": ["openai"], "data_collection": "deny"}).status_code == 200
    sent = program.sent()["provider"]
    assert sent["only"] == ["openai"]
    assert float(sent["max_price"]["prompt"]) > 0
    assert float(sent["max_price"]["completion"]) > 0


def test_a_name_that_openai_uses_is_found_among_its_models(program):
    assert program.chat(model="gpt-4o-mini").json["model"] == MODEL


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": "nobody/knows-this"}, "model", "model_not_found"),
        ({"models": ["google/gemini-2.5-flash", "nobody/knows-this"]}, "models[1]", "model_not_found"),
        ({"model": "openai/text-embedding-3-small"}, "model", "model_not_found"),
    ],
)
def test_a_model_that_is_not_offered_is_not_found(program, body, param, code):
    answer = program.chat(**body)
    assert answer.status_code == 404
    assert (answer.json["error"]["param"], answer.json["error"]["code"]) == (param, code)
    assert program.generations() == []
    program.assert_money_is_in_order()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "low"}, "reasoning_effort"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"provider": {"only": ["openai"]}, "models": ["google/gemini-2.5-flash"]}, "models"),
        ({"messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"n": 3}, "n"),
    ],
)
def test_what_does_not_fit_together_is_named_and_costs_nothing(program, body, param):
    answer = program.chat(**body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert program.generations() == []
    assert program.spent_micro() == 0


def test_a_body_of_200_messages_of_a_megabyte_is_refused_without_reading_it(program):
    answer = program.client.open(
        "/v1/chat/completions",
        method="POST",
        headers=program._headers({}),
        environ_overrides={"CONTENT_LENGTH": str(200 * 1024 * 1024)},
    )
    assert answer.status_code == 413
    assert answer.json["error"]["code"] == "payload_too_large"


def test_a_body_up_to_the_limit_is_answered(program):
    answer = program.chat("/say ok " + "x" * 1_500_000)
    # The model was asked, and says itself that it cannot read so much.
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "context_length_exceeded")
    program.assert_money_is_in_order()


def test_who_has_no_credits_gets_a_402_that_no_sdk_repeats(poor_program):
    answer = poor_program.chat()
    assert answer.status_code == 402
    assert answer.json["error"]["code"] == "insufficient_quota"
    assert answer.json["error"]["needed_micro"] > 0
    assert poor_program.generations() == []


def test_a_prompt_that_the_model_cannot_read_has_openais_code(program, standin):
    standin.fault(context_overflow=True)
    answer = program.chat()
    error = answer.json["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert "x-should-retry" not in answer.headers
    assert program.spent_micro() == 0
    program.assert_money_is_in_order()


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_no_model_of_the_chain_can_read_is_refused_before_anything_is_held(program, standin, stream):
    at_least = 32_768 * MOST_BYTES_OF_A_TOKEN
    messages = [{"role": "user", "content": "x" * (at_least // 8 + 128)}] * 8
    answer = program.post("/v1/chat/completions", {"model": SMALL, "messages": messages, "stream": stream})
    error = answer.json["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert "32,768" in error["message"]
    assert (standin.asked(), program.generations(), program.spent_micro()) == ([], [], 0)

    larger = {"model": SMALL, "models": [MODEL], "messages": messages}
    program.post("/v1/chat/completions", larger)
    assert len(standin.asked()) == 1, "one of the chain might read it"
    program.assert_money_is_in_order()


def test_a_prompt_that_might_fit_is_left_to_the_model(program, standin):
    messages = [{"role": "user", "content": "x" * (32_768 * MOST_BYTES_OF_A_TOKEN // 8)}] * 8
    program.post("/v1/chat/completions", {"model": SMALL, "messages": messages})
    assert len(standin.asked()) == 1
    program.assert_money_is_in_order()


def test_a_busy_model_says_when_to_come_back(program, standin):
    standin.fault(times=3, status="503", retry_after=1)
    answer = program.chat()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after-ms"]) == int(answer.headers["Retry-After"]) * 1000
    assert "x-should-retry" not in answer.headers, "nothing was answered, so asking again pays nothing twice"


def test_an_answer_that_broke_off_must_not_be_asked_for_again_by_itself(program, standin):
    standin.fault(stream_error_c=2)
    answer = program.chat("/say one two three four")
    assert answer.status_code == 502
    assert answer.headers["x-should-retry"] == "false"
    program.assert_money_is_in_order()


def test_a_stream_that_breaks_off_ends_with_an_error(program, standin):
    standin.fault(stream_error_c=2)
    *said, error, done = program.stream("/say one two three four")
    assert done == "[DONE]"
    assert set(error) == {"error"}
    assert error["error"]["generation_id"].startswith("gen_")
    assert not [choice for chunk in said for choice in chunk["choices"] if choice["finish_reason"]]
    program.assert_money_is_in_order()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_request_with_a_key_of_its_own_is_answered_twice_and_asked_and_paid_once(program, streamed):
    headers = {"Idempotency-Key": f"once-{program.uid}"}
    first = program.chat(headers=headers, stream=streamed)
    said = first.get_data()
    first.close()
    again = program.chat(headers=headers, stream=streamed)
    assert again.get_data() == said
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(program.generations()) == 1
    program.assert_money_is_in_order()


def test_a_key_that_may_not_ask_a_model_cannot_and_does_not_see_it(program):
    limited = program.with_key(allowed_models=["google/gemini-2.5-flash"])
    answer = limited.chat()
    assert (answer.status_code, answer.json["error"]["type"]) == (403, "permission_error")
    assert [model["id"] for model in limited.get("/v1/models").json["data"]] == ["google/gemini-2.5-flash"]
    assert limited.get(f"/v1/models/{MODEL}").status_code == 404


def test_the_models_are_listed_with_those_that_embed(program):
    models = {model["id"]: model for model in program.get("/v1/models").json["data"]}
    assert models[MODEL]["object"] == "model"
    assert models[MODEL]["owned_by"] == "openai"
    assert "openai/text-embedding-3-small" in models
    assert "openrouter/auto" not in models, "its price varies"


@pytest.mark.parametrize("path", [MODEL, "openai%2Fgpt-4o-mini", "gpt-4o-mini"])
def test_a_model_is_found_however_its_slash_is_written(program, path):
    assert program.get(f"/v1/models/{path}").json["id"] == MODEL


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/images/generations", 404, "unknown_url"),
        ("GET", "/v1/nothing/at/all", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("GET", "/v1/models/nobody/knows-this", 404, "model_not_found"),
    ],
)
def test_what_is_not_there_is_said_in_openais_envelope(program, method, path, status, code):
    answer = program.client.open(path, method=method, headers=program._headers({}))
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert set(answer.json["error"]) >= {"message", "type", "param", "code"}


def test_a_body_that_is_no_json_is_said_in_openais_envelope(program):
    answer = program.post("/v1/chat/completions", b"{")
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_json")


def test_nobody_gets_in_without_a_key(openai_client, standin):
    answer = openai_client.open("/v1/chat/completions", method="POST", data=json.dumps({}))
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_every_answer_says_how_long_it_took_and_how_to_find_it(program):
    for answer in (program.chat(), program.chat(model="nobody/knows-this")):
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert len(answer.headers["x-request-id"]) == 32


def test_a_stopped_answer_ends_as_it_is(program, standin):
    standin.fault(chunk_delay_ms=20)
    answer = program.chat("/repeat 200 word", stream=True)
    chunks = iter(answer.response)
    first = json.loads(next(chunks).decode().removeprefix("data: "))
    chat.stop(program.uid, first["id"].replace("chatcmpl-", "gen_"))
    rest = b"".join(chunks).decode()
    answer.close()
    assert rest.endswith("data: [DONE]\n\n")
    assert 0 < rest.count("word") < 200
    [generation] = program.generations()
    assert generation["status"] == "stopped"
    program.assert_money_is_in_order()


def test_images_for_a_model_that_sees_none_are_refused_before_anything_is_held(program):
    image = {"type": "image_url", "image_url": {"url": "https://example.com/heron.png"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    asked = len(program.standin.requests())
    answer = program.post("/v1/chat/completions", {"model": "mistralai/mistral-small", "messages": messages})
    error = answer.get_json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, "messages", "invalid_request_error")
    assert "mistralai/mistral-small cannot see" in error["message"]
    assert len(program.standin.requests()) == asked
    assert program.spent_micro() == program.held_micro() == 0
