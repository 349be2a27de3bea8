"""What of a conversation goes along with a question: bounded by bytes, well-formed, and the same after storing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.context import (
    MAX_KEPT_BYTES,
    MAX_PACKED_BYTES,
    Context,
    fitting,
    for_context,
    from_json,
    parts_size,
    size_of,
    to_json,
)
from functions.chat.domain import MAX_HISTORY_MESSAGES, MESSAGE_OVERHEAD_TOKENS, Message, Settings
from functions.chat.prompt import FRAME_BYTES, messages_of

TEXTS = st.text(max_size=300)


def said(message_id: str, role: str, text: str) -> Message:
    return Message(message_id, None, role, ({"type": "text", "text": text},))


def talk(texts: list[str]) -> tuple[Message, ...]:
    """Question and answer in turns."""
    return tuple(said(f"m{place}", ("user", "assistant")[place % 2], text) for place, text in enumerate(texts))


def ids(messages: Any) -> list[str]:
    return [message.id for message in messages]


PARTS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
    st.builds(lambda name: {"type": "image", "upload_id": "u", "name": name, "content_type": "image/png"}, TEXTS),
    st.builds(lambda text: {"type": "tool_call", "id": text, "name": "f", "arguments": "{}"}, TEXTS),
)
MESSAGES = st.lists(
    st.builds(
        Message,
        st.text(min_size=1, max_size=10),
        st.none() | st.text(max_size=10),
        st.sampled_from(["user", "assistant", "tool"]),
        st.lists(PARTS, max_size=4).map(tuple),
        st.none() | st.text(max_size=20),
    ),
    max_size=8,
)


@given(MESSAGES)
def test_a_context_is_the_same_after_it_was_stored(messages):
    assert from_json(to_json(Context("t", tuple(messages)))) == tuple(messages)


@given(st.lists(TEXTS, min_size=1, max_size=90), st.integers(0, 8_000), st.text(max_size=50))
def test_what_goes_along_is_the_newest_that_fits_and_begins_with_a_question(texts, budget, summary):
    context = Context("t", talk(texts), summary=summary)
    told, chosen = fitting(context, budget)
    assert told == summary or len(told.encode()) <= budget // 4
    assert sum(map(size_of, chosen)) + len(told.encode()) <= max(budget, 8)
    assert len(chosen) <= MAX_HISTORY_MESSAGES
    assert not chosen or chosen[0].role == "user"
    assert not chosen or ids(chosen) == ids(context.messages)[-len(chosen) :]


def test_a_message_larger_than_the_budget_is_cut_in_its_middle():
    long = "start " + "x" * 10_000 + " end"
    _, chosen = fitting(Context("m0", (said("m0", "user", long),)), 1_000)
    assert chosen[0].text.startswith("start ")
    assert chosen[0].text.endswith(" end")
    assert size_of(chosen[0]) <= 1_000


def test_results_of_calls_that_were_cut_off_do_not_go_along():
    call = Message("m1", "m0", "assistant", ({"type": "tool_call", "id": "c", "name": "f", "arguments": "{}"},))
    result = Message("m2", "m1", "tool", ({"type": "tool_result", "tool_call_id": "c", "text": "r" * 50},))
    answer = said("m3", "assistant", "so")
    question = said("m4", "user", "and?")
    context = Context("m4", (said("m0", "user", "x" * 5_000), call, result, answer, question))
    _, chosen = fitting(context, 400)
    assert ids(chosen) == ["m4"]


@given(st.lists(TEXTS, min_size=1, max_size=40), st.lists(TEXTS, min_size=1, max_size=2), st.integers(100, 4_000))
def test_a_context_grows_at_its_end_and_stays_bounded(before, new, budget):
    context = Context("t", talk(before)).followed_by(
        [said(f"n{place}", "user", text) for place, text in enumerate(new)], budget_bytes=budget
    )
    assert context.tip == f"n{len(new) - 1}"
    assert context.messages[-1].id == context.tip
    assert len(context.messages) == 1 or context.bytes <= budget * 1.5


def test_the_last_question_and_its_answer_are_kept_whole_or_left_to_be_read_anew():
    answered = [said("m0", "user", "ä" * 50_000), said("m1", "assistant", "b" * 100_000)]
    context = Context("m", (said("m", "user", "before"),)).followed_by(answered, budget_bytes=32_000)
    assert (context.tip, context.messages) == ("m1", tuple(answered))
    more = context.followed_by([said("m2", "user", "ä" * MAX_KEPT_BYTES)], budget_bytes=256_000)
    assert (more.tip, more.messages) == (None, ())


def test_a_branch_ends_at_the_message_that_was_asked_for():
    context = Context("m3", talk(["a", "b", "c", "d"]), summary="before", summarised_to="m-1")
    assert context.up_to("m3") is context
    earlier = context.up_to("m1")
    assert earlier is not None
    assert (earlier.tip, ids(earlier.messages), earlier.summary) == ("m1", ["m0", "m1"], "before")
    assert context.up_to("elsewhere") is None


def test_a_summary_takes_the_place_of_the_messages_it_covers():
    context = Context("m3", talk(["a", "b", "c", "d"])).summarised("a and b", "m1")
    assert ids(context.messages) == ["m2", "m3"]
    assert (context.summary, context.summarised_to) == ("a and b", "m1")


@pytest.mark.parametrize("hidden", ["reasoning", "citation"])
def test_a_model_is_not_shown_its_reasoning_nor_its_sources(hidden):
    shown = for_context("m1", None, "assistant", [{"type": hidden, "text": "x"}, {"type": "text", "text": "y"}])
    assert [part["type"] for part in shown.parts] == ["text"]


def called(message_id: str, arguments: str = "{}") -> Message:
    part = {"type": "tool_call", "id": f"call-{message_id}", "name": "look", "arguments": arguments}
    return Message(message_id, None, "assistant", (part,))


def found(message_id: str, text: str) -> Message:
    part = {"type": "tool_result", "tool_call_id": f"call-{message_id}", "text": text}
    return Message(f"{message_id}-result", None, "tool", (part,))


def worked(steps: int, result: str, arguments: str = "{}") -> Context:
    """One question, and calls of tools with their results until the last call waits for its own."""
    pairs = [each for step in range(steps) for each in (called(f"m{step}", arguments), found(f"m{step}", result))]
    messages = (said("q", "user", "What is there?"), *pairs, called("last", arguments))
    return Context("last", messages)


def test_an_answer_larger_than_the_budget_does_not_keep_its_question_away():
    long = "start " + "y" * 40_000 + " end"
    context = Context("m1", (said("m0", "user", "Tell all."), said("m1", "assistant", long)))
    _, chosen = fitting(context, 32_000)
    assert ids(chosen) == ["m0", "m1"]
    assert chosen[0].text == "Tell all."
    assert (chosen[1].text[:6], chosen[1].text[-4:]) == ("start ", " end")
    assert sum(map(size_of, chosen)) <= 32_000


def test_results_of_tools_larger_than_the_budget_leave_the_question_and_every_call():
    context = worked(3, "z" * 40_000)
    _, chosen = fitting(context, 32_000)
    assert ids(chosen) == ids(context.messages)
    assert sum(map(size_of, chosen)) <= 32_000
    assert all("[…]" in message.tool_results[0]["text"] for message in chosen if message.role == "tool")


def test_of_very_many_calls_the_newest_go_along_with_the_question():
    context = worked(80, "ok")
    _, chosen = fitting(context, 32_000)
    assert len(chosen) <= MAX_HISTORY_MESSAGES
    assert (chosen[0].id, chosen[1].role, chosen[-1].id) == ("q", "assistant", "last")
    assert ids(chosen)[1:] == ids(context.messages)[-len(chosen) + 1 :]


def test_calls_that_cannot_be_cut_leave_the_oldest_of_them_away():
    _, chosen = fitting(worked(9, "ok", arguments='{"a":"' + "x" * 500 + '"}'), 2_000)
    assert sum(map(size_of, chosen)) <= 2_000
    assert (chosen[0].id, chosen[1].role, chosen[-1].id) == ("q", "assistant", "last")
    assert fitting(worked(0, "ok", arguments='{"a":"' + "x" * 5_000 + '"}'), 2_000)[1] == []


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "call", "tool"]), TEXTS), max_size=40),
    st.integers(0, 4_000),
)
def test_whatever_was_said_what_goes_along_fits_and_ends_as_it_ended(told, budget):
    def made(name: str, role: str, text: str) -> Message:
        if role == "call":
            return called(name)
        return found(name, text) if role == "tool" else said(name, role, text)

    messages = tuple(made(f"m{place}", *each) for place, each in enumerate(told))
    _, chosen = fitting(Context("t", messages), budget)
    assert sum(map(size_of, chosen)) <= budget
    assert len(chosen) <= MAX_HISTORY_MESSAGES
    assert not chosen or chosen[0].role == "user"
    order = ids(messages)
    places = [order.index(each) for each in ids(chosen)]
    assert places == sorted(places)
    assert not chosen or places[-1] == len(messages) - 1


@pytest.mark.parametrize("budget", [1_000, 32_000, 256_000])
@pytest.mark.parametrize("text", ["a", "\x01", '"', "🦘", "\n"])
def test_a_context_fits_into_a_document_whatever_it_is_made_of(text, budget):
    context = Context()
    for place in range(6):
        new = [said(f"q{place}", "user", text * 100_000), said(f"a{place}", "assistant", text * (800_000 // 4))]
        context = context.followed_by(new, budget_bytes=budget)
        assert len(to_json(context).encode()) <= MAX_PACKED_BYTES
        assert context.messages or context.tip is None


def test_a_context_fits_into_a_document_with_as_many_attachments_as_there_may_be():
    file = {"type": "file", "upload_id": "u" * 30, "name": "ä" * 200, "content_type": "text/plain", "size_bytes": 9}
    context = Context()
    for place in range(100):
        question = Message(f"q{place}", None, "user", tuple({**file} for _ in range(10)))
        context = context.followed_by([question, said(f"a{place}", "assistant", "ok")], budget_bytes=256_000)
        assert len(to_json(context).encode()) <= MAX_PACKED_BYTES


def test_what_no_document_can_hold_is_left_to_be_read_anew():
    call = called("m1", '{"a":"' + '\\"' * 380_000 + '"}')
    context = Context().followed_by([said("m0", "user", "go"), call], budget_bytes=32_000)
    assert (context.tip, context.messages) == (None, ())


def test_parts_are_counted_with_what_goes_along_with_them():
    """Texts of one message are joined, and each result of a tool is a message of its own, with the id of its call."""
    texts = tuple({"type": "text", "text": "x"} for _ in range(32))
    assert parts_size(texts) >= len("\n\n".join("x" for _ in range(32)))
    results = [{"type": "tool_result", "tool_call_id": "c" * 200, "text": ""}] * 128
    assert parts_size(results) >= 128 * (200 + MESSAGE_OVERHEAD_TOKENS)


def text_sent(messages: list[dict[str, Any]]) -> int:
    """The bytes of all that a model reads of these messages, whatever its chat format makes of them."""
    read = 0
    for message in messages:
        content = message["content"]
        parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
        calls = message.get("tool_calls", [])
        named = [text for call in calls for text in (call["id"], *call["function"].values())]
        details = [to_text(message["reasoning_details"])] if "reasoning_details" in message else []
        read += sum(len(text.encode()) for text in (*parts, *named, *details, message.get("tool_call_id", "")))
    return read


def to_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


DETAILS = st.none() | st.builds(lambda text: to_text([{"type": "reasoning.text", "text": text}]), TEXTS)
STEPS = st.lists(
    st.one_of(
        st.builds(lambda texts: ("user", texts, None), st.lists(TEXTS, min_size=1, max_size=5)),
        st.builds(lambda text: ("assistant", [text], None), TEXTS),
        st.builds(lambda texts, details: ("work", texts, details), st.lists(TEXTS, min_size=1, max_size=3), DETAILS),
    ),
    max_size=12,
)


@given(STEPS, st.integers(0, 3_000), st.text(max_size=400), st.text(max_size=50), st.booleans())
def test_all_that_a_model_reads_of_a_conversation_is_held_for(steps, budget, summary, system_prompt, go_on):
    messages: list[Message] = []
    for place, (role, texts, details) in enumerate(steps):
        if role != "work":
            parts = tuple({"type": "text", "text": text} for text in texts)
            messages.append(Message(f"m{place}", None, role, parts))
            continue
        ids_of_calls = [f"call-{place}-{number}-{text[:9]}" for number, text in enumerate(texts)]
        calls = [
            {"type": "tool_call", "id": each, "name": "look", "arguments": to_text({"q": text})}
            for each, text in zip(ids_of_calls, texts, strict=True)
        ]
        results = [
            {"type": "tool_result", "tool_call_id": each, "text": text}
            for each, text in zip(ids_of_calls, texts, strict=True)
        ]
        messages.append(Message(f"m{place}", None, "assistant", tuple(calls), reasoning_details=details))
        messages.append(Message(f"r{place}", None, "tool", tuple(results)))
    told, chosen = fitting(Context("t", tuple(messages), summary=summary), budget)
    sent = messages_of(Settings(system_prompt=system_prompt), told, chosen, {}, go_on=go_on)
    assert text_sent(sent) <= budget + len(system_prompt.encode()) + FRAME_BYTES
