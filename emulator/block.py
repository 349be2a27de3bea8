"""A block of ports: the suite's ports moved together, so that several suites run side by side from one checkout.

A block owns `.suite/<name>/`: its logs, its generated settings and, while it runs, `suite.json`.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.console import SuiteError
from emulator.parts import PARTS, ports_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from emulator.parts import Part

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
PROJECT = "demo-craftpilot"
REGION = "us-central1"
OFFSETS = {"dev": 0, "test": 10_000}
HIGHEST_PORT = 65_535


@dataclass(frozen=True)
class Block:
    """A named set of ports. `numbers` maps a port's name in the table of parts to its number in this block."""

    name: str
    numbers: Mapping[str, int]
    parts: tuple[Part, ...] = PARTS
    root: Path = ROOT

    @classmethod
    def named(cls, name: str, offset: int | None = None, *, root: Path = ROOT) -> Block:
        """`dev` and `test` have an offset of their own; any other offset makes a block of its own name."""
        usual = OFFSETS.get(name)
        if offset is None and usual is None:
            raise SuiteError(f"The block {name!r} has no ports of its own: give --port-offset.")
        if offset is None or offset == usual:
            return cls(name, shifted(PARTS, usual or 0), root=root)
        return cls(f"{name}-{offset}", shifted(PARTS, offset), root=root)

    @property
    def folder(self) -> Path:
        return self.root / ".suite" / self.name

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def settings_folder(self) -> Path:
        """Where firebase-tools finds this block's `.env` (`functions.configDir`)."""
        return self.folder / "env"

    @property
    def firebase_config(self) -> Path:
        """Beside firebase.json: firebase-tools resolves paths from the folder of its configuration."""
        return self.root / f".firebase.{self.name}.json"

    @property
    def mark(self) -> str:
        return f"{self.root}:{self.name}"

    def fill(self, template: str, **more: str) -> str:
        """Replace `{port name}` and the given names in a text of the table of parts."""
        return template.format_map({**self.numbers, "host": HOST, "project": PROJECT, "region": REGION, **more})

    @cached_property
    def settings(self) -> dict[str, str]:
        """Deployment settings of the product in this block (Firebase params in production)."""
        return self._filled(*(part.settings for part in self.parts))

    @cached_property
    def secrets(self) -> dict[str, str]:
        return {name: value for part in self.parts for name, value in part.secrets.items()}

    @cached_property
    def environment(self) -> dict[str, str]:
        """What a program needs to speak to this block's parts, or to be the product in it."""
        return {
            "FUNCTIONS_EMULATOR": "true",
            "GCLOUD_PROJECT": PROJECT,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            # Google's libraries would otherwise look for a metadata server on the network.
            "METADATA_SERVER_DETECTION": "none",
            **self._filled(*(part.exports for part in self.parts)),
            **self.settings,
            **self.secrets,
            "CRAFTPILOT_SUITE_LOGS": str(self.logs),
        }

    def _filled(self, *templates: Mapping[str, str]) -> dict[str, str]:
        return {name: self.fill(value) for table in templates for name, value in table.items()}


def shifted(parts: Iterable[Part], offset: int) -> dict[str, int]:
    """Every port of the table moved by the offset."""
    numbers = {name: number + offset for name, number in ports_of(parts).items()}
    outside = {name: number for name, number in numbers.items() if not 0 < number <= HIGHEST_PORT}
    if outside:
        name, number = next(iter(outside.items()))
        raise SuiteError(f"With an offset of {offset} the port of {name} would be {number}; ports end at 65535.")
    return numbers


class Tenancy:
    """That one launcher at a time holds a block. The kernel gives it back however the launcher ends."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._lock: int | None = None

    @property
    def file(self) -> Path:
        return self.block.folder / "suite.json"

    def acquire(self) -> bool:
        self.block.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.block.folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        self.file.unlink(missing_ok=True)
        return True

    def release(self) -> None:
        if self._lock is not None:
            self.file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write suite.json as a whole, so that a reader never sees half of it."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        draft.replace(self.file)


def running(block: Block) -> dict[str, Any] | None:
    """The facts of the suite that runs in this block, or None."""
    tenancy = Tenancy(block)
    if not tenancy.file.exists():
        return None
    facts: dict[str, Any] = json.loads(tenancy.file.read_text(encoding="utf-8"))
    try:
        os.kill(int(facts["pid"]), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return facts
    lock = os.open(block.folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return facts
    finally:
        os.close(lock)
    return None
