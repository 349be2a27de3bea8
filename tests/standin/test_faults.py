"""Every fault of the table, switched on over a real socket and seen by a client."""

import base64
import http.client
import json
import socket
import time
from decimal import Decimal

import pytest

from emulator.openrouter import faults, png

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

# A test of this module for every fault of the table; the last test compares the two.
TESTED = {
    "keepalive",
    "keepalive_between",
    "first_token_delay_ms",
    "chunk_delay_ms",
    "split",
    "usage_shape",
    "no_usage",
    "stream_error_a",
    "stream_error_b",
    "stream_error_c",
    "stream_error_d",
    "stream_error_code",
    "error_200",
    "status",
    "rate_limit",
    "retry_after",
    "context_overflow",
    "timeout",
    "slow_headers_ms",
    "reset",
    "reset_after",
    "stall_after",
    "truncated_json",
    "permaslug",
    "tool_arguments",
    "reasoning",
    "images",
    "byok",
    "cached_tokens",
    "zero_completion",
    "float_noise",
    "cancel_billing",
    "generation_404_ms",
}


def test_every_fault_of_the_table_has_a_test():
    assert set(faults.BY_NAME) == TESTED


def test_keepalives_come_before_and_between_tokens(api):
    text = api.stream("/tokens 3", "keepalive=7,keepalive_between=2").text
    assert text.startswith(": OPENROUTER PROCESSING\n\n" * 7 + "data: ")
    assert text.count(": OPENROUTER PROCESSING\n\n") == 7 + 2 * 2


def test_the_first_token_can_be_late(api):
    for stream in (False, True):
        took = _seconds(lambda stream=stream: api.chat(faults="first_token_delay_ms=150", stream=stream))
        assert took >= 0.15


def test_tokens_can_be_slow(api):
    for stream in (False, True):
        took = _seconds(lambda stream=stream: api.chat("/tokens 6", "chunk_delay_ms=30", stream=stream))
        assert took >= 0.15


@pytest.mark.parametrize("size", [1, 3, 17])
def test_the_wire_is_cut_at_every_n_bytes(api, size):
    whole = api.stream("/say çok güzel 👋🏽", "keepalive=1")
    with api.raw_chat("/say çok güzel 👋🏽", f"keepalive=1,split={size}", stream=True) as connection:
        chunks = _http_chunks(connection)
    assert {len(chunk) for chunk in chunks[:-1]} == {size}
    assert len(b"".join(chunks)) == len(whole.raw)
    assert "👋🏽".encode() in b"".join(chunks)


def test_a_plain_body_is_cut_too_and_stays_whole(api):
    assert api.chat("/say çok güzel 👋🏽", "split=2").content == "çok güzel 👋🏽"


def test_the_usage_comes_in_three_shapes(api):
    last = {shape: api.stream("/tokens 3", f"usage_shape={shape}").events[-1] for shape in ("i", "ii", "iii")}
    assert last["i"]["choices"][0]["finish_reason"] is None
    assert last["ii"]["choices"] == []
    assert last["iii"]["choices"][0]["finish_reason"] == "stop"
    assert len({json.dumps(event["usage"]) for event in last.values()}) == 1


def test_the_usage_may_be_missing_and_is_in_the_generation(api):
    for stream in (False, True):
        reply = api.chat(faults="no_usage,generation_404_ms=0", stream=stream)
        assert '"usage"' not in reply.text
        assert api.generation(reply.headers["x-generation-id"])["total_cost"] > 0


def test_error_a_in_the_stream_is_not_charged(api):
    reply = api.stream("/tokens 9", "stream_error_a=3")
    assert reply.status == 200
    assert reply.events[-1]["error"]["code"] == "server_error"
    assert reply.events[-1]["choices"][0]["finish_reason"] == "error"
    assert "[DONE]" not in reply.text
    assert api.usage() == 0


def test_error_b_in_the_stream_charges_the_usage_beside_it(api):
    reply = api.stream("/tokens 9", "stream_error_b=4")
    last = reply.events[-1]
    assert last["error"]["message"] == "Token limit reached"
    assert last["usage"]["completion_tokens"] == 4
    assert api.usage() == last["usage"]["cost"] > 0


def test_error_c_in_the_stream_has_no_choice_and_is_not_charged(api):
    reply = api.stream("/tokens 9", "stream_error_c=0,stream_error_code=529")
    assert (reply.events[-1]["choices"], reply.events[-1]["error"]["code"]) == ([], 529)
    assert reply.text.endswith("data: [DONE]\n\n")
    assert api.usage() == 0


def test_error_d_just_ends_and_only_the_generation_knows_the_cost(api):
    reply = api.stream("/tokens 9", "stream_error_d=4")
    assert len(reply.content.split()) == 4
    assert '"usage"' not in reply.text
    assert "[DONE]" not in reply.text
    generation = api.generation(reply.headers["x-generation-id"])
    assert (generation["tokens_completion"], generation["finish_reason"]) == (4, None)
    assert generation["total_cost"] == api.usage() > 0


def test_a_success_may_carry_an_error_envelope(api):
    reply = api.chat("/tokens 9", "error_200=body")
    assert reply.status == 200
    assert set(reply.json) == {"error", "user_id"}
    assert api.usage() == 0


def test_a_success_may_carry_an_error_in_its_choice(api):
    reply = api.chat("/tokens 9", "error_200=choice,stream_error_code=429")
    choice = reply.json["choices"][0]
    assert (reply.status, choice["finish_reason"], choice["error"]["code"]) == (200, "error", 429)
    assert 0 < len(choice["message"]["content"].split()) < 9
    assert api.usage() == 0


@pytest.mark.parametrize("kind", ["body", "choice"])
def test_a_stream_may_carry_the_same_errors(api, kind):
    last = api.stream("/tokens 9", f"error_200={kind}").events[-1]
    assert (last if kind == "body" else last["choices"][0])["error"]["code"] == 502


def test_other_routes_fail_inside_a_success_too(api):
    for path, body in (
        ("/embeddings", {"model": "openai/text-embedding-3-small", "input": "x"}),
        ("/images", {"model": "black-forest-labs/flux.2-pro", "prompt": "x", "resolution": "512"}),
    ):
        reply = api.post(path, body, X_Standin_Faults="error_200")
        assert (reply.status, set(reply.json)) == (200, {"error"})
    assert api.usage() == 0


MESSAGES = {
    "400": "Invalid request parameters",
    "401": "No auth credentials found",
    "402": "Insufficient credits. Add more using https://openrouter.ai/credits",
    "403": "requires moderation",
    "404": "No endpoints found matching your data policy",
    "408": "Operation timed out. Please try again later.",
    "413": "Request payload too large",
    "422": "Invalid argument",
    "429": "Provider returned error",
    "500": "Internal Server Error",
    "502": "Provider returned error",
    "503": "Service temporarily unavailable",
    "524": "Request timed out. Please try again later.",
    "529": "Provider returned error",
}


@pytest.mark.parametrize("status", faults.STATUSES)
@pytest.mark.parametrize("stream", [False, True])
def test_every_status_has_its_real_body(api, status, stream):
    reply = api.chat(model=f"openai/gpt-4o-mini#status={status}", stream=stream)
    error = reply.json["error"]
    assert (reply.status, error["code"]) == (int(status), int(status))
    assert MESSAGES[status] in error["message"]
    assert reply.headers["content-type"] == "application/json"
    assert api.usage() == 0


def test_a_503_says_when_to_come_back(api):
    assert api.chat(faults="status=503").headers["retry-after"] == "2"
    assert api.chat(faults="status=503,retry_after=9").headers["retry-after"] == "9"


def test_a_403_says_what_was_flagged(api):
    metadata = api.chat(faults="status=403").json["error"]["metadata"]
    assert set(metadata) == {"reasons", "flagged_input", "provider_name", "model_slug"}


def test_the_platform_limits_with_headers_and_the_provider_without(api):
    platform = api.chat(faults="rate_limit=platform,retry_after=3")
    assert (platform.status, platform.headers["retry-after"]) == (429, "3")
    limits = platform.json["error"]["metadata"]["headers"]
    assert limits["X-RateLimit-Reset"] == platform.headers["x-ratelimit-reset"]
    assert int(limits["X-RateLimit-Reset"]) / 1000 == pytest.approx(time.time() + 3, abs=5)
    provider = api.chat(faults="rate_limit=provider")
    assert "retry-after" not in provider.headers
    assert set(provider.json["error"]["metadata"]) == {"provider_name", "raw"}
    assert provider.json["user_id"].startswith("user_")


def test_the_other_routes_fail_with_a_status_as_well(api):
    for path, body in (
        ("/embeddings", {"model": "openai/text-embedding-3-small#status=502", "input": "x"}),
        ("/images", {"model": "openai/gpt-image-1#status=502", "prompt": "x"}),
    ):
        assert api.post(path, body).status == 502
    assert api.get("/key", X_Standin_Faults="status=500").status == 500


def test_a_context_can_overflow(api):
    error = api.chat(faults="context_overflow").json["error"]
    assert (error["code"], error["metadata"]["error_type"]) == (400, "context_length_exceeded")


def test_a_request_may_never_be_answered(api):
    with api.raw_chat("/say ok", "timeout") as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    assert api.eventually(lambda: api.requests()[0]["state"] == "cancelled")


def test_headers_may_drip(api):
    with api.raw_chat("/say ok", "slow_headers_ms=200") as connection:
        started = time.monotonic()
        first = connection.recv(10_000)
        head = first
        while b"\r\n\r\n" not in head:
            head += connection.recv(10_000)
    assert len(first) < 100
    assert time.monotonic() - started >= 0.15


def test_a_connection_may_be_reset_before_the_answer(api):
    with api.raw_chat("/say ok", "reset") as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_a_connection_may_be_reset_in_the_middle(api):
    received = bytearray()
    with api.raw_chat("/tokens 9", "reset_after=3", stream=True) as connection, pytest.raises(ConnectionResetError):
        _read_into(received, connection)
    assert received.count(b'"content":') == 1 + 3
    (entry,) = api.requests()
    assert api.generation(entry["generation_id"])["tokens_completion"] == 3


def test_a_stream_may_stall(api):
    with api.raw_chat("/tokens 9", "stall_after=2", stream=True) as connection:
        connection.settimeout(0.3)
        received = bytearray()
        with pytest.raises(TimeoutError):
            _read_into(received, connection)
        assert received.count(b'"content":') == 1 + 2
    (entry,) = api.requests()
    generation = api.generation(entry["generation_id"])
    assert (generation["cancelled"], generation["tokens_completion"]) == (True, 2)


def test_json_may_be_truncated_inside_an_intact_body(api):
    reply = api.chat(faults="truncated_json")
    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.raw)


def test_json_may_be_truncated_by_a_broken_connection(api):
    with pytest.raises(http.client.IncompleteRead):
        api.chat(faults="truncated_json=connection")
    with pytest.raises(http.client.IncompleteRead):
        api.stream("/tokens 9", "truncated_json=connection")


def test_a_stream_may_end_inside_a_chunk(api):
    reply = api.stream("/tokens 9", "truncated_json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.text.rpartition("data: ")[2])


def test_the_reply_may_name_the_dated_model(api):
    asked = {"model": "anthropic/claude-sonnet-4-5", "max_tokens": 50}
    assert api.chat(**asked).json["model"] == "anthropic/claude-sonnet-4-5"
    for stream in (False, True):
        reply = api.chat(faults="permaslug", stream=stream, **asked)
        shown = reply.events[0]["model"] if stream else reply.json["model"]
        assert shown == "anthropic/claude-4.5-sonnet-20250929"


def test_tool_arguments_may_be_missing_fragmented_or_invalid(api):
    asked = {"say": '/tool f {"city": "İzmir"}', "tools": [TOOL]}
    missing = api.chat(faults="tool_arguments=missing", **asked).json["choices"][0]["message"]["tool_calls"][0]
    assert missing["function"] == {"name": "f"}
    invalid = api.chat(faults="tool_arguments=invalid", **asked).json["choices"][0]["message"]["tool_calls"][0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(invalid["function"]["arguments"])
    pieces = _argument_pieces(api.stream(faults="tool_arguments=fragmented", **asked))
    assert len(pieces) > 3
    assert json.loads("".join(pieces)) == {"city": "İzmir"}
    assert _argument_pieces(api.stream(faults="tool_arguments=missing", **asked)) == []
    assert len(_argument_pieces(api.stream(**asked))) == 2


def test_reasoning_may_come_unasked(api):
    message = api.chat("/say ok", "reasoning").json["choices"][0]["message"]
    assert message["reasoning"]
    assert message["reasoning_details"][0]["type"] == "reasoning.text"
    events = api.stream("/say ok", "reasoning").events
    assert "".join(event["choices"][0]["delta"].get("reasoning") or "" for event in events) == message["reasoning"]


def test_an_image_may_come_unasked(api):
    message = api.chat("/say look", "images").json["choices"][0]["message"]
    data = base64.b64decode(message["images"][0]["image_url"]["url"].partition(",")[2])
    assert png.dimensions(data) == (1024, 1024)
    deltas = [event["choices"][0]["delta"] for event in api.stream("/say look", "images").events]
    assert [delta["images"] for delta in deltas if "images" in delta] == [message["images"]]


def test_byok_is_free_here_and_dear_there(api):
    usage = api.chat("/tokens 9", "byok").json["usage"]
    assert (usage["cost"], usage["is_byok"]) == (0, True)
    key = api.get("/key").json["data"]
    assert key["usage"] == 0
    assert key["byok_usage"] == usage["cost_details"]["upstream_inference_cost"] > 0


def test_cached_tokens_are_cheaper(api):
    prompt = "/say ok\n" + "word " * 200
    dear, cheap = (api.chat(prompt, fault).json["usage"] for fault in ("", "cached_tokens=100"))
    assert cheap["prompt_tokens_details"]["cached_tokens"] == 100
    assert Decimal(str(dear["cost"])) - Decimal(str(cheap["cost"])) == 100 * Decimal("0.000000075")


def test_no_completion_token_is_not_charged(api):
    for stream in (False, True):
        reply = api.chat("/tokens 9", "zero_completion", stream=stream)
        usage = reply.events[-1]["usage"] if stream else reply.json["usage"]
        assert (usage["completion_tokens"], usage["cost"], reply.content) == (0, 0, "")
    assert api.usage() == 0


def test_costs_may_be_noisy_but_the_key_is_exact(api):
    cost = Decimal(str(api.chat("/tokens 9", "float_noise").json["usage"]["cost"]))
    used = Decimal(str(api.usage()))
    assert cost != used
    assert abs(cost - used) < Decimal("1e-12")


@pytest.mark.parametrize(("billing", "tokens"), [("on", range(1, 100)), ("off", [500])])
def test_a_client_that_leaves_pays_what_was_produced_or_all(api, billing, tokens):
    with api.raw_chat("/tokens 500", f"chunk_delay_ms=10,cancel_billing={billing}", stream=True) as connection:
        received = b""
        while received.count(b'"content":') < 4:
            received += connection.recv(10_000)
    api.eventually(lambda: api.requests()[0]["state"] == "cancelled")
    generation = api.generation(api.requests()[0]["generation_id"])
    assert generation["cancelled"] is True
    assert generation["tokens_completion"] in tokens
    assert generation["total_cost"] == api.usage() > 0


def test_a_client_that_leaves_a_plain_answer_pays_what_was_produced(api):
    with api.raw_chat("/tokens 500", "chunk_delay_ms=10") as connection:
        time.sleep(0.2)
        connection.shutdown(socket.SHUT_RDWR)
    api.eventually(lambda: api.requests()[0]["state"] == "cancelled")
    assert 1 <= api.generation(api.requests()[0]["generation_id"])["tokens_completion"] < 500


def test_the_generation_may_be_hidden_for_longer_or_not_at_all(api):
    at_once = api.chat(faults="generation_404_ms=0").json["id"]
    later = api.chat(faults="generation_404_ms=60000").json["id"]
    assert api.get(f"/generation?id={at_once}").status == 200
    assert api.get(f"/generation?id={later}").status == 404


def test_an_unknown_fault_is_refused_by_name(api):
    reply = api.chat(faults="explode")
    assert reply.status == 400
    assert "Unknown stand-in fault 'explode'" in reply.json["error"]["message"]
    assert api.chat(model="openai/gpt-4o-mini#explode").status == 400


def _seconds(action):
    started = time.monotonic()
    assert action().status == 200
    return time.monotonic() - started


def _read_into(received, connection):
    """Everything until the peer ends it or the socket fails."""
    while data := connection.recv(10_000):
        received += data


def _http_chunks(connection):
    """The chunks of a chunked answer, as they were framed on the wire."""
    data = b""
    while not data.endswith(b"\r\n0\r\n\r\n"):
        piece = connection.recv(65_536)
        assert piece
        data += piece
    body, chunks = data.partition(b"\r\n\r\n")[2], []
    while body:
        size_text, _, rest = body.partition(b"\r\n")
        size = int(size_text, 16)
        if size:
            chunks.append(rest[:size])
        body = rest[size + 2 :]
    return chunks


def _argument_pieces(reply):
    deltas = [event["choices"][0]["delta"] for event in reply.events]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    return [call["function"]["arguments"] for call in calls if "arguments" in call["function"]]
