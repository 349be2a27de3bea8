"""The table of faults: how they are written, what is refused, and how the queue gives them out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter import faults
from emulator.openrouter.faults import FaultQueue, QueuedFaults, UnknownFault

README = Path(faults.__file__).with_name("README.md")


def test_a_header_names_several_faults():
    asked = faults.parse("chunk_delay_ms=50, usage_shape=ii,byok")
    assert asked.number("chunk_delay_ms") == 50
    assert asked.choice("usage_shape") == "ii"
    assert asked.flag("byok")
    assert str(asked) == "chunk_delay_ms=50,usage_shape=ii,byok"


def test_the_bare_name_takes_the_default():
    assert faults.parse("stream_error_a").number("stream_error_a") == 2
    assert faults.parse("error_200").choice("error_200") == "body"


@pytest.mark.parametrize(
    "asked",
    ["nonsense", "status", "status=418", "chunk_delay_ms=-1", "chunk_delay_ms=fast", "byok=maybe", "split=9999999999"],
)
def test_what_is_not_in_the_table_is_refused(asked):
    with pytest.raises(UnknownFault):
        faults.parse(asked)


def test_the_model_name_carries_faults():
    slug, asked = faults.split_model("openai/gpt-4o-mini#status=429+retry_after=7")
    assert slug == "openai/gpt-4o-mini"
    assert dict(asked.values) == {"status": "429", "retry_after": 7}
    assert faults.split_model("openai/gpt-4o-mini") == ("openai/gpt-4o-mini", faults.NO_FAULTS)


def test_the_control_surface_may_use_json_values():
    assert dict(faults.from_mapping({"status": 429, "byok": True, "permaslug": False}).values) == {
        "status": "429",
        "byok": True,
    }


def test_the_more_particular_fault_wins():
    merged = faults.parse("split=3,byok").merged(faults.parse("split=7"))
    assert dict(merged.values) == {"split": 7, "byok": True}


@given(st.sampled_from(faults.TABLE))
def test_every_fault_survives_being_written_and_read(fault):
    value = {"flag": True, "number": 3, "choice": fault.choices[0] if fault.choices else ""}[fault.kind]
    asked = faults.from_mapping({fault.name: value})
    assert faults.parse(str(asked)) == asked


def test_queued_faults_are_used_up_by_matching_requests_only():
    queue = FaultQueue()
    queue.add(QueuedFaults(2, faults.parse("status=500"), model="openai/o3", path="/chat/completions"))
    assert not queue.take("/api/v1/embeddings", "openai/o3")
    assert not queue.take("/api/v1/chat/completions", "openai/gpt-4o-mini")
    taken = [queue.take("/api/v1/chat/completions", "openai/o3").choice("status") for _ in range(3)]
    assert taken == ["500", "500", None]


def test_the_oldest_matching_entry_goes_first():
    queue = FaultQueue()
    queue.add(QueuedFaults(1, faults.parse("status=500")))
    queue.add(QueuedFaults(1, faults.parse("status=503")))
    assert [queue.take("/x", None).choice("status") for _ in range(3)] == ["500", "503", None]


def test_the_readme_shows_the_table_as_it_is():
    assert faults.as_markdown() in README.read_text(encoding="utf-8")
