"""What a model says becomes events, and the events become it again: the same for producers, readers and the sweep."""

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from functions.chat.answer import MAX_ANSWER_BYTES, Answer
from shared.openrouter import (
    AnnotationsDelta,
    ImagesDelta,
    ReasoningDelta,
    ReasoningDetails,
    Started,
    TextDelta,
    ToolCallDelta,
)

WORDS = st.text(min_size=1, max_size=12)
CITED = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0}}
DELTAS = st.one_of(
    st.builds(TextDelta, WORDS),
    st.builds(ReasoningDelta, WORDS),
    st.builds(ToolCallDelta, st.integers(0, 2), st.none() | WORDS, st.none() | WORDS, st.text(max_size=8)),
    st.builds(ReasoningDetails, st.tuples(st.fixed_dictionaries({"type": st.just("reasoning.text"), "text": WORDS}))),
    st.builds(AnnotationsDelta, st.just((CITED,))),
    st.builds(Started, WORDS, st.none(), st.none()),
    st.builds(ImagesDelta, st.just(({"type": "image_url"},))),
)


@given(st.lists(st.lists(DELTAS, max_size=6), max_size=8))
def test_the_log_says_all_that_the_producer_knows(reads):
    answer = Answer()
    log = [event for deltas in reads for event in answer.take(deltas)]
    assert Answer.from_log(log).said() == answer.said()


@given(st.lists(DELTAS, max_size=20), st.data())
def test_however_the_deltas_are_read_the_answer_is_the_same(deltas, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(deltas)))))
    whole, pieces = Answer(), Answer()
    whole.take(deltas)
    for begin, end in zip([0, *cuts], [*cuts, len(deltas)], strict=True):
        pieces.take(deltas[begin:end])
    assert whole.said() == pieces.said()


@given(st.lists(st.builds(TextDelta, WORDS), min_size=1, max_size=8))
def test_neighbours_of_one_read_are_one_event(deltas):
    assert len(Answer().take(deltas)) == 1


def test_fragments_of_a_call_are_one_call():
    answer = Answer()
    answer.take(
        [ToolCallDelta(0, "c1", "look", ""), ToolCallDelta(0, None, None, '{"a"'), ToolCallDelta(0, None, None, ":1}")]
    )
    assert answer.said()["tool_calls"] == ({"index": 0, "id": "c1", "name": "look", "arguments": '{"a":1}'},)


def test_a_call_without_an_id_gets_one_that_every_reader_sees():
    answer = Answer()
    events = answer.take([ToolCallDelta(1, None, "look", "{"), ToolCallDelta(1, None, None, "}")])
    assert [event["id"] for event in events] == ["call_1", None]
    assert [call["id"] for call in answer.said()["tool_calls"]] == ["call_1"]
    assert Answer.from_log(events).said() == answer.said()


def test_an_answer_is_full_at_what_a_document_can_hold():
    answer = Answer()
    answer.take([TextDelta("x" * (MAX_ANSWER_BYTES - 1))])
    assert not answer.is_full
    assert answer.take([TextDelta("yz")]) == []
    assert answer.is_full
    assert len(answer.text) == MAX_ANSWER_BYTES - 1


def test_halves_of_surrogate_pairs_become_something_that_can_be_stored():
    answer = Answer()
    answer.take([TextDelta("a\ud800b")])
    assert answer.text == "a?b"


def test_no_half_of_a_surrogate_pair_gets_into_what_is_stored_by_any_way():
    """JSON that holds one can be parsed, and is refused by Redis' and Firestore's encoders alike."""
    half = "\ud83d"
    answer = Answer()
    events = answer.take(
        [
            ReasoningDetails(({"type": "reasoning.text", "text": f"so {half}", "index": 0, "more": [{half: half}]},)),
            ToolCallDelta(0, f"call{half}", f"look{half}", f'{{"q":"{half}"}}'),
            AnnotationsDelta(({"type": "url_citation", "url": f"https://a.example/{half}", "title": half},)),
        ]
    )
    assert len(events) == 3
    assert "?" in to_json(events).decode()
    assert to_json(answer.said())


def test_sources_are_told_in_one_shape_whichever_way_they_come():
    answer = Answer()
    answer.take([AnnotationsDelta((CITED, {"type": "url_citation", "url": "https://b.example"}, {"type": "file"}))])
    assert answer.said()["citations"] == (
        {"url": "https://a.example", "title": "A", "start": 0, "end": None},
        {"url": "https://b.example", "title": "", "start": None, "end": None},
    )
