"""What the launcher says: one short line per step, colours only on a terminal, failures without a stack trace."""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

GREEN, RED, DIM, BOLD = "32", "31", "2", "1"
LAST_LINES = 15
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class SuiteError(Exception):
    """An expected failure: the message is all a person needs, so no stack trace is shown."""


def paint(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if sys.stdout.isatty() else text


def say(text: str = "") -> None:
    """Print at once: the output may be a pipe, and the next step may take a minute."""
    print(text, flush=True)


def done(text: str, seconds: float | None = None) -> None:
    took = "" if seconds is None else paint(f"  {seconds:.1f} s", DIM)
    say(f"  {paint('✓', GREEN)} {text}{took}")


def note(text: str) -> None:
    say(f"  {paint('·', DIM)} {text}")


def complain(error: object) -> None:
    print(f"{paint('✗', RED)} {error}", file=sys.stderr, flush=True)


@contextmanager
def step(doing: str) -> Iterator[None]:
    """Announce a step that takes time, then say how long it took."""
    note(f"{doing} …")
    started = time.monotonic()
    yield
    done(doing, time.monotonic() - started)


def heading(text: str) -> None:
    say(paint(text, BOLD))


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as aligned lines; the last column is not padded."""
    listed = [tuple(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*listed, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in listed]


def plain(log: Path) -> str:
    """A log without the colours its writer gave it."""
    return COLOURS.sub("", log.read_text(encoding="utf-8", errors="replace"))


def tail(log: Path, lines: int = LAST_LINES) -> str:
    """The last lines of a log, indented, for a failure message."""
    if not log.exists():
        return "    (nothing was logged)"
    text = plain(log).rstrip().splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in text) or "    (nothing was logged)"
