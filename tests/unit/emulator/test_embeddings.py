"""Embeddings: unit vectors in which similar texts lie close together."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter import embeddings
from emulator.openrouter.errors import ApiError


@given(st.text(max_size=100), st.integers(1, 64))
def test_every_vector_has_the_length_one(content, dimensions):
    vector = embeddings.vector(content, dimensions)
    assert len(vector) == dimensions
    assert math.isclose(math.hypot(*vector), 1)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("I live in Istanbul with two cats", "The user has two cats", "Invoices are due on Friday"),
        ("My favourite colour is green", "What is my favourite colour?", "The train leaves at nine"),
        ("Kahveyi şekersiz içerim", "Kahve şekersiz olsun", "Görüşme ertesi sabah"),
    ],
)
def test_similar_texts_are_closer_than_others(text, near, far):
    assert embeddings.similarity(text, near) > embeddings.similarity(text, far) + 0.2


def test_unrelated_texts_are_nearly_at_right_angles():
    assert abs(embeddings.similarity("alpha beta gamma", "xylophone quartz jukebox")) < 0.1


def test_packed_vectors_are_little_endian_floats():
    floats = struct.unpack("<8f", embeddings.packed("hello", 8))
    assert floats == pytest.approx(embeddings.vector("hello", 8))


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("one", 1),
        (["one", "two"], 2),
        ([1, 2, 3], 1),
        ([[1, 2], [3]], 2),
        ([{"content": [{"type": "text", "text": "x"}]}], 1),
    ],
)
def test_inputs_come_in_five_forms(value, count):
    assert len(embeddings.read_inputs(value)) == count


@pytest.mark.parametrize("value", [None, [], "", [""], [True], {"a": 1}, [{"content": "x"}]])
def test_other_inputs_are_refused(value):
    with pytest.raises(ApiError) as refused:
        embeddings.read_inputs(value)
    assert refused.value.status == 400
