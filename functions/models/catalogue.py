"""What this process knows of the catalogue: kept for a minute, so that a turn waits for no reading of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.models import repository
from functions.models.domain import is_slug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from functions.models.domain import Defaults
    from functions.models.repository import Entry

KEPT_S = 60.0
_MAX_KEPT = 2000


@dataclass(frozen=True)
class Known:
    """The models that were asked for, by the names they were asked for by, and what holds for all."""

    entries: dict[str, Entry]
    defaults: Defaults

    def of(self, names: Iterable[str]) -> list[Entry]:
        """Those of the names that there are, each model once."""
        found = {self.entries[name].offer.slug: self.entries[name] for name in names if name in self.entries}
        return [*found.values()]


class Catalogue:
    """For many threads; two that miss the same model at the same time both read it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.forget()

    def forget(self) -> None:
        """Read everything anew."""
        self._entries: dict[str, tuple[float, Entry | None]] = {}
        self._defaults: tuple[float, Defaults] | None = None
        self._everything: tuple[float, tuple[list[Entry], Defaults]] | None = None

    def look_up(self, names: Iterable[str]) -> Known:
        """The models of these names, also of their dated ones. What is not known yet takes one round trip."""
        now = self._monotonic()
        wanted = [name for name in dict.fromkeys(names) if is_slug(name)]
        known = {name: kept[1] for name in wanted if (kept := self._entries.get(name)) and kept[0] > now}
        missing = [name for name in wanted if name not in known]
        defaults = self._defaults
        if missing or defaults is None or defaults[0] <= now:
            found = repository.find(missing)
            defaults = self._defaults = (now + KEPT_S, found.defaults)
            for name in missing:
                known[name] = found.entries.get(name) or self._by_other_name(name)
            self._keep({name: known[name] for name in missing}, now + KEPT_S)
        return Known({name: entry for name, entry in known.items() if entry is not None}, defaults[1])

    def everything(self) -> tuple[list[Entry], Defaults]:
        """The whole catalogue by name."""
        now = self._monotonic()
        kept = self._everything
        if kept is None or kept[0] <= now:
            kept = self._everything = (now + KEPT_S, repository.list_entries())
        return kept[1]

    def _by_other_name(self, name: str) -> Entry | None:
        slug = repository.find_by_other_name(name)
        return None if slug is None else repository.find([slug]).entries.get(slug)

    def _keep(self, found: dict[str, Entry | None], until: float) -> None:
        if len(self._entries) + len(found) > _MAX_KEPT:
            self._entries = {}
        self._entries.update({name: (until, entry) for name, entry in found.items()})
