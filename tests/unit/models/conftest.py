"""A catalogue in memory in the place of Firestore, and circuits that know of no failure."""

import pytest

from functions.models import repository, service
from functions.models.catalogue import Catalogue
from functions.models.domain import Defaults, folded, other_names
from functions.models.repository import Entry, Found
from shared.breaker import breakers
from shared.errors import Unavailable
from shared.openrouter import asking
from tests.unit.models.entries import stored


class Stored:
    """What Firestore would hold, and which names it was asked for."""

    def __init__(self, *entries: Entry) -> None:
        self.defaults = Defaults()
        self.entries: dict[str, Entry] = {}
        self.asked: list[list[str]] = []
        self.away = False
        self.add(*entries)

    def add(self, *entries: Entry) -> None:
        self.entries |= {entry.offer.slug: entry for entry in entries}

    def find(self, slugs):
        if self.away:
            raise Unavailable("there is no database in this test")
        self.asked.append([*slugs])
        return Found({slug: self.entries[slug] for slug in slugs if slug in self.entries}, self.defaults)

    def find_by_other_name(self, name):
        found = [slug for slug, entry in self.entries.items() if folded(name) in other_names(entry.offer)]
        return min(found, key=lambda slug: (":" in slug, slug), default=None)

    def list_entries(self):
        return [self.entries[slug] for slug in sorted(self.entries)], self.defaults


@pytest.fixture
def database(monkeypatch):
    """The two models for anyone, one for those who pay, and a spare."""
    dear = {"prompt": "0.000003", "completion": "0.000015"}
    database = Stored(
        stored("openai/gpt-4o-mini"),
        stored("google/gemini-2.5-flash"),
        stored("anthropic/claude-sonnet-4.5", pricing=dear, canonical_slug="anthropic/claude-4.5-sonnet-20250929"),
        stored("acme/spare"),
    )
    for name in ("find", "find_by_other_name", "list_entries"):
        monkeypatch.setattr(repository, name, getattr(database, name))
    monkeypatch.setattr(service, "_catalogue", Catalogue())
    breakers.cache_clear()
    yield database
    breakers.cache_clear()


@pytest.fixture
def fail(database):
    """Opens the circuits of these models, or OpenRouter's own for None."""

    def open_circuits(*slugs):
        for slug in slugs:
            circuit = breakers().get(asking.circuit_of(slug) if slug else asking.SERVICE)
            for _ in range(100):
                circuit.count_failure()

    return open_circuits
