"""What firebase-tools is given in a block is firebase.json, and only where it must differ does it differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.block import Block
from emulator.console import SuiteError
from emulator.firebase_config import complete_secrets, derive, write
from emulator.parts import PARTS, ports_of

CONFIG: dict[str, Any] = {
    "functions": {"source": ".", "runtime": "python311", "ignore": ["venv", "tests"]},
    "hosting": {"public": "web/public", "rewrites": [{"source": "/api/**", "function": {"functionId": "chat"}}]},
    "firestore": {"rules": "firestore.rules"},
}
NUMBERS = ports_of(PARTS)


@pytest.fixture
def block(tmp_path: Path) -> Block:
    (tmp_path / "firebase.json").write_text(json.dumps(CONFIG))
    return Block("test", NUMBERS, PARTS, tmp_path)


def test_hosting_and_rules_are_those_that_are_deployed() -> None:
    derived = derive(CONFIG, NUMBERS, "python312", ".suite/test/env")

    assert derived["hosting"] == CONFIG["hosting"]
    assert derived["firestore"] == CONFIG["firestore"]


def test_the_runtime_is_that_of_the_virtual_environment() -> None:
    (codebase,) = derive(CONFIG, NUMBERS, "python312", ".suite/test/env")["functions"]

    assert codebase == {**CONFIG["functions"], "runtime": "python312", "configDir": ".suite/test/env"}


def test_every_codebase_of_a_list_is_given_the_blocks_settings() -> None:
    config = {"functions": [{"source": ".", "codebase": "a"}, {"source": "b", "codebase": "b"}]}

    derived = derive(config, NUMBERS, "python311", "env")

    assert [codebase["configDir"] for codebase in derived["functions"]] == ["env", "env"]
    assert [codebase["source"] for codebase in derived["functions"]] == [".", "b"]


def test_every_emulator_listens_on_this_machine_alone() -> None:
    emulators = derive(CONFIG, NUMBERS, "python311", "env")["emulators"]
    listening = {name: one for name, one in emulators.items() if isinstance(one, dict) and "port" in one}

    assert {one["host"] for one in listening.values()} == {"127.0.0.1"}
    assert {name: one["port"] for name, one in listening.items()} == {name: NUMBERS[name] for name in listening}
    assert emulators["firestore"]["websocketPort"] == NUMBERS["firestore_websocket"]
    assert emulators["ui"] == {"enabled": False}


def test_firebase_json_itself_is_not_touched(block: Block) -> None:
    before = (block.root / "firebase.json").read_bytes()

    write(block, "python311")

    assert (block.root / "firebase.json").read_bytes() == before
    assert json.loads(block.firebase_config.read_text())["functions"][0]["configDir"] == ".suite/test/env"


def test_the_settings_are_written_for_the_project_of_the_suite(block: Block) -> None:
    write(block, "python311")

    lines = (block.settings_folder / ".env.demo-craftpilot").read_text().splitlines()
    assert f"REDIS_URL=redis://127.0.0.1:{NUMBERS['redis']}/0" in lines
    assert not any(line.startswith("OPENROUTER_API_KEY") for line in lines)  # a secret is not a setting


def test_defaults_that_firebase_tools_resolved_in_an_earlier_run_are_forgotten(block: Block) -> None:
    write(block, "python311")
    (block.settings_folder / ".env.local").write_text("OLD_DEFAULT=1\n")

    write(block, "python311")

    assert not (block.settings_folder / ".env.local").exists()


def test_a_secret_that_a_person_has_set_is_kept(tmp_path: Path) -> None:
    path = tmp_path / ".secret.local"
    path.write_text("A=mine")

    complete_secrets(path, {"A": "ours", "B": "ours"})

    assert path.read_text() == "A=mine\nB=ours\n"


def test_complete_secrets_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / ".secret.local"
    complete_secrets(path, {"A": "ours"})
    path.chmod(0o400)
    before = path.stat().st_mtime_ns

    complete_secrets(path, {"A": "ours"})

    assert path.stat().st_mtime_ns == before


def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / ".secret.local"

    complete_secrets(path, {"A": "ours"})

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_missing_firebase_json_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"There is no firebase\.json in"):
        write(Block("test", NUMBERS, PARTS, tmp_path), "python311")


def test_a_broken_firebase_json_is_said_plainly(block: Block) -> None:
    (block.root / "firebase.json").write_text("{")

    with pytest.raises(SuiteError, match=r"firebase\.json is not JSON"):
        write(block, "python311")
