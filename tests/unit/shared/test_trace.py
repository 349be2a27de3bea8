"""A trace goes on from whoever began it, and a malformed one never gets in."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.trace import Trace, continue_trace, current_trace, new_trace, set_trace

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


def test_a_traceparent_is_continued_with_a_span_of_our_own():
    trace = continue_trace(TRACEPARENT)
    assert trace.trace_id == TRACE_ID
    assert trace.span_id != SPAN_ID


@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_sampling_decision_is_handed_on(flags):
    assert continue_trace(f"00-{TRACE_ID}-{SPAN_ID}-{flags}").flags == flags


@pytest.mark.parametrize("header", [f"{TRACE_ID}/123;o=1", f"{TRACE_ID}/123", f"{TRACE_ID};o=0", TRACE_ID])
def test_googles_header_is_continued_when_there_is_no_traceparent(header):
    assert continue_trace(None, header).trace_id == TRACE_ID


def test_a_traceparent_goes_before_googles_header():
    assert continue_trace(TRACEPARENT, f"{'a' * 32}/1;o=1").trace_id == TRACE_ID


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "garbage",
        TRACEPARENT.upper(),
        TRACEPARENT + "\n",
        TRACEPARENT + "-more",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}",
    ],
)
def test_a_malformed_traceparent_begins_a_new_trace(traceparent):
    assert continue_trace(traceparent).trace_id not in {TRACE_ID, "0" * 32}


@pytest.mark.parametrize("header", ["", "garbage", f"{'0' * 32}/1;o=1", f"{TRACE_ID}/x", f"{TRACE_ID[:-1]}/1"])
def test_a_malformed_google_header_begins_a_new_trace(header):
    assert continue_trace(None, header).trace_id not in {TRACE_ID, "0" * 32}


@given(st.text(), st.text())
def test_whatever_the_headers_hold_the_trace_that_is_handed_on_is_well_formed(traceparent, cloud_trace):
    made = continue_trace(traceparent, cloud_trace).traceparent
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", made)


def test_what_one_process_hands_on_the_next_continues():
    first = new_trace()
    assert continue_trace(first.traceparent).trace_id == first.trace_id


def test_the_trace_of_a_context_stays_until_another_is_set():
    trace = Trace(TRACE_ID, SPAN_ID)
    set_trace(trace)
    assert current_trace() is trace
    assert current_trace() is trace
