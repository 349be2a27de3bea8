"""The stored catalogue: equal to the provider's, exact to the last digit, and written only where it changed."""

from dataclasses import replace
from decimal import Decimal

import pytest

from functions.models import repository, service
from functions.models.repository import find, find_by_other_name, list_entries, save
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.identity.permissions import Role
from tests.store.models.support import FLASH, MINI, SONNET
from tests.unit.models.entries import offer


def document(slug):
    return firestore_client().collection("models").document(slug.replace("/", "~")).get()


def offers():
    return [entry.offer for entry in list_entries()[0]]


def test_what_is_stored_is_exact_and_readable_for_apps():
    stored = document("deepseek/deepseek-chat").to_dict()

    assert (
        stored.items()
        >= {
            "slug": "deepseek/deepseek-chat",
            "name": "DeepSeek: DeepSeek V3",
            "prompt_usd": "2.574E-7",
            "context_tokens": 163_840,
        }.items()
    )
    assert Decimal(stored["prompt_usd"]) == Decimal("0.0000002574")
    assert document(SONNET).to_dict()["tiers"][1]["min_prompt_tokens"] == 200_000


def test_what_is_read_is_what_was_stored():
    everything = {one.slug: one for one in offers()}
    assert find([SONNET]).entries[SONNET].offer == everything[SONNET]
    made = offer("acme/new", pricing={"prompt": "1e-20", "completion": "0", "overrides": [{"utc_start": 16.5}]})

    save([*everything.values(), made], utc_now())

    assert find(["acme/new"]).entries["acme/new"].offer == made


def test_synchronising_again_writes_nothing():
    before = document(MINI).update_time
    assert service.sync() == len(offers())
    assert document(MINI).update_time == before


def test_a_new_price_is_written_and_what_went_is_deleted():
    kept = [one for one in offers() if one.slug != "z-ai/glm-4.6"]
    dearer = [replace(one, prompt_usd=Decimal(1)) if one.slug == MINI else one for one in kept]
    before = document(FLASH).update_time

    assert save(dearer, utc_now()) == (1, 1)

    assert document(MINI).to_dict()["prompt_usd"] == "1"
    assert not document("z-ai/glm-4.6").exists
    assert document(FLASH).update_time == before


def test_what_operators_decided_outlives_a_model_that_goes_and_comes_back(operator):
    operator(Role.ADMIN).request("PUT", "/api/v1/admin/models", {"model": "z-ai/glm-4.6", "markup_percent": 7})
    save([one for one in offers() if one.slug != "z-ai/glm-4.6"], utc_now())
    assert find(["z-ai/glm-4.6"]).entries == {}

    service.sync()

    assert find(["z-ai/glm-4.6"]).entries["z-ai/glm-4.6"].policy.markup_percent == 7


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("anthropic/claude-4.5-sonnet-20250929", SONNET),
        ("anthropic/claude-sonnet-4-5", SONNET),
        ("openai/gpt-4o-mini-2024-07-18", MINI),
        ("minimax/minimax-m2", "minimax/minimax-m2:free"),
        ("acme/none", None),
    ],
)
def test_a_model_is_found_by_its_other_names(name, slug):
    assert find_by_other_name(name) == slug


def test_an_answers_dated_name_is_the_catalogues_model():
    assert service.slug_of("anthropic/claude-4.5-sonnet-20250929") == SONNET
    asked = service.choose("anthropic/claude-sonnet-4-5", plan="pro")
    assert [model.slug for model in asked] == [SONNET]
    assert asked[0].canonical_slug == "anthropic/claude-4.5-sonnet-20250929"


def test_a_large_catalogue_is_stored_in_several_batches(monkeypatch):
    monkeypatch.setattr(repository, "_PER_BATCH", 5)
    made = [offer(f"acme/m{number}") for number in range(12)]
    there = offers()

    assert save([*there, *made], utc_now()) == (12, 0)
    assert save(there, utc_now()) == (0, 12)
