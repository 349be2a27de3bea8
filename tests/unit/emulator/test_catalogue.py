"""The catalogue: every model is priced, served and found under its names."""

import pytest

from emulator.openrouter import catalogue
from emulator.openrouter.money import usd_text
from emulator.openrouter.pricing import is_variable


@pytest.mark.parametrize("model", catalogue.MODELS, ids=lambda model: model.id)
def test_every_price_is_a_string_that_integers_hold_exactly(model):
    assert all(isinstance(value, str) for name, value in model.pricing.items() if name != "overrides")
    if not is_variable(model.pricing):
        assert usd_text(model.price.prompt) == model.pricing["prompt"]
        assert usd_text(model.price.completion) == model.pricing["completion"]


def test_names_are_unambiguous():
    names = [name for model in catalogue.MODELS for name in {model.id, model.canonical_slug, *model.aliases}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "model_id", "variant"),
    [
        ("anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4.5", ""),
        ("anthropic/claude-4.5-sonnet-20250929", "anthropic/claude-sonnet-4.5", ""),
        ("anthropic/claude-3.7-sonnet:thinking", "anthropic/claude-3.7-sonnet", "thinking"),
        ("minimax/minimax-m2:free", "minimax/minimax-m2:free", ""),
        ("openai/gpt-4o-mini:nitro", "openai/gpt-4o-mini", "nitro"),
    ],
)
def test_a_model_is_found_under_all_its_names(name, model_id, variant):
    found = catalogue.find(name)
    assert found is not None
    assert (found.model.id, found.variant) == (model_id, variant)


@pytest.mark.parametrize("name", ["acme/fake-1.0", "openai/gpt-4o-mini:free", "openai/gpt-4o-mini:", "", ":nitro"])
def test_an_unknown_name_is_not_found(name):
    assert catalogue.find(name) is None


def test_there_is_one_of_every_kind():
    kinds = {output for model in catalogue.MODELS for output in model.outputs}
    assert kinds == {"text", "image", "embeddings"}
    assert any(is_variable(model.pricing) for model in catalogue.MODELS)
    assert any("overrides" in model.pricing for model in catalogue.MODELS)
    assert any(model.is_free for model in catalogue.MODELS)
    assert len(catalogue.MODELS) >= 20
