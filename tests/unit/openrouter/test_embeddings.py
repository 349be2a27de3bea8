"""Embeddings come out packed and in order, whatever the provider sends; anything else is one failure."""

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.openrouter import UpstreamFailedMidStream
from shared.openrouter.parse import embeddings_of
from shared.openrouter.vectors import numbers_of, packed

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8)
USAGE = {"prompt_tokens": 7, "total_tokens": 7, "cost": 0.00012}


def body(*vectors, **more):
    data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    return json.dumps({"object": "list", "data": data, "model": "a/b", "id": "gen-1", **more}).encode()


@given(FLOATS, st.booleans())
def test_numbers_and_packed_numbers_are_taken_alike(numbers, as_numbers):
    found = embeddings_of(body(numbers if as_numbers else packed(numbers), usage=USAGE), 1)
    assert [*numbers_of(found.vectors[0])] == numbers
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.cost_pico_usd) == (7, 120_000_000)
    assert (found.generation_id, found.model) == ("gen-1", "a/b")


def test_the_order_is_that_of_the_inputs():
    data = [{"index": 1, "embedding": packed([1.0])}, {"index": 0, "embedding": packed([0.0])}]
    assert embeddings_of(json.dumps({"data": data}).encode(), 2).vectors == (packed([0.0]), packed([1.0]))


def test_a_cost_that_is_not_told_is_not_known():
    assert embeddings_of(body([1.0]), 1).usage is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"not JSON",
        b"{}",
        body(),
        body([1.0], [2.0]),
        body("not base64!"),
        body(b64encode(b"abc").decode()),
        body(b64encode(b"\x00\x00\xc0\x7f").decode()),
        body([]),
        body(""),
        body(["a"]),
        body([1e300]),
        body(None),
        json.dumps({"data": [{"index": 5, "embedding": packed([1.0])}]}).encode(),
        json.dumps({"data": [{"index": [], "embedding": 7}]}).encode(),
        b"[" * 100_000,
    ],
)
def test_what_is_not_what_was_asked_for_is_a_failure(raw):
    with pytest.raises(UpstreamFailedMidStream):
        embeddings_of(raw, 1)


def test_an_error_after_a_200_keeps_what_it_cost():
    raw = json.dumps({"error": {"code": 502, "message": "Provider returned error"}, "usage": USAGE}).encode()
    with pytest.raises(UpstreamFailedMidStream) as failed:
        embeddings_of(raw, 1, "gen-7")
    assert failed.value.usage is not None
    assert failed.value.usage.cost_pico_usd == 120_000_000
    assert failed.value.generation_id == "gen-7"
