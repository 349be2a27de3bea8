"""The AI SDK reads our UI message stream: its transport, its message reader, and its schema of chunks."""

import pytest

from tests.clients.conftest import INSTALLING_TAKES_ITS_TIME

pytestmark = INSTALLING_TAKES_ITS_TIME


@pytest.fixture(scope="module", params=["ai", "ai-strict"])
def package(request):
    """The current AI SDK, and one whose schema refuses unknown fields."""
    return request.param


@pytest.fixture(scope="module")
def seen(script, provider_fault, package):
    """What an app saw that asked, resumed the stream after its end, and was refused."""
    provider_fault("chunk_delay_ms=20")
    return script("ui_stream.mjs", package)


def test_the_stream_says_what_it_is(seen):
    headers = seen["headers"]
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert headers["x-accel-buffering"] == "no"
    assert "no-store" in headers["cache-control"]


def test_every_chunk_is_one_that_the_schema_accepts(seen):
    assert len(seen["chunks"]) > 6
    assert seen["refused_chunks"] == []


def test_the_schema_would_refuse_a_chunk_without_a_field_and_the_strict_one_with_a_field_too_many(seen, package):
    assert seen["accepts"] == {"missing_field": False, "unknown_field": package == "ai"}


def test_the_stream_is_data_frames_only_and_ends_with_done(seen):
    assert seen["strays"] == []
    assert seen["done"]


def test_the_chunks_come_in_the_order_of_the_protocol(seen):
    types = [chunk["type"] for chunk in seen["chunks"]]
    assert types[:3] == ["start", "start-step", "text-start"]
    assert types[-3:] == ["text-end", "finish-step", "finish"]
    assert set(types[3:-3]) == {"text-delta"}


def test_the_assembled_message_is_the_stored_one(seen):
    answer = seen["answer"]
    assert answer["valid"]
    assert answer["text"]
    assert answer["text"] == seen["stored"]["text"]
    assert seen["stored"]["status"] == "completed"


def test_the_text_grows_while_it_arrives(seen):
    lengths = seen["answer"]["lengths"]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3


def test_the_message_tells_what_it_cost(seen):
    metadata = seen["answer"]["message"]["metadata"]
    assert metadata["conversation_id"] == seen["conversation_id"]
    assert metadata["status"] == "completed"
    assert metadata["usage"]["completion_tokens"] > 0
    assert metadata["credits"] == seen["stored"]["credits"]
    assert metadata["credits"]["charged_micro"] > 0


def test_a_resumed_stream_makes_the_same_message(seen):
    assert seen["resumed"]["message"] == seen["answer"]["message"]


def test_a_refusal_reaches_the_app_as_a_problem_with_its_field(seen):
    refusal = seen["refusal"]
    assert refusal["status"] == 400
    assert refusal["code"] == "invalid_request"
    assert [problem["field"] for problem in refusal["errors"]] == ["model"]
