"""The Firebase JS SDK: sign-in, the callable `chat_send` plain and streaming, and live listeners under the rules."""

from itertools import pairwise

import pytest

from tests.clients.conftest import INSTALLING_TAKES_ITS_TIME

pytestmark = INSTALLING_TAKES_ITS_TIME

UNHURRIED = "chunk_delay_ms=20"
"""Without pauses all of an answer arrives at once, and nothing shows that it is streamed."""


@pytest.fixture(scope="module")
def seen(script, provider_fault):
    """What an app saw that asked twice, was refused a few times, and then signed out."""
    provider_fault(UNHURRIED, times=2)
    return script("chat_send.mjs")


def test_a_plain_call_gives_the_finished_turn(seen):
    plain = seen["plain"]
    assert plain["message"]["status"] == "completed"
    assert plain["message"]["parent_id"] == plain["user_message"]["id"]
    assert plain["usage"]["completion_tokens"] > 0
    assert plain["credits"]["charged_micro"] > 0


def test_a_streamed_call_gives_the_text_piece_by_piece_and_then_the_turn(seen):
    streamed = seen["streamed"]
    assert "streamError" not in streamed
    pieces = [message["text"] for message in streamed["messages"] if message["type"] == "text"]
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(streamed["result"]["message"])


def test_a_stream_begins_with_the_ids_of_what_it_makes(seen):
    start, result = seen["streamed"]["messages"][0], seen["streamed"]["result"]
    assert start["type"] == "start"
    assert start["message_id"] == result["message"]["id"]
    assert start["user_message_id"] == result["user_message"]["id"]
    assert start["generation_id"] == result["generation_id"]
    assert start["conversation_id"] == result["conversation_id"] == seen["plain"]["conversation_id"]


def test_a_listener_sees_the_messages_appear_and_their_stored_text_is_the_streamed_one(seen):
    first, last = seen["messages"][0], seen["messages"][-1]
    assert len(first) <= 2
    answers = [seen["plain"]["message"], seen["streamed"]["result"]["message"]]
    assert len(last) == 4
    assert [message["role"] for message in last] == ["user", "assistant"] * 2
    assert [message["text"] for message in last[1::2]] == [text_of(answer) for answer in answers]
    assert {message["status"] for message in last} == {"completed"}


def test_the_second_turn_continues_the_first(seen):
    last = seen["messages"][-1]
    assert [message["parent_id"] for message in last[1:]] == [message["id"] for message in last[:-1]]


def test_a_listener_sees_the_hold_and_then_the_exact_charge(seen):
    balances = seen["balances"]
    charged = sum(turn["credits"]["charged_micro"] for turn in (seen["plain"], seen["streamed"]["result"]))
    assert balances[0]["available_micro"] - balances[-1]["available_micro"] == charged > 0
    assert balances[0]["held_micro"] == balances[-1]["held_micro"] == 0
    assert any(balance["held_micro"] > 0 for balance in balances)
    assert all(before != after for before, after in pairwise(balances))


@pytest.mark.parametrize("how", ["unknown_model", "unknown_model_streaming"])
def test_an_unknown_model_is_an_invalid_argument_that_names_the_field(seen, how):
    error = error_of(seen["refused"][how])
    assert error["code"] == "functions/invalid-argument"
    assert error["details"]["code"] == "invalid_request"
    assert [problem["field"] for problem in error["details"]["errors"]] == ["model"]
    assert len(error["details"]["trace_id"]) == 32


def test_a_conversation_of_nobody_is_not_found(seen):
    assert seen["refused"]["foreign_conversation"]["code"] == "functions/not-found"


@pytest.mark.parametrize("how", ["signed_out", "signed_out_streaming"])
def test_a_call_without_a_user_is_unauthenticated(seen, how):
    error = error_of(seen["refused"][how])
    assert error["code"] == "functions/unauthenticated"
    assert error["details"]["code"] == "unauthenticated"


def test_a_provider_that_breaks_off_ends_the_stream_with_an_error_and_the_partial_answer_is_kept(
    script, provider_fault
):
    provider_fault("stream_error_d=3")
    seen = script("chat_send_broken.mjs")
    streamed = seen["streamed"]
    partial = "".join(message["text"] for message in streamed["messages"] if message["type"] == "text")
    assert partial
    assert "result" not in streamed
    assert streamed["streamError"] == streamed["resultError"]
    assert streamed["streamError"]["code"] == "functions/unavailable"
    (answer,) = [message for message in seen["stored"] if message["role"] == "assistant"]
    assert answer["status"] == "failed"
    assert text_of(answer) == partial


def error_of(outcome):
    """The error of a plain call, or that of a streaming one, which both its ends must tell alike."""
    if "messages" not in outcome:
        return outcome
    assert "unsettled" not in outcome, "the refusal was no event stream: the SDK waits for ever"
    assert outcome["messages"] == []
    assert outcome["streamError"] == outcome["resultError"]
    return outcome["streamError"]


def text_of(message):
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")
