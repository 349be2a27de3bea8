"""What firebase-tools reads in a block: its configuration, derived from firebase.json, and the product's settings."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from emulator.block import HOST, PROJECT
from emulator.console import SuiteError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from emulator.block import Block

EMULATORS = ("hosting", "functions", "auth", "firestore", "pubsub", "hub", "logging", "eventarc", "tasks")


def derive(config: Mapping[str, Any], numbers: Mapping[str, int], runtime: str, settings_folder: str) -> dict[str, Any]:
    """firebase.json with this block's ports, the runtime of the virtual environment and the settings' folder."""
    functions = config.get("functions", [])
    codebases = functions if isinstance(functions, list) else [functions]
    return {
        **config,
        "functions": [{**codebase, "runtime": runtime, "configDir": settings_folder} for codebase in codebases],
        "emulators": emulators(numbers),
    }


def emulators(numbers: Mapping[str, int]) -> dict[str, Any]:
    """Every port is fixed, the hidden ones too: two suites would otherwise meet on them."""
    listed: dict[str, Any] = {name: {"host": HOST, "port": numbers[name]} for name in EMULATORS}
    listed["firestore"]["websocketPort"] = numbers["firestore_websocket"]
    return {**listed, "ui": {"enabled": False}, "singleProjectMode": True}


def dotenv(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(settings.items()))


def write(block: Block, runtime: str) -> None:
    """Write the block's configuration, settings and, where they are missing, the local secrets."""
    source = block.root / "firebase.json"
    if not source.exists():
        raise SuiteError(f"There is no firebase.json in {block.root}.")
    try:
        config = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SuiteError(f"firebase.json is not JSON: {error}") from error
    folder = block.settings_folder.relative_to(block.root).as_posix()
    derived = derive(config, block.numbers, runtime, folder)
    block.firebase_config.write_text(json.dumps(derived, indent=2) + "\n", encoding="utf-8")
    # firebase-tools adds a .env.local with the defaults it resolved; one of an earlier run would hide newer defaults.
    shutil.rmtree(block.settings_folder, ignore_errors=True)
    block.settings_folder.mkdir(parents=True)
    (block.settings_folder / f".env.{PROJECT}").write_text(dotenv(block.settings), encoding="utf-8")
    complete_secrets(block.root / ".secret.local", block.secrets)


def complete_secrets(path: Path, secrets: Mapping[str, str]) -> None:
    """Add the secrets a person has not set; firebase-tools would ask Secret Manager for a missing one."""
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    names = {line.partition("=")[0].strip() for line in present.splitlines()}
    missing = {name: value for name, value in secrets.items() if name not in names}
    if missing:
        separator = "" if not present or present.endswith("\n") else "\n"
        path.write_text(present + separator + dotenv(missing), encoding="utf-8")
        path.chmod(0o600)
