"""The benchmark's one table: a figure, how far the rounds lie apart, its budget, and whether it is held."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD = ("what", "median", "rounds", "budget", "")


@dataclass(frozen=True)
class Row:
    """`rounds` holds the figure of each round; the median is what counts."""

    what: str
    rounds: Sequence[float]
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    digits: int = 1

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def held(self) -> bool | None:
        """None without a budget."""
        if self.at_most is not None:
            return self.median <= self.at_most
        return None if self.at_least is None else self.median >= self.at_least

    def cells(self) -> tuple[str, ...]:
        verdict = {True: "held", False: "MISSED", None: ""}[self.held]
        return (self.what, f"{self._shown(self.median)} {self.unit}".rstrip(), self._spread(), self._budget(), verdict)

    def _spread(self) -> str:
        if len(self.rounds) == 1:
            return ""
        return f"{self._shown(min(self.rounds))} … {self._shown(max(self.rounds))}"

    def _budget(self) -> str:
        if self.at_most is not None:
            return f"≤ {self._shown(self.at_most)}"
        return "" if self.at_least is None else f"≥ {self._shown(self.at_least)}"

    def _shown(self, value: float) -> str:
        return f"{value:.{self.digits}f}"


def show(rows: Sequence[Row]) -> str:
    """The rows as a table that reads well in a terminal and in Markdown."""
    lines = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    shown = [_line(line, widths) for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"
