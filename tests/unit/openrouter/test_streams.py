"""A streamed answer is the same however the network cuts it, and every bad end is one failure with the same facts."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamTimeout
from shared.openrouter import (
    AnnotationsDelta,
    ImagesDelta,
    ReasoningDelta,
    ReasoningDetails,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from shared.openrouter.parse import ChatEvents, TextTemplate
from tests.unit.openrouter.recorded import streams

KEEP_ALIVE = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "cost": 0.00012, "is_byok": False}
COST = 120_000_000


@dataclass(frozen=True)
class Outcome:
    """Everything a caller can learn from a stream. How texts that follow each other were cut, nobody may rely on."""

    deltas: list[Any]
    usage: Any
    finish: tuple[str | None, str | None]
    ids: tuple[str | None, str | None, str | None]
    failed: Any

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, ReasoningDelta))


def relay(
    *pieces: bytes, cause: UpstreamError | None = None, limit: int = 10_000, events: ChatEvents | None = None
) -> Outcome:
    events = events or ChatEvents(max_event_bytes=limit)
    deltas = []
    for piece in pieces:
        if not events.ended:
            deltas += events.feed(piece)
    if not events.ended:
        deltas += events.end(cause)
    failure = events.failure
    return Outcome(
        joined(deltas),
        events.usage,
        (events.finish_reason, events.native_finish_reason),
        (events.generation_id, events.model, events.provider),
        failure and (type(failure.reason), failure.details, failure.usage, failure.content_delivered, failure.message),
    )


def joined(deltas: list[Any]) -> list[Any]:
    whole: list[Any] = []
    for delta in deltas:
        if whole and isinstance(delta, TextDelta) and isinstance(whole[-1], TextDelta):
            whole[-1] = TextDelta(whole[-1].text + delta.text)
        else:
            whole.append(delta)
    return whole


def chunk(delta: object = None, finish: str | None = None, *, ascii_only: bool = True, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta or {"role": "assistant", "content": ""}, "finish_reason": finish}
    body = {"id": "gen-1", "provider": "OpenAI", "model": "a/b", "choices": [choice], **more}
    return b"data: " + json.dumps(body, ensure_ascii=ascii_only).encode(errors="replace") + b"\n\n"


def text(content: str) -> bytes:
    return chunk({"role": "assistant", "content": content})


USAGE_SHAPES = {
    "i": chunk(usage=USAGE),
    "ii": chunk(choices=[], usage=USAGE),
    "iii": chunk(finish="stop", service_tier="default", usage=USAGE),
}
ERROR_A = chunk(
    {"content": ""},
    "error",
    error={"code": "server_error", "message": "Lost", "metadata": {"error_type": "provider_overloaded"}},
)
ERROR_B = chunk(error={"code": 400, "message": "Token limit reached"}, usage=USAGE)
ERROR_C = chunk(choices=[], error={"code": 429, "message": "Provider returned error"})


@pytest.mark.parametrize("shape", USAGE_SHAPES)
def test_the_three_shapes_of_the_usage_chunk_mean_the_same(shape):
    outcome = relay(KEEP_ALIVE, text("Hel"), text("lo"), chunk(finish="stop"), USAGE_SHAPES[shape], DONE)
    assert outcome.deltas == [Started("gen-1", "a/b", "OpenAI"), TextDelta("Hello")]
    assert outcome.usage == Usage(prompt_tokens=7, completion_tokens=3, cost_pico_usd=COST)
    assert outcome.finish == ("stop", None)
    assert outcome.failed is None


def test_the_first_finish_reason_counts():
    assert relay(text("x"), chunk(finish="length"), chunk(finish="stop"), DONE).finish == ("length", None)


@pytest.mark.parametrize(
    "case",
    [
        (ERROR_A, UpstreamBusy, 529, None),
        (ERROR_B, UpstreamRejected, 400, COST),
        (ERROR_C, UpstreamBusy, 429, None),
        (chunk({"content": ""}, "error"), UpstreamError, 502, None),
        (chunk(error="Something broke"), UpstreamError, 502, None),
        (chunk(choices=[{"delta": {}, "error": {"code": 504}}]), UpstreamTimeout, 504, None),
        (b'event: error\ndata: {"error":{"code":503}}\n\n', UpstreamBusy, 503, None),
    ],
)
@pytest.mark.parametrize(
    "before", [(), (text("Half"),), (text("Half"), chunk(finish="length"), chunk(finish="length"))]
)
@pytest.mark.parametrize("after", [(), (DONE,), (text("never read"), USAGE_SHAPES["ii"], DONE)])
def test_an_error_chunk_is_a_failure_whatever_surrounds_it(case, before, after):
    error, kind, status, usage = case
    outcome = relay(*before, error, *after)
    reason, details, seen_usage, content_delivered, _ = outcome.failed
    assert reason is kind
    assert details["upstream_status"] == status
    assert (seen_usage.cost_pico_usd if seen_usage else None) == usage
    assert content_delivered is bool(before)
    assert outcome.text == ("Half" if before else "")


def test_a_connection_that_ends_in_the_middle_is_a_failure():
    outcome = relay(text("Half"))
    assert outcome.failed == (
        UpstreamError,
        {"fault": "ended_early", "generation_id": "gen-1"},
        None,
        True,
        "The model provider failed",
    )


def test_a_connection_that_ends_before_anything_is_a_failure():
    assert relay(KEEP_ALIVE).failed[:2] == (UpstreamError, {"fault": "ended_early"})
    assert relay().failed[:2] == (UpstreamError, {"fault": "ended_early"})


def test_a_broken_connection_is_a_failure_for_its_own_reason():
    assert relay(text("Half"), cause=UpstreamTimeout(fault="read_timeout")).failed[:2] == (
        UpstreamTimeout,
        {"fault": "read_timeout", "generation_id": "gen-1"},
    )


@pytest.mark.parametrize("cause", [None, UpstreamError(fault="read_failed")])
def test_a_finished_answer_needs_no_done(cause):
    assert relay(text("All"), chunk(finish="stop"), cause=cause).failed is None


def test_done_after_content_ends_an_answer_that_named_no_reason():
    outcome = relay(text("All"), DONE)
    assert (outcome.failed, outcome.finish) == (None, (None, None))


def test_done_without_reason_and_content_is_an_empty_answer_and_a_failure():
    assert relay(chunk(), USAGE_SHAPES["ii"], DONE).failed[1]["fault"] == "empty_answer"


@pytest.mark.parametrize(
    "wire",
    [
        b'data: {"id":"gen-1","choices":[{"del',
        b'data: {"id"}\n\n',
        b"data: [1]\n\n",
        b"data: \xff{}\n\n",
        b"data: " + b"[" * 9000 + b"\n\n",
        b"dat",
    ],
)
@pytest.mark.parametrize("before", [(), (text("Half"), chunk(finish="stop"))])
def test_a_cut_or_malformed_chunk_is_a_failure_even_after_the_finish(wire, before):
    outcome = relay(*before, wire)
    assert outcome.failed[1]["fault"] == "malformed_chunk"
    assert outcome.failed[3] is bool(before)


def test_an_endless_line_is_a_failure_and_what_came_before_it_is_kept():
    outcome = relay(text("Half"), b"data: " + b"x" * 2000, b"x" * 10_000, limit=5000)
    assert outcome.failed[1]["fault"] == "oversized_event"
    assert outcome.text == "Half"


def test_nothing_counts_after_done():
    assert relay(text("All"), chunk(finish="stop"), DONE + ERROR_A + b"data: {{{\n\n").failed is None
    assert relay(text("All"), b"data: [DONE]\ndat").failed is None


def test_blank_events_are_keep_alives():
    assert relay(b"data:\n\n", text("All"), b"data: \n\n", chunk(finish="stop"), DONE).failed is None


def test_an_error_of_null_is_none():
    assert relay(chunk({"content": "All"}, error=None), chunk(finish="stop", error=None), DONE).failed is None


def test_every_kind_of_content_has_its_delta():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    citation = {"type": "url_citation", "url_citation": {"url": "https://example.com"}}
    summary = {"type": "reasoning.summary", "summary": "Hm"}
    outcome = relay(
        chunk({"reasoning": "Hm", "reasoning_details": [summary]}),
        chunk({"content": "Look", "images": [image], "annotations": [citation]}),
        chunk({"tool_calls": [{"index": 1, "id": "t1", "function": {"name": "f", "arguments": '{"a'}}]}),
        chunk(
            {"tool_calls": [{"index": 1, "function": {"arguments": '":1}'}}, {"id": "t2", "function": {"name": "g"}}]}
        ),
        chunk(finish="tool_calls"),
        DONE,
    )
    assert outcome.deltas[1:] == [
        ReasoningDelta("Hm"),
        ReasoningDetails((summary,)),
        TextDelta("Look"),
        ImagesDelta((image,)),
        AnnotationsDelta((citation,)),
        ToolCallDelta(1, "t1", "f", '{"a'),
        ToolCallDelta(1, None, None, '":1}'),
        ToolCallDelta(1, "t2", "g", ""),
    ]
    assert outcome.failed is None


@pytest.mark.parametrize(
    "odd",
    [
        chunk(choices=None),
        chunk(choices=[None]),
        chunk(choices=[{"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}]),
        chunk(choices=[{"delta": None}]),
        chunk(
            {
                "content": 7,
                "reasoning": [],
                "tool_calls": "x",
                "images": [1],
                "annotations": {},
                "reasoning_details": [[]],
            }
        ),
        chunk({"tool_calls": [None]}),
        chunk({"tool_calls": [{"function": None}]}),
        text(""),
        chunk(usage=[], finish=None),
        chunk(id=None, model=7, provider={}),
        chunk(brand_new={"field": []}),
        b"data: {}\n\n",
    ],
)
def test_odd_and_unknown_fields_are_passed_over(odd):
    outcome = relay(text("A"), odd, text("B"), chunk(finish="stop"), DONE)
    assert (outcome.text, outcome.failed) == ("AB", None)


@pytest.mark.parametrize("recorded", streams(), ids=lambda each: each.name)
def test_recorded_streams_are_read_as_they_stand(recorded):
    chunks = [json.loads(line[6:]) for line in recorded.body.decode().splitlines() if line.startswith("data: {")]
    said = [each["choices"][0]["delta"] for each in chunks]
    outcome = relay(recorded.body)
    assert outcome.text == "".join(delta.get("content") or "" for delta in said)
    assert outcome.reasoning == "".join(delta.get("reasoning") or "" for delta in said)
    details = [item for delta in said for item in delta.get("reasoning_details") or []]
    assert [item for delta in outcome.deltas if isinstance(delta, ReasoningDetails) for item in delta.items] == details
    assert outcome.ids == (chunks[0]["id"], chunks[0]["model"], chunks[0]["provider"])
    assert outcome.usage.completion_tokens == chunks[-1]["usage"]["completion_tokens"]


def test_the_recorded_streams_end_as_they_did():
    ends = {each.name: relay(each.body) for each in streams()}
    assert {
        name: (end.failed and end.failed[0], end.finish, end.usage.cost_pico_usd) for name, end in ends.items()
    } == {
        "openrouter_stream_error-0": (UpstreamRejected, ("length", "length"), 0),
        "openrouter_stream_with_native_options-0": (None, ("stop", "completed"), 3_338_250_000),
        "openrouter_streaming_reasoning-0": (None, ("stop", "stop"), 669_000_000),
    }
    failure = ends["openrouter_stream_error-0"].failed
    assert failure[1] == {"upstream_status": 400, "generation_id": "gen-1762179802-UN8pkJI4AGZvryk0kFnb"}
    assert failure[2].reasoning_tokens == 11
    assert failure[3:] == (True, "Token limit reached")


def events_of(body: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in body.strip(b"\n").split(b"\n\n")]


GENERATED = st.lists(
    st.text(max_size=8).map(text)
    | st.text(max_size=8).map(lambda words: chunk({"content": words}, id="gen-2", created=1))
    | st.text(max_size=8).map(lambda words: chunk({"content": "", "reasoning": words}))
    | st.sampled_from(
        [
            chunk(finish="stop"),
            chunk(finish="length"),
            *USAGE_SHAPES.values(),
            ERROR_A,
            ERROR_B,
            ERROR_C,
            DONE,
            b"data: {\n\n",
            b"data: 1\ndata: 2\n\n",
            b"event: x\n\n",
            b"data: {}\n\n",
            text("x") + b"data: " + b"y" * 300,
        ]
    ),
    max_size=10,
)
STREAMS = GENERATED | st.sampled_from([events_of(each.body) for each in streams()])


def cut(data: st.DataObject, wire: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=30)))
    return [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


@settings(deadline=None, max_examples=100)
@given(st.data(), STREAMS, st.sampled_from([b"\n", b"\r\n"]))
def test_cuts_and_keep_alives_anywhere_change_nothing(data, events, line_end):
    whole = relay(*events)
    keep_alives = data.draw(st.lists(st.integers(0, len(events)), max_size=5))
    spread = [(b"" if place not in keep_alives else KEEP_ALIVE * 2) + event for place, event in enumerate(events)]
    wire = b"".join(spread).replace(b"\n", line_end)
    assert relay(*cut(data, wire)) == whole


@settings(deadline=None, max_examples=60)
@given(STREAMS)
def test_a_byte_at_a_time_changes_nothing(events):
    wire = b"".join(events)
    assert relay(*(wire[at : at + 1] for at in range(len(wire)))) == relay(wire)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from([each.body for each in streams()]))
def test_a_recorded_stream_cut_off_anywhere_before_its_finish_is_never_a_success(data, body):
    finish = body.find(b'"finish_reason":"')
    end = data.draw(st.integers(0, finish - 1))
    assert relay(body[:end]).failed is not None


HEADS = st.sampled_from(
    [
        b'{"choices":[{"delta":{"content":"',
        b'{"id":"gen-1","choices":[{"finish_reason":null,"delta":{"role":"assistant","content":"',
        b'{"id":"gen-1","usage":{},"choices":[{"delta":{"content":"',
        b'{"content":"q","choices":[{"delta":{"content":"',
        b'{"choices":[{"delta":\n{"content":"',
        b'{"choices":[{"delta":\ndata: {"content":"',
    ]
)
TAILS = st.sampled_from(
    [
        b'"}}]}',
        b'"}}]} ',
        b'"}}]}\r',
        b'"},"finish_reason":null}],"usage":null}',
        b'"},"finish_reason":"stop"}]}',
        b'","reasoning":"r"}}]}',
        b'","content":"z"}}]}',
        b'"}}],"usage":{}}',
        b'"}}],"usage":{"cost":1,"prompt_tokens":3,"completion_tokens":4}}',
        b'"}}],"error":{"message":"no"}}',
    ]
)
INSIDES = st.text(max_size=5).map(lambda said: json.dumps(said)[1:-1].encode()) | st.sampled_from(
    [
        b"a",
        b"",
        b"\xc3",
        b"\xa4",
        b"\\",
        b'"',
        b',"x',
        b'x",["y',
        b'y"],"x',
        b"a text that no model says",
        b"\\ud83d",
        b"\n\n",
    ]
)
BETWEEN = st.sampled_from([KEEP_ALIVE, b"event: x\n", b"\n", b"data:\n\n", b"data", DONE, b": c\r\n\r\n"])
ENDS = st.sampled_from([b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\n\r\n", b"\n"])


@st.composite
def odd_streams(draw: st.DrawFn) -> bytes:
    """Events that mostly share head and tail, with everything between and inside that must not be taken for text."""
    heads, tails = st.just(draw(HEADS)), st.just(draw(TAILS))
    alike = st.tuples(st.just(b"data: "), heads, INSIDES, tails, st.just(b"\n\n")).map(b"".join)
    other = st.tuples(st.sampled_from([b"data: ", b"data:"]), heads | HEADS, INSIDES, tails | TAILS, ENDS).map(b"".join)
    return b"".join(draw(st.lists(alike | alike | other | BETWEEN, max_size=12)))


@settings(deadline=None, max_examples=400)
@given(st.data(), odd_streams(), st.sampled_from([60, 200, 10_000]))
def test_reading_runs_at_once_is_what_reading_every_event_gives(data, wire, limit):
    pieces = cut(data, wire)
    parser = ChatEvents(max_event_bytes=limit)
    parser._template._tries_left = 0
    assert relay(*pieces, limit=limit) == relay(*pieces, events=parser)


def learnt(payload: bytes) -> TextTemplate:
    template = TextTemplate()
    template.learn(payload)
    return template


@settings(deadline=None)
@given(
    st.lists(st.text(), min_size=1, max_size=6), st.booleans(), st.sampled_from([b"", b"data: {}\n\n", text("x")[:-9]])
)
def test_a_run_of_texts_is_what_the_parser_reads(words, escaped, rest):
    run = b"".join(chunk({"role": "assistant", "content": word}, ascii_only=escaped) for word in words)
    template = learnt(chunk({"role": "assistant", "content": "first"}, ascii_only=escaped)[6:-2])
    received = b"before" + run + rest
    assert template.run_in(received, len(b"before")) == ("".join(words), len(received) - len(rest))


@pytest.mark.parametrize(
    "other",
    [
        text("x").replace(b"null", b'"stop"'),
        text("x").replace(b"gen-1", b"gen-2"),
        text("x").replace(b'"x"', b'"x","reasoning":"y"'),
        text("x").replace(b'"x"', b'"x","y"'),
        text("x").replace(b'"x"', b"null"),
        text("x").replace(b'"x"', b'["x"]'),
        text("x").replace(b'"x"', b'"x'),
        text("x").replace(b'"x"', b'"x\\"'),
        text("x").replace(b'"x"', b'"\xff"'),
        text("x").replace(b'"x"', b'"\n"'),
        text("x").replace(b"\n\n", b" \n\n"),
        text("x").replace(b"\n\n", b"\ndata: y\n\n"),
        text("x").replace(b"data: ", b"data:"),
        chunk({"role": "assistant", "content": "x"}, usage=USAGE),
        chunk({"role": "assistant", "content": "x"}, error={"code": 500}),
        b"",
        b"\n\n",
    ],
)
def test_the_template_leaves_to_the_parser_what_differs_in_more_than_the_text(other):
    template = learnt(text("first")[6:-2])
    assert template.run_in(text("second"), 0) == ("second", len(text("second")))
    assert template.run_in(other, 0) is None
    after = template.run_in(text("second") + other, 0)
    assert after in (None, ("second", len(text("second"))))


@pytest.mark.parametrize(
    "parts",
    [
        (b"\xc3", b"\xa4"),
        (b'x","', b"y\\"),
        (b"x\\", b'","y'),
        (b"x\\", b',"y'),
        (b'x",["y', b"y", b'y"],"x'),
        (b'x",{"y":["y', b"y", b'y"]},"x'),
        (b'x",' + b"[" * 100_000,),
    ],
    ids=["halves of a character", "quotes", "backslash", "backslash and comma", "list", "object", "depth"],
)
def test_broken_texts_make_no_whole_one(parts):
    broken = b"".join(text("x").replace(b'"x"', b'"' + part + b'"') for part in parts)
    assert learnt(text("first")[6:-2]).run_in(broken, 0) is None
    failed = relay(text("first"), broken, limit=1_000_000).failed
    assert failed is not None
    assert failed[1]["fault"] == "malformed_chunk"


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([text("a"), b"data: ", text("b")], "malformed_chunk"),
        ([text("a"), b"data: {}\n", text("b")], "malformed_chunk"),
        ([text("a"), text("b" * 1000)], "oversized_event"),
    ],
    ids=["a cut line", "an event of two lines", "more than an event may have"],
)
def test_what_looks_like_a_text_is_none(pieces, fault):
    outcome = relay(*pieces, limit=500)
    assert outcome.text == "a"
    assert outcome.failed[1]["fault"] == fault


def test_a_text_that_says_its_usage_is_parsed_for_it():
    said = chunk({"role": "assistant", "content": "x"}, usage={})
    assert relay(said, said, chunk(usage=USAGE), said, DONE).usage == relay(chunk(usage=USAGE), said, DONE).usage


def test_a_long_run_is_read_in_bounded_parts():
    event = text("x")
    template, received = learnt(text("first")[6:-2]), event * 1000
    run = template.run_in(received, 0)
    assert run is not None
    assert run[0] == "x" * (run[1] // len(event))
    assert len(run[0]) < 100


@pytest.mark.parametrize(
    "first",
    [
        b'{"id":"gen-1","content":"first","choices":[{"delta":{"content": "first"}}]}',
        b'{"id":"gen-1","choices":[{"delta":{"content":"zero","content":"first"}}]}',
        b'{"id":"gen-1","choices":[{"delta":{"text":"first"}}]}',
        b'{"id":"gen-1","choices":[{"delta":\n{"content":"first"}}]}',
        b'{"id":"gen-1","content":"x","choices":[{"delta":{"content":"a"}}]}',
        b'{"id":"gen-1","content":"x","choices":[{"delta":{"content":"b"}}]}',
        b'{"id":"gen-1","choices":[{"delta":{"content":"first"}}],"choices":[{"delta":{"content":"first"}}]}',
    ],
)
def test_a_text_in_the_wrong_place_makes_no_template(first):
    assert learnt(first).run_in(b"data: " + first + b"\n\n", 0) is None
