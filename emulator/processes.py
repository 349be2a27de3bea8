"""Starts programs under a guard, and ends them. See `guard` for why none outlives the launcher."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator import process_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

GUARD_PATIENCE_SECONDS = 15.0


@dataclass
class Guarded:
    """A program under its guard. Closing the lifeline ends it and all it started."""

    name: str
    guard: subprocess.Popen[bytes]
    lifeline: int | None
    log: Path | None

    @property
    def exit_code(self) -> int | None:
        """The program's exit code, or None while it runs."""
        return self.guard.poll()

    def cut(self) -> None:
        """Tell the guard to end the program; returns at once."""
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None


def start(
    name: str,
    command: Sequence[str],
    *,
    root: Path,
    cwd: Path,
    environment: Mapping[str, str],
    log: Path | None,
    grace_seconds: float,
) -> Guarded:
    """Start a program under a guard. Without a log it runs in the foreground, with this terminal."""
    reading, writing = os.pipe()
    output = log.open("wb") if log else None
    try:
        guard = subprocess.Popen(
            [
                *(sys.executable, "-m", "emulator.guard", "--lifeline", str(reading)),
                *("--grace", str(grace_seconds), "--cwd", str(cwd)),
                *(() if log else ("--foreground",)),
                *("--", *command),
            ],
            cwd=root,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL if log else None,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=log is not None,
            pass_fds=(reading,),
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
        if output:
            output.close()
    return Guarded(name, guard, writing, log)


def stop(programs: Iterable[Guarded]) -> None:
    """End programs together and wait until they and their families are gone."""
    listed = list(programs)
    for program in listed:
        program.cut()
    deadline = time.monotonic() + GUARD_PATIENCE_SECONDS
    for program in listed:
        try:
            program.guard.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            program.guard.kill()
            program.guard.wait()


def sweep(mark: str) -> list[int]:
    """Kill what the guards did not: their families if a guard itself was killed, and whatever carries our mark.

    Returns the pids that are there even so.
    """
    process_table.kill_descendants()
    process_table.kill_marked(mark)
    return process_table.marked(mark)
