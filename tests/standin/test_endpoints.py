"""Every endpoint of the stand-in over a real socket."""

import base64
import json
import math
import struct

import pytest

from emulator.openrouter import png

MANAGER = "sk-or-v1-manager"


def test_a_plain_completion_is_answered_and_billed(api):
    reply = api.chat("/say Merhaba dünya 👋")
    body = reply.json
    assert reply.status == 200
    assert body["choices"][0]["message"]["content"] == "Merhaba dünya 👋"
    assert body["id"] == reply.headers["x-generation-id"]
    assert body["usage"]["cost"] == pytest.approx(
        body["usage"]["prompt_tokens"] * 0.15e-6 + body["usage"]["completion_tokens"] * 0.6e-6
    )


def test_a_stream_says_the_same_as_a_plain_answer(api):
    plain, streamed = api.chat("Tell me about tea"), api.stream("Tell me about tea")
    assert streamed.content == plain.content
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.headers["cache-control"] == "no-cache"
    assert streamed.events[0]["id"] == streamed.headers["x-generation-id"]
    assert streamed.text.startswith(": OPENROUTER PROCESSING\n\n")
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert streamed.events[-1]["usage"] == plain.json["usage"]


def test_words_depend_on_model_messages_and_seed_alone(api):
    first, again = (api.chat("Tell me about tea", seed=1).content for _ in range(2))
    assert first == again
    assert api.chat("Tell me about tea", seed=2).content != first
    assert api.chat("Tell me about tea", seed=1, model="mistralai/mistral-small").content != first


def test_stop_and_max_tokens_end_an_answer(api):
    assert api.chat("/say one two three", stop=[" two"]).content == "one"
    cut = api.chat("/tokens 50", max_tokens=7).json
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 7


def test_a_json_schema_is_obeyed(api):
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer"}}}
    response_format = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    answer = json.loads(api.chat("İzmir has 3000000 people", response_format=response_format).content)
    assert set(answer) == {"city", "people"}
    assert answer["people"] == 3_000_000


def test_tools_are_called_and_their_results_are_read(api):
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
    asked = api.chat("How is the weather?", tools=[tool]).json["choices"][0]
    assert asked["finish_reason"] == "tool_calls"
    call = asked["message"]["tool_calls"][0]
    messages = [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny, 21 degrees"},
    ]
    assert "sunny, 21 degrees" in api.chat(messages=messages, tools=[tool]).content


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "acme/fake-1.0"}, 400, "acme/fake-1.0 is not a valid model ID"),
        ({"messages": []}, 400, 'Input required: specify "prompt" or "messages"'),
        ({"model": "openai/text-embedding-3-small"}, 404, "No endpoints found that support the requested output"),
        ({"modalities": ["image"]}, 404, "No endpoints found that support the requested output modalities: image"),
        ({"provider": {"only": ["azure"]}, "model": "openai/o3"}, 404, "your request's provider.only preference"),
        (
            {
                "model": "meta-llama/llama-3.2-3b-instruct",
                "tools": [{"type": "function", "function": {"name": "f"}}],
            },
            404,
            "No endpoints found that support tool use",
        ),
        (
            {"model": "meta-llama/llama-3.2-3b-instruct", "max_tokens": 9000},
            400,
            "maximum context length is 8192 tokens",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_in_the_real_words(api, body, status, message):
    reply = api.chat(**body)
    assert (reply.status, reply.json["error"]["code"]) == (status, status)
    assert message in reply.json["error"]["message"]
    assert api.usage() == 0


def test_a_body_that_is_not_json_is_refused(api):
    assert api.post("/chat/completions", b"{nope").status == 400


def test_a_fallback_answers_when_the_first_model_cannot(api):
    reply = api.chat(model="acme/fake-1.0", models=["openai/o3#status=503", "x-ai/grok-4"], max_tokens=50)
    assert reply.json["model"] == "x-ai/grok-4"
    assert reply.json["provider"] == "xAI"


def test_when_every_model_fails_the_last_error_names_the_others(api):
    error = api.chat(model="acme/fake-1.0", models=["openai/o3#status=503"]).json["error"]
    assert error["code"] == 503
    assert error["metadata"]["previous_errors"] == [
        {"code": 400, "message": "acme/fake-1.0 is not a valid model ID"},
    ]


def test_the_auto_router_names_and_bills_the_model_it_chose(api):
    body = api.chat(model="openrouter/auto").json
    assert body["model"] == "openai/gpt-4o-mini"
    assert api.usage() == body["usage"]["cost"] > 0


def test_routing_is_explained_on_request(api):
    reply = api.chat(model="acme/fake-1.0", models=["openai/gpt-4o-mini"])
    assert "openrouter_metadata" not in reply.json
    asked = {"model": "acme/fake-1.0", "models": ["openai/gpt-4o-mini"], "messages": [{"role": "user", "content": "x"}]}
    routed = api.post("/chat/completions", asked, X_OpenRouter_Metadata="enabled").json["openrouter_metadata"]
    assert (routed["requested"], routed["strategy"], routed["attempt"]) == ("acme/fake-1.0", "fallback", 2)
    assert [each["selected"] for each in routed["endpoints"]["available"]] == [True, False]


def test_web_search_costs_extra_and_cites(api):
    body = api.chat(model="openai/gpt-4.1-mini:online").json
    usage = body["usage"]
    assert body["choices"][0]["message"]["annotations"][0]["type"] == "url_citation"
    assert usage["cost"] == pytest.approx(usage["cost_details"]["upstream_inference_cost"] + 0.01)


def test_embeddings_come_as_floats_and_as_base64(api):
    asked = {"model": "openai/text-embedding-3-small", "input": ["I like tea", "tea is liked"]}
    floats = api.post("/embeddings", asked).json
    packed = api.post("/embeddings", {**asked, "encoding_format": "base64"}).json
    assert [each["index"] for each in floats["data"]] == [0, 1]
    for plain, base in zip(floats["data"], packed["data"], strict=True):
        decoded = struct.unpack("<1536f", base64.b64decode(base["embedding"]))
        assert decoded == pytest.approx(plain["embedding"], abs=1e-6)
        assert math.isclose(math.hypot(*plain["embedding"]), 1)
    assert floats["usage"]["prompt_tokens"] == floats["usage"]["total_tokens"] == 6
    assert floats["usage"]["cost"] == pytest.approx(6 * 2e-8)


def test_embeddings_can_be_shorter(api):
    asked = {"model": "qwen/qwen3-embedding-8b", "input": "x", "dimensions": 64}
    assert len(api.post("/embeddings", asked).json["data"][0]["embedding"]) == 64
    assert api.post("/embeddings", {**asked, "dimensions": 5000}).status == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "openai/gpt-4o-mini", "input": "x"}, 404),
        ({"model": "acme/none", "input": "x"}, 400),
        ({"input": "x"}, 400),
        ({"model": "openai/text-embedding-3-small"}, 400),
        ({"model": "openai/text-embedding-3-small", "input": "x", "encoding_format": "hex"}, 400),
        ({"model": "openai/text-embedding-3-small", "input": "word " * 9000}, 400),
    ],
)
def test_embeddings_that_cannot_be_made_are_refused(api, body, status):
    assert api.post("/embeddings", body).status == status


def test_images_have_the_size_asked_for_and_are_billed_each(api):
    reply = api.post("/images", {"model": "black-forest-labs/flux.2-pro", "prompt": "a cat", "n": 2, "size": "640x480"})
    pictures = [base64.b64decode(each["b64_json"]) for each in reply.json["data"]]
    assert [png.dimensions(picture) for picture in pictures] == [(640, 480), (640, 480)]
    assert pictures[0] != pictures[1]
    assert reply.json["usage"]["cost"] == api.usage() == 0.08


def test_images_can_be_streamed_with_previews(api):
    asked = {"model": "openai/gpt-image-1", "prompt": "a cat", "stream": True, "resolution": "512"}
    reply = api.post("/images", asked)
    assert [event["type"].rpartition(".")[2] for event in reply.events] == [
        "partial_image",
        "partial_image",
        "completed",
    ]
    assert reply.events[-1]["usage"]["cost"] == api.usage()
    assert reply.text.endswith("data: [DONE]\n\n")


def test_a_streamed_image_may_fail_and_costs_nothing_then(api):
    asked = {"model": "openai/gpt-image-1#stream_error_a", "prompt": "a cat", "stream": True, "resolution": "512"}
    reply = api.post("/images", asked)
    assert reply.events[-1] == {
        "type": "error",
        "error": {"message": "Image generation failed", "code": "server_error"},
    }
    assert api.usage() == 0


def test_an_image_model_that_cannot_stream_answers_at_once(api):
    asked = {"model": "black-forest-labs/flux.2-pro", "prompt": "a cat", "stream": True, "resolution": "512"}
    assert api.post("/images", asked).headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "openai/gpt-4o-mini"}, 404),
        ({"model": "acme/none"}, 400),
        ({}, 400),
        ({"model": "openai/gpt-image-1", "prompt": "", "n": 1}, 400),
        ({"model": "openai/gpt-image-1", "output_format": "webp"}, 400),
    ],
)
def test_images_that_cannot_be_made_are_refused(api, body, status):
    assert api.post("/images", {"prompt": "a cat", **body}).status == status


def test_a_chat_draws_with_an_image_model(api):
    asked = {"model": "google/gemini-2.5-flash-image", "modalities": ["image", "text"]}
    message = api.chat("a cat", **asked, image_config={"aspect_ratio": "16:9"}).json["choices"][0]["message"]
    prefix, _, data = message["images"][0]["image_url"]["url"].partition(",")
    assert prefix == "data:image/png;base64"
    assert png.dimensions(base64.b64decode(data)) == (1344, 768)
    assert "a cat" in message["content"]
    streamed = api.stream("a cat", **asked)
    drawn = [delta["images"] for delta in _deltas(streamed) if "images" in delta]
    assert len(drawn) == 1
    assert streamed.events[-1]["usage"]["completion_tokens_details"]["image_tokens"] == 1290


def test_image_models_are_listed(api):
    listed = {each["id"]: each for each in api.get("/images/models", key=None).json["data"]}
    assert listed["openai/gpt-image-1"]["supports_streaming"] is True
    assert listed["black-forest-labs/flux.2-pro"]["supported_parameters"]["output_format"]["values"] == ["png"]
    assert "openai/gpt-4o-mini" not in listed


def test_models_are_listed_in_pages(api):
    whole = api.get("/models", key=None).json
    assert whole["total_count"] == len(whole["data"])
    seen, path = [], "/models?limit=4"
    while path:
        page = api.get(path, key=None).json
        seen += [model["id"] for model in page["data"]]
        path = (page["links"]["next"] or "").removeprefix("/api/v1")
    assert seen == [model["id"] for model in whole["data"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("output_modalities=embeddings", "openai/text-embedding-3-small"),
        ("output_modalities=image", "black-forest-labs/flux.2-pro"),
        ("q=grok", "x-ai/grok-4"),
        ("supported_parameters=reasoning,tools", "openai/gpt-5-mini"),
        ("input_modalities=video", "google/gemini-2.5-pro"),
        ("context=1000001", "openai/gpt-4.1-mini"),
        ("max_price=0", "minimax/minimax-m2:free"),
    ],
)
def test_models_can_be_filtered(api, query, expected):
    found = [model["id"] for model in api.get(f"/models?{query}", key=None).json["data"]]
    assert expected in found
    assert "openai/gpt-4o-mini" not in found
    count = api.get(f"/models/count?{query}", key=None).json["data"]["count"]
    assert count == len(found)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "offset=-1", "limit=x", "max_price=cheap"])
def test_a_malformed_listing_is_refused(api, query):
    assert api.get(f"/models?{query}").status == 400


def test_a_model_lists_its_endpoints(api):
    data = api.get("/models/openai/gpt-4o-mini/endpoints", key=None).json["data"]
    assert [endpoint["provider_name"] for endpoint in data["endpoints"]] == ["OpenAI", "Azure"]
    assert api.get("/model/anthropic/claude-sonnet-4-5", key=None).json["data"]["id"] == "anthropic/claude-sonnet-4.5"
    assert api.get("/models/acme/none/endpoints").status == 404


def test_providers_and_embedding_models_are_listed(api):
    assert "amazon-bedrock" in [each["slug"] for each in api.get("/providers", key=None).json["data"]]
    assert len(api.get("/embeddings/models", key=None).json["data"]) == 3
    assert api.get("/models/user").status == 200


def test_the_key_describes_itself(api):
    data = api.get("/key").json["data"]
    assert (data["limit"], data["limit_remaining"], data["usage"]) == (1000, 1000, 0)
    assert data["rate_limit"]["requests"] == -1
    assert data["label"].startswith("sk-or-v1-tes")


def test_credits_are_for_management_keys(api):
    assert api.get("/credits").json["error"]["message"] == "Only management keys can perform this operation"
    api.post("/_standin/keys", {"key": MANAGER, "balance_usd": 0, "management": True})
    assert api.get("/credits", key=MANAGER).json == {"data": {"total_credits": 1000, "total_usage": 0}}


@pytest.mark.parametrize("path", ["/key", "/credits", "/generation?id=x", "/models/user"])
def test_reading_needs_a_key(api, path):
    assert api.get(path, key=None).json == {"error": {"code": 401, "message": "Missing Authentication header"}}
    assert api.get(path, key="sk-wrong").json == {"error": {"code": 401, "message": "User not found."}}


@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings", "/images"])
def test_generating_needs_a_key_before_the_body_is_looked_at(api, path):
    assert api.post(path, b"{nope", key=None).status == 401


def test_a_generation_is_found_after_its_delay(api):
    generation_id = api.chat("/tokens 9", session_id="s-1", user="u-1").json["id"]
    assert api.get(f"/generation?id={generation_id}").status == 404
    data = api.generation(generation_id)
    assert data["total_cost"] == data["usage"] == api.usage()
    assert (data["tokens_completion"], data["streamed"], data["cancelled"]) == (9, False, False)
    assert (data["finish_reason"], data["session_id"], data["external_user"]) == ("stop", "s-1", "u-1")
    assert data["provider_responses"][0]["status"] == 200
    assert api.get("/generation?id=gen-0-none").status == 404
    assert api.get("/generation").status == 400


def test_unknown_paths_and_methods_answer_in_json(api):
    assert api.get("/nothing").json == {"error": {"code": 404, "message": "Resource not found"}}
    wrong = api.call("PUT", "/chat/completions")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json["error"]["code"] == 405


def test_browsers_may_ask_first(api):
    reply = api.call("OPTIONS", "/chat/completions", key=None)
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (204, "*")


def _deltas(reply):
    return [choice["delta"] for event in reply.events for choice in event["choices"]]
