"""Blocks move every port together, and give programs the environment that leads to them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.block import Block, Tenancy, running
from emulator.cli import change_settings
from emulator.console import SuiteError
from emulator.parts import PARTS, STORE_PARTS, ports_of

DESIGNED = {"hosting": 5000, "functions": 5001, "auth": 9099, "firestore": 8080, "pubsub": 8085, "redis": 6390}


def test_the_dev_block_has_the_ports_everybody_knows() -> None:
    numbers = Block.named("dev").numbers

    assert {name: numbers[name] for name in DESIGNED} == DESIGNED


def test_the_test_block_lies_ten_thousand_higher() -> None:
    numbers = Block.named("test").numbers

    assert {name: numbers[name] for name in DESIGNED} == {name: port + 10_000 for name, port in DESIGNED.items()}


@given(st.integers(min_value=1, max_value=50_000))
def test_any_offset_moves_every_port_by_itself(offset: int) -> None:
    moved = Block.named("dev", offset)

    assert {name: number - offset for name, number in moved.numbers.items()} == dict(Block.named("dev").numbers)


def test_dev_and_test_can_run_side_by_side() -> None:
    dev, test = Block.named("dev"), Block.named("test")

    assert set(dev.numbers.values()).isdisjoint(test.numbers.values())
    assert dev.folder != test.folder
    assert dev.firebase_config != test.firebase_config
    assert dev.mark != test.mark


def test_an_unusual_offset_makes_a_block_of_its_own() -> None:
    assert Block.named("dev", 20_000).folder != Block.named("dev").folder
    assert Block.named("dev", 0) == Block.named("dev")


def test_an_offset_beyond_the_last_port_is_refused_with_the_port_it_concerns() -> None:
    with pytest.raises(SuiteError, match="the port of redis would be 66390; ports end at 65535"):
        Block.named("dev", 60_000)


def test_an_unknown_block_needs_an_offset() -> None:
    with pytest.raises(SuiteError, match="give --port-offset"):
        Block.named("blue")


def test_the_firebase_configuration_lies_beside_firebase_json() -> None:
    block = Block.named("test")

    assert block.firebase_config == block.root / ".firebase.test.json"


def test_the_environment_leads_to_the_blocks_own_ports() -> None:
    environment = Block.named("test").environment

    assert environment["FIRESTORE_EMULATOR_HOST"] == "127.0.0.1:18080"
    assert environment["FIREBASE_AUTH_EMULATOR_HOST"] == "127.0.0.1:19099"
    assert environment["PUBSUB_EMULATOR_HOST"] == "127.0.0.1:18085"
    assert environment["REDIS_URL"] == "redis://127.0.0.1:16390/0"
    assert environment["OPENROUTER_BASE_URL"] == "http://127.0.0.1:18790/api/v1"
    assert environment["CRAFTPILOT_OPENROUTER_URL"] == "http://127.0.0.1:18790"
    assert environment["CRAFTPILOT_HOSTING_URL"] == "http://127.0.0.1:15000"
    assert environment["CRAFTPILOT_FUNCTIONS_URL"] == "http://127.0.0.1:15001/demo-craftpilot/us-central1"


def test_the_environment_never_names_a_real_project() -> None:
    environment = Block.named("dev").environment

    assert environment["GCLOUD_PROJECT"] == environment["GOOGLE_CLOUD_PROJECT"] == "demo-craftpilot"
    assert environment["FUNCTIONS_EMULATOR"] == "true"


def test_a_block_of_few_parts_gives_only_their_environment() -> None:
    environment = Block("store", ports_of(STORE_PARTS), STORE_PARTS).environment

    assert "FIRESTORE_EMULATOR_HOST" in environment
    assert "REDIS_URL" in environment
    assert "FIREBASE_AUTH_EMULATOR_HOST" not in environment


def test_no_setting_of_the_product_is_kept_from_its_emulator() -> None:
    block = Block.named("dev")

    assert set(block.settings) | set(block.secrets) <= set(block.environment)


def test_a_block_is_held_by_one_launcher_at_a_time(tmp_path: Path) -> None:
    block = Block("dev", {}, PARTS, tmp_path)
    first, second = Tenancy(block), Tenancy(block)

    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_a_suite_is_found_while_it_is_held_and_described(tmp_path: Path) -> None:
    block = Block("dev", {}, PARTS, tmp_path)
    tenancy = Tenancy(block)
    assert running(block) is None
    assert tenancy.acquire()
    tenancy.describe({"pid": os.getpid()})

    assert running(block) == {"pid": os.getpid()}
    tenancy.release()
    assert running(block) is None


def test_the_description_of_a_killed_launcher_is_not_taken_for_a_running_suite(tmp_path: Path) -> None:
    block = Block("dev", {}, PARTS, tmp_path)
    block.folder.mkdir(parents=True)
    (block.folder / "suite.json").write_text(json.dumps({"pid": os.getpid()}))  # the number was given out again

    assert running(block) is None


def test_a_setting_of_the_product_can_be_given_another_value():
    block = Block.named("dev")
    change_settings(block, ["OPENROUTER_BASE_URL=https://models.example/api/v1"])
    assert block.settings["OPENROUTER_BASE_URL"] == "https://models.example/api/v1"
    assert block.environment["OPENROUTER_BASE_URL"] == "https://models.example/api/v1"


@pytest.mark.parametrize("assignment", ["OPENROUTER_BASE_URL", "UNKNOWN=1", "=", ""])
def test_a_setting_that_nobody_reads_is_refused(assignment):
    with pytest.raises(SuiteError, match="OPENROUTER_BASE_URL"):
        change_settings(Block.named("dev"), [assignment])
