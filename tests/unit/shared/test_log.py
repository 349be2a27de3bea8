"""Each record is one line of JSON, written at once, and tells nobody who the user was."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import log
from shared.settings import settings
from shared.trace import Trace, set_trace

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
MOST_BYTES = 64 * 1024


@pytest.fixture
def writes(monkeypatch):
    """Every single write of the logger."""
    written: list[tuple[int, bytes]] = []
    monkeypatch.setattr(log, "os", SimpleNamespace(write=lambda place, line: written.append((place, line))))
    return written


def test_a_record_is_one_write_of_one_line_to_standard_output(writes):
    log.info("hello\nworld", answer=42)
    [(place, line)] = writes
    assert place == 1
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    record = json.loads(line)
    assert (record["severity"], record["message"], record["answer"]) == ("INFO", "hello\nworld", 42)


@pytest.mark.parametrize(("write", "severity"), [(log.info, "INFO"), (log.warning, "WARNING"), (log.error, "ERROR")])
def test_the_severity_is_the_one_that_cloud_logging_knows(logged, write, severity):
    write("something")
    [record] = logged()
    assert record["severity"] == severity


def test_a_record_carries_the_trace_as_cloud_logging_reads_it(logged):
    set_trace(TRACE)
    log.info("something")
    [record] = logged()
    assert record["logging.googleapis.com/trace"] == f"projects/demo-craftpilot/traces/{TRACE.trace_id}"
    assert record["logging.googleapis.com/spanId"] == TRACE.span_id


def test_moments_and_decimals_survive(logged):
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    log.info("something", at=moment, price=Decimal("0.000001"))
    [record] = logged()
    assert datetime.fromisoformat(record["at"]) == moment
    assert Decimal(record["price"]) == Decimal("0.000001")


def test_the_cause_goes_along_with_its_traceback(logged):
    def break_it() -> None:
        raise ValueError("what went wrong")

    try:
        break_it()
    except ValueError as error:
        log.error("it broke", cause=error)
    [record] = logged()
    assert "in break_it" in record["stack_trace"]
    assert record["stack_trace"].rstrip().endswith("ValueError: what went wrong")


@pytest.mark.parametrize("character", ["x", "\N{SNOWMAN}", "\x00", '"'])
def test_a_record_that_is_too_long_is_shortened_and_says_so(writes, character):
    set_trace(TRACE)
    log.error("start " + character * 200_000, detail=character * 200_000)
    [(_, line)] = writes
    assert len(line) <= MOST_BYTES + 1
    record = json.loads(line)
    assert record["shortened"] is True
    assert record["severity"] == "ERROR"
    assert record["message"].startswith("start ")
    assert TRACE.trace_id in record["logging.googleapis.com/trace"]


def test_half_a_surrogate_pair_does_not_break_logging(logged):
    log.info("cut \ud83d here", text="\udc00")
    [record] = logged()
    assert record["message"] == "cut \ud83d here"
    assert record["text"] == "\udc00"


@given(
    st.text(st.characters(exclude_categories=())),
    st.dictionaries(st.sampled_from(["a", "b"]), st.text() | st.integers() | st.none() | st.lists(st.booleans())),
)
def test_whatever_is_logged_is_one_line_of_json(message, fields):
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "os", SimpleNamespace(write=lambda _, line: written.append(line)))
        log.info(message, **fields)
    [line] = written
    assert line.count(b"\n") == 1
    assert json.loads(line) | {"message": message, **fields} == json.loads(line)


def test_a_user_in_a_log_is_recognised_but_not_named():
    assert log.uid_hash("user-1") == log.uid_hash("user-1")
    assert log.uid_hash("user-1") != log.uid_hash("user-2")
    assert "user-1" not in log.uid_hash("user-1")
    assert len(log.uid_hash("user-1")) == 16


def test_the_key_that_pays_does_not_show_in_the_settings():
    assert settings().openrouter_api_key == "sk-or-v1-of-nobody"
    assert "sk-or-v1-of-nobody" not in repr(settings())
