"""What a process remembers of the catalogue, and for how long; and the provider's catalogue when it is odd."""

import pytest

from functions.models import catalogue as module
from functions.models import repository, service
from functions.models.catalogue import KEPT_S, Catalogue
from functions.models.domain import Defaults, Policy
from tests.unit.models.entries import entry, priced, stored

SPARE = "acme/spare"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def catalogue(database, clock):
    return Catalogue(clock)


def test_what_was_read_holds_for_a_minute_and_no_longer(catalogue, database, clock):
    catalogue.look_up([SPARE])
    database.add(stored(SPARE, Policy(enabled=False)))
    database.defaults = Defaults(markup_percent=50)

    clock.now += KEPT_S - 1
    before = catalogue.look_up([SPARE])
    clock.now += 1
    after = catalogue.look_up([SPARE])

    assert (before.entries[SPARE].policy.enabled, before.defaults.markup_percent) == (True, None)
    assert (after.entries[SPARE].policy.enabled, after.defaults.markup_percent) == (False, 50)
    assert len(database.asked) == 2


def test_defaults_grow_old_also_while_no_model_is_missing(catalogue, database, clock):
    catalogue.look_up([SPARE])
    clock.now += KEPT_S / 2
    catalogue.look_up(["openai/gpt-4o-mini"])
    database.defaults = Defaults(markup_percent=50)
    clock.now += KEPT_S
    assert catalogue.look_up([]).defaults.markup_percent == 50


def test_that_a_model_is_not_there_is_remembered_too(catalogue, database, clock):
    for _ in range(3):
        assert catalogue.look_up(["acme/none"]).entries == {}
    assert database.asked == [["acme/none"]]
    database.add(stored("acme/none"))
    clock.now += KEPT_S
    assert "acme/none" in catalogue.look_up(["acme/none"]).entries


def test_a_model_under_two_names_is_one(catalogue):
    known = catalogue.look_up(["acme/spare-20250929", SPARE])
    assert [each.offer.slug for each in known.of(["acme/spare-20250929", SPARE])] == [SPARE]


def test_a_flood_of_made_up_names_does_not_grow_it_without_end(catalogue, monkeypatch):
    monkeypatch.setattr(module, "_MAX_KEPT", 10)
    for number in range(100):
        catalogue.look_up([f"acme/none-{number}"])
    assert len(catalogue._entries) <= 10


def test_the_whole_of_it_is_read_once_a_minute(catalogue, database, clock):
    entries, _ = catalogue.everything()
    database.add(stored("acme/new"))
    assert catalogue.everything()[0] == entries
    clock.now += KEPT_S
    assert len(catalogue.everything()[0]) == len(entries) + 1


class Provider:
    def __init__(self, *entries):
        self.entries = entries

    def list_models(self):
        return iter(self.entries)


@pytest.fixture
def synchronise(database, monkeypatch):
    """Synchronises with a provider of these entries; gives what was stored."""
    saved: list[str] = []

    def save(offers, at):
        saved.extend(offer.slug for offer in offers)
        return len(offers), 0

    def run(*entries):
        monkeypatch.setattr(service, "openrouter", lambda: Provider(*entries))
        monkeypatch.setattr(repository, "save", save)
        assert service.sync() == len(saved)
        return saved

    return run


def test_an_entry_of_an_unknown_shape_does_not_keep_the_others_out(synchronise):
    odd = [
        priced("acme/no-price", prompt=None),
        entry("acme/nothing", architecture=None),
        priced("acme/words", prompt="cheap"),
        {"id": "acme/empty"},
        {},
    ]
    assert synchronise(*odd, entry("acme/good"), priced("openrouter/auto", prompt="-1")) == ["acme/good"]


@pytest.mark.parametrize("entries", [[], [priced("openrouter/auto", prompt="-1")]], ids=["empty", "nothing to offer"])
def test_an_empty_catalogue_leaves_the_stored_one_alone(monkeypatch, database, entries):
    monkeypatch.setattr(service, "openrouter", lambda: Provider(*entries))
    monkeypatch.setattr(repository, "save", lambda *_: pytest.fail("it would delete every model"))
    assert service.sync() == 0


def test_what_was_synchronised_counts_in_this_process_at_once(synchronise, database):
    service.find("acme/new")
    database.add(stored("acme/new"))
    synchronise(entry("acme/new"))
    assert service.find("acme/new") is not None
