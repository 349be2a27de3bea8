"""The table of parts holds together: no two parts meet on a port, and every text in it can be filled in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from emulator.block import OFFSETS, Block
from emulator.firebase_config import EMULATORS
from emulator.parts import FIREBASE, PARTS, REDIS, STORE_PARTS, Part, ports_of, selected

PROGRAMS = ("python", "node", "java", "redis_server", "firebase_tools", "firestore_jar")
PLACES = ("root", "folder", "firebase_config", "rules")
FILLED = {name: f"<{name}>" for name in (*PROGRAMS, *PLACES)}


@pytest.mark.parametrize("part", [*PARTS, *STORE_PARTS], ids=lambda part: part.name)
def test_every_text_of_a_part_can_be_filled_in(part: Part) -> None:
    block = Block("dev", ports_of(STORE_PARTS if part in STORE_PARTS else PARTS))
    texts = [*part.command, part.cwd, *part.environment.values(), *part.settings.values(), *part.exports.values()]

    filled = [block.fill(text, **FILLED) for text in [*texts, *part.pages.values()]]

    assert not any("{" in text for text in filled)


def test_two_parts_may_not_claim_the_same_port_number() -> None:
    other = dataclasses.replace(REDIS, name="other", ports={"other": 6390})

    with pytest.raises(ValueError, match="other: the port other = 6390 is taken"):
        ports_of([REDIS, other])


def test_two_parts_may_not_claim_the_same_port_name() -> None:
    other = dataclasses.replace(REDIS, name="other", ports={"redis": 6391})

    with pytest.raises(ValueError, match="other: the port redis = 6391 is taken"):
        ports_of([REDIS, other])


def test_no_two_parts_have_one_name() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)


def test_no_two_parts_give_the_same_setting() -> None:
    names = [name for part in PARTS for name in (*part.settings, *part.secrets, *part.exports)]

    assert len(names) == len(set(names))


def test_what_a_part_needs_is_in_the_table_before_it() -> None:
    for position, part in enumerate(PARTS):
        assert set(part.needs) <= {earlier.name for earlier in PARTS[:position]}


def test_every_port_firebase_tools_would_choose_by_itself_is_fixed() -> None:
    assert set(FIREBASE.ports) == {*EMULATORS, "firestore_websocket", "workers"}


def test_the_range_of_the_workers_holds_no_port_of_a_part() -> None:
    for first in (ports_of(PARTS)["workers"] + offset for offset in OFFSETS.values()):
        others = {number for offset in OFFSETS.values() for number in Block.named("dev", offset).numbers.values()}
        assert others & set(range(first, first + 1000)) == {first}


def test_the_clock_is_left_out_unless_asked_for() -> None:
    without = selected(PARTS, clock=False)

    assert [part.name for part in selected(PARTS, clock=True) if part not in without] == ["scheduler"]


def test_the_file_firebase_tools_is_started_with_exists() -> None:
    block = Block.named("dev")
    preload = next(word for word in FIREBASE.command if word.endswith(".cjs"))

    assert Path(block.fill(preload, **{**FILLED, "root": str(block.root)})).exists()
