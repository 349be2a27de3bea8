"""Whatever is sent, the answer is one of the API and the books stay balanced. On a wire that only writes."""

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.openrouter.calls import Standin
from emulator.openrouter.server import App
from emulator.openrouter.wire import Connection, Exchange, Request

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
CHAT = {
    "model": "openai/gpt-5-mini",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 20,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
FIELDS = [
    "messages",
    "model",
    "models",
    "provider",
    "reasoning",
    "reasoning_effort",
    "response_format",
    "tools",
    "tool_choice",
    "stop",
    "seed",
    "max_tokens",
    "modalities",
    "image_config",
    "plugins",
    "stream",
    "transforms",
    "user",
    "session_id",
]


class Wire(asyncio.Transport):
    """The end of a connection that keeps what is written."""

    def __init__(self):
        super().__init__()
        self.written = bytearray()

    def write(self, data):
        self.written += data

    def is_closing(self):
        return False

    def close(self):
        self.written += b""


def _answer(body, path="/api/v1/chat/completions", standin=None):
    """Status and body of the answer to one POST."""
    request = Request("POST", path, "", {"authorization": "Bearer sk-or-v1-x"}, json.dumps(body).encode())
    wire = Wire()
    connection = Connection(_never, set())
    connection.connection_made(wire)
    asyncio.run(App(standin or Standin(), lambda _line: None).handle(Exchange(request, connection)))
    head, _, rest = bytes(wire.written).partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


async def _never(exchange):
    raise AssertionError(exchange)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(FIELDS), ANY_JSON)
def test_no_field_of_a_chat_request_can_break_the_server(field, value):
    status, body = _answer(CHAT | {field: value})
    assert status in {200, 400, 402, 404}
    assert status == 200 or json.loads(body)["error"]["code"] == status


@settings(deadline=None, max_examples=60)
@given(ANY_JSON, st.sampled_from(["/api/v1/chat/completions", "/api/v1/embeddings", "/api/v1/images"]))
def test_no_body_can_break_the_server(body, path):
    assert _answer(body, path)[0] in {400, 404}


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(
        ["input", "dimensions", "encoding_format", "provider", "prompt", "n", "size", "aspect_ratio", "seed"]
    ),
    ANY_JSON,
)
def test_no_field_of_the_other_routes_can_break_the_server(field, value):
    embedding = {"model": "openai/text-embedding-3-small", "input": "x", field: value}
    image = {"model": "openai/gpt-image-1", "prompt": "x", "resolution": "512", field: value}
    assert _answer(embedding, "/api/v1/embeddings")[0] in {200, 400, 404}
    assert _answer(image, "/api/v1/images")[0] in {200, 400, 404}


SCHEMA_WORDS = [
    "type",
    "properties",
    "items",
    "enum",
    "anyOf",
    "allOf",
    "$ref",
    "minimum",
    "maxLength",
    "minItems",
    "format",
]
ANY_SCHEMA = st.dictionaries(
    st.sampled_from(SCHEMA_WORDS),
    ANY_JSON | st.sampled_from(["object", "array", "string", "integer", "#", "#/properties"]),
    max_size=5,
)


@settings(deadline=None, max_examples=150)
@given(ANY_SCHEMA | ANY_JSON, ANY_SCHEMA)
def test_no_schema_can_break_the_server(schema, inner):
    for parameters in (schema, {"type": "object", "properties": {"a": inner}}):
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": parameters}}
        assert _answer(CHAT | {"tools": [tool], "tool_choice": "required"})[0] in {200, 400}
        assert _answer(CHAT | {"tools": None, "response_format": response_format})[0] in {200, 400}


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(["role", "content", "type", "text", "image_url", "tool_call_id"]), ANY_JSON))
def test_no_message_can_break_the_server(part):
    for message in (part, {"role": "user"} | part, {"role": "user", "content": [part, {"type": "image_url"} | part]}):
        assert _answer(CHAT | {"messages": [message]})[0] in {200, 400}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["openai/gpt-4o-mini", "openai/o3", "craftpilot/flat-rate", "deepseek/deepseek-chat"]),
            st.sampled_from(
                ["", "#stream_error_a=1", "#stream_error_b=1", "#stream_error_d=1", "#byok", "#status=500"]
            ),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_the_key_equals_the_sum_of_the_generations_whatever_happens(turns):
    standin = Standin()
    for model, fault, stream in turns:
        _answer(CHAT | {"model": model + fault, "stream": stream}, standin=standin)
    costs = [generation.cost for generation in standin.generations.by_id.values()]
    used = sum(account.used for account in standin.accounts.by_key.values())
    assert used == sum(costs)
    assert all(generation.settled for generation in standin.generations.by_id.values())


def test_half_a_surrogate_pair_is_answered():
    body = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "/say \ud83d"}], "user": "\ud83d"}
    status, answer = _answer(body)
    assert status == 200
    assert json.loads(answer)["choices"][0]["message"]["content"] == "?"
