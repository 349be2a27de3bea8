"""Starts launchers as their users do, as processes, and looks at what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from emulator.block import ROOT
from emulator.process_table import MARK

HERE = Path(__file__).parent
PATIENCE_SECONDS = 30.0


@dataclass
class Launcher:
    """A launcher process and the processes of its suite, told by their mark."""

    root: Path
    process: subprocess.Popen[str]
    mark: str

    @staticmethod
    def wait_until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.05)

    def members(self) -> list[psutil.Process]:
        """The suite's processes apart from the launcher and the guards: what a person would find left behind."""
        return [one for one in self.everything() if "emulator.guard" not in one.cmdline()]

    def everything(self) -> list[psutil.Process]:
        found = []
        for one in psutil.process_iter():
            try:
                if one.pid != self.process.pid and one.environ().get(MARK) == self.mark:
                    found.append(one)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def guard_of(self, word: str) -> psutil.Process:
        return next(one for one in self.everything() if "emulator.guard" in one.cmdline() and word in one.cmdline())

    def has_started(self) -> bool:
        return "started\n" in self.output.read_text()

    def wait_started(self) -> None:
        self.wait_until(lambda: self.has_started() or self.process.poll() is not None, "start")
        assert self.has_started(), self.output.read_text()

    @property
    def output(self) -> Path:
        return self.root / "output"

    def wait_ended(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def wait_nothing_left(self) -> None:
        self.wait_until(lambda: not self.everything(), "the end of every process of the suite")


@pytest.fixture
def launch_script(tmp_path: Path) -> Iterator[Callable[..., Launcher]]:
    """Start a script of this folder as a launcher; whatever a failed test leaves is killed."""
    launched: list[Launcher] = []

    def start(script: str, *arguments: str, block: str) -> Launcher:
        with (tmp_path / "output").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, str(HERE / script), *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        launcher = Launcher(tmp_path, process, f"{tmp_path}:{block}")
        launched.append(launcher)
        return launcher

    yield start
    for launcher in launched:
        launcher.process.kill()
        launcher.process.wait()
        for one in launcher.everything():
            with suppress(psutil.NoSuchProcess):  # it may end between being found and being killed
                one.kill()


@pytest.fixture
def launch(launch_script: Callable[..., Launcher], tmp_path: Path) -> Callable[..., Launcher]:
    """Start a small suite of the given parts, with or without a command."""

    def start(*parts: dict[str, object], command: tuple[str, ...] = ()) -> Launcher:
        if not (tmp_path / "emulator").exists():
            (tmp_path / "emulator").symlink_to(ROOT / "emulator")
        after = ("--", *command) if command else ()
        return launch_script("small_suite.py", str(tmp_path), json.dumps(parts), *after, block="small")

    return start
