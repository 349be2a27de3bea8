"""The OpenRouter client against the local stand-in: each way to fail on one side, each error on the other."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamTimeout
from shared.openrouter import (
    GenerationRecord,
    ImagesDelta,
    OpenRouter,
    ReasoningDelta,
    StreamCancelled,
    TextDelta,
    Timeouts,
    ToolCallDelta,
    UpstreamAccountEmpty,
    UpstreamFailedMidStream,
)

FLAT_RATE = "craftpilot/flat-rate"
FLAT_RATE_PICO_USD = 1_000_000_000
MODEL = "openai/gpt-4o-mini"
SAID = "Günler kısa: çay, şeker 🙂 ve bir söz daha."  # noqa: RUF001  # letters and an emoji of two to four bytes
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    command = [sys.executable, "-m", "emulator.openrouter", "--port", "0", "--quiet", "--generation-404-ms", "100"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as standin:
        try:
            assert standin.stdout is not None
            address = re.search(r"http://\S+/api/v1", standin.stdout.readline())
            assert address is not None
            yield address[0]
        finally:
            standin.terminate()


@pytest.fixture
def client(base_url) -> Iterator[OpenRouter]:
    timeouts = Timeouts(connect_s=2, first_byte_s=1, read_s=1)
    client = OpenRouter(base_url=base_url, api_key="sk-or-v1-client", timeouts=timeouts)
    yield client
    client.close()


def asking(model: str, words: str = f"/say {SAID}", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": words}], **more}


def generation_of(client: OpenRouter, generation_id: str) -> GenerationRecord:
    """The record, once it exists: as on the real one that takes a moment."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        record = client.find_generation(generation_id)
        if record is not None:
            return record
        time.sleep(0.05)
    raise AssertionError(f"No record of {generation_id}")


@pytest.mark.parametrize(
    "faults",
    [
        "usage_shape=i",
        "usage_shape=ii",
        "usage_shape=iii",
        "split=1",
        "split=7",
        "keepalive=30+keepalive_between=2",
        "slow_headers_ms=100",
    ],
)
def test_a_turn_of_known_price_streams_whole_whatever_the_wire_does(client, faults):
    with client.stream_chat(asking(f"{FLAT_RATE}#{faults}")) as stream:
        deltas = [delta for deltas in stream for delta in deltas]
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == SAID
    assert stream.finish_reason == "stop"
    assert stream.usage.cost_pico_usd == FLAT_RATE_PICO_USD
    record = generation_of(client, stream.generation_id)
    assert (record.cost_pico_usd, record.streamed, record.cancelled) == (FLAT_RATE_PICO_USD, True, False)


def test_a_plain_turn_says_and_costs_the_same(client):
    completion = client.complete_chat(asking(FLAT_RATE))
    assert (completion.text, completion.finish_reason) == (SAID, "stop")
    assert completion.usage.cost_pico_usd == FLAT_RATE_PICO_USD
    assert generation_of(client, completion.generation_id).cost_pico_usd == FLAT_RATE_PICO_USD


def test_the_provider_s_price_counts_on_our_own_provider_key(client):
    ours = client.complete_chat(asking(f"{FLAT_RATE}#byok")).usage
    assert (ours.is_byok, ours.cost_pico_usd) == (True, FLAT_RATE_PICO_USD)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("stream_error_a=2", UpstreamError),
        ("stream_error_a=2+stream_error_code=429", UpstreamBusy),
        ("stream_error_b=2", UpstreamRejected),
        ("stream_error_c=2+stream_error_code=524", UpstreamTimeout),
        ("stream_error_d=2", UpstreamError),
        ("reset_after=2", UpstreamError),
        ("truncated_json=body", UpstreamError),
        ("truncated_json=connection", UpstreamError),
        ("stall_after=2", UpstreamTimeout),
    ],
)
def test_a_stream_that_fails_after_200_is_a_failure_after_content(client, fault, kind):
    with client.stream_chat(asking(f"{MODEL}#{fault}")) as stream, pytest.raises(UpstreamFailedMidStream) as caught:
        list(stream)
    assert type(caught.value.reason) is kind
    assert caught.value.content_delivered
    assert caught.value.generation_id == stream.generation_id
    assert (caught.value.usage is not None) == fault.startswith("stream_error_b")


@pytest.mark.parametrize("fault", ["stream_error_a=0", "stream_error_c=0", "stream_error_d=0", "zero_completion"])
def test_a_stream_that_fails_before_content_says_so(client, fault):
    with client.stream_chat(asking(f"{MODEL}#{fault}")) as stream, pytest.raises(UpstreamFailedMidStream) as caught:
        list(stream)
    assert not caught.value.content_delivered


@pytest.mark.parametrize(
    ("fault", "partial"), [("error_200=body", False), ("error_200=choice", True), ("truncated_json", False)]
)
def test_a_plain_200_that_is_no_answer_is_a_failure(client, fault, partial):
    with pytest.raises(UpstreamFailedMidStream) as caught:
        client.complete_chat(asking(f"{MODEL}#{fault}"))
    assert (caught.value.partial is not None) == partial


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        ("status=400", UpstreamRejected, 400),
        ("context_overflow", UpstreamRejected, 400),
        ("status=401", UpstreamError, 401),
        ("status=402", UpstreamAccountEmpty, 402),
        ("status=403", UpstreamRejected, 403),
        ("status=404", UpstreamRejected, 404),
        ("status=408", UpstreamTimeout, 408),
        ("status=413", UpstreamRejected, 413),
        ("status=422", UpstreamRejected, 422),
        ("status=429", UpstreamBusy, 429),
        ("rate_limit=platform+retry_after=7", UpstreamBusy, 429),
        ("status=500", UpstreamError, 500),
        ("status=502", UpstreamError, 502),
        ("status=503+retry_after=7", UpstreamBusy, 503),
        ("status=524", UpstreamTimeout, 524),
        ("status=529", UpstreamBusy, 529),
    ],
)
def test_each_refusal_has_its_error(client, fault, kind, status):
    for call in (client.complete_chat, client.stream_chat):
        with pytest.raises(UpstreamError) as caught:
            call(asking(f"{MODEL}#{fault}"))
        assert type(caught.value) is kind
        assert caught.value.details["upstream_status"] == status
        if "retry_after" in fault:
            assert caught.value.retry_after_s == 7
        if fault == "context_overflow":
            assert caught.value.details["error_type"] == "context_length_exceeded"


@pytest.mark.parametrize(("fault", "kind"), [("reset", UpstreamError), ("timeout", UpstreamTimeout)])
def test_no_answer_at_all_is_an_error(client, fault, kind):
    with pytest.raises(UpstreamError) as caught:
        client.stream_chat(asking(f"{MODEL}#{fault}"))
    assert type(caught.value) is kind


def test_a_wrong_key_is_our_fault_and_no_user_s(base_url):
    client = OpenRouter(base_url=base_url, api_key="not-a-key")
    with pytest.raises(UpstreamError) as caught:
        client.complete_chat(asking(MODEL))
    client.close()
    assert (type(caught.value), caught.value.message) == (UpstreamError, UpstreamError.title)


def test_a_cancelled_stream_costs_what_was_said(client):
    with client.stream_chat(asking("craftpilot/slow", "/tokens 200")) as stream:
        deltas = iter(stream)
        next(deltas)
        stream.cancel()
        with pytest.raises(StreamCancelled):
            next(deltas)
    assert stream.usage is None
    record = generation_of(client, stream.generation_id)
    assert record.cancelled
    assert record.native_completion_tokens < 200


@pytest.mark.parametrize("arguments", ["fragmented", "missing"])
def test_tool_calls_come_in_pieces_and_whole(client, arguments):
    sent = "{}" if arguments == "missing" else '{"city": "Ankara"}'
    request = asking(f"{MODEL}#tool_arguments={arguments}", f"/tool get_weather {sent}")
    request["tools"] = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    with client.stream_chat(request) as stream:
        pieces = [delta for deltas in stream for delta in deltas if isinstance(delta, ToolCallDelta)]
    (call,) = client.complete_chat(request).tool_calls
    assert stream.finish_reason == "tool_calls"
    assert [piece.name for piece in pieces if piece.name] == [call.name] == ["get_weather"]
    assert ("".join(piece.arguments for piece in pieces) or "{}").replace(" ", "") == sent.replace(" ", "")
    assert call.arguments.replace(" ", "") == sent.replace(" ", "")


def test_reasoning_and_images_have_their_deltas(client):
    with client.stream_chat(asking(f"{MODEL}#reasoning+images")) as stream:
        deltas = [delta for deltas in stream for delta in deltas]
    assert any(isinstance(delta, ReasoningDelta) and delta.text for delta in deltas)
    (images,) = [delta for delta in deltas if isinstance(delta, ImagesDelta)]
    assert images.items[0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_the_catalogue_lists_every_model_once_with_prices_as_text(client):
    models = list(client.list_models())
    ids = [model["id"] for model in models]
    assert FLAT_RATE in ids
    assert len(ids) == len(set(ids))
    assert {type(model["pricing"]["prompt"]) for model in models} == {str}
