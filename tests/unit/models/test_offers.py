"""Entries of the provider's catalogue as offers: golden ones, those nobody can price, and hostile ones."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter.catalogue import MODELS
from functions.models.domain import NotUnderstood, offer_from_upstream, other_names
from tests.unit.models.entries import entry, offer, priced

FROM_THE_WIRE = json.loads(json.dumps([model.public for model in MODELS]))


def on_offer():
    made = [offer_from_upstream(each) for each in FROM_THE_WIRE]
    return {each.slug: each for each in made if each is not None}


def test_the_catalogue_of_the_provider_is_understood():
    sonnet = on_offer()["anthropic/claude-sonnet-4.5"]

    assert sonnet.name == "Anthropic: Claude Sonnet 4.5"
    assert sonnet.canonical_slug == "anthropic/claude-4.5-sonnet-20250929"
    assert (sonnet.context_tokens, sonnet.max_answer_tokens) == (1_000_000, 64_000)
    assert sonnet.input_modalities == {"text", "image", "file"}
    assert {"tools", "structured_outputs", "reasoning"} <= sonnet.supported_parameters


def test_what_does_not_write_text_is_not_on_offer():
    assert {"openai/gpt-image-1", "openai/text-embedding-3-small"}.isdisjoint(on_offer())


def test_a_price_that_varies_is_never_offered():
    assert "openrouter/auto" not in on_offer()
    assert offer_from_upstream(priced(completion="-1")) is None
    assert offer_from_upstream(priced(request="-1")) is None
    assert offer_from_upstream(priced(internal_reasoning="-1")) is None
    assert offer_from_upstream(priced(overrides=[{"min_prompt_tokens": 1000, "prompt": "-1"}])) is None


def test_a_free_model_costs_nothing():
    free = on_offer()["minimax/minimax-m2:free"]
    assert (free.prompt_usd, free.completion_usd) == (0, 0)


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        ("0.0000002574", "0.0000002574"),
        ("2.574e-7", "0.0000002574"),
        (2.574e-7, "0.0000002574"),
        ("0.00000000000000000001", "1e-20"),
        ("1", "1"),
        (0, "0"),
        ("-0", "0"),
    ],
)
def test_prices_are_taken_to_the_last_digit(written, exact):
    made = offer_from_upstream(priced(prompt=written))
    assert made is not None
    assert made.prompt_usd == Decimal(exact)


def test_prices_are_the_highest_of_all_tiers_and_the_tiers_are_kept():
    sonnet = on_offer()["anthropic/claude-sonnet-4.5"]

    assert (sonnet.prompt_usd, sonnet.completion_usd) == (Decimal("0.000006"), Decimal("0.0000225"))
    base, long = sonnet.tiers
    assert (base.prompt_usd, base.min_prompt_tokens) == (Decimal("0.000003"), None)
    assert (long.completion_usd, long.min_prompt_tokens) == (Decimal("0.0000225"), 200_000)


def test_an_override_inherits_what_it_does_not_name():
    made = offer_from_upstream(priced(request="0.01", overrides=[{"utc_start": 16.5, "utc_end": 0.5, "prompt": 3e-6}]))

    assert made is not None
    night = made.tiers[1]
    assert (night.prompt_usd, night.completion_usd) == (Decimal("0.000003"), Decimal("0.000002"))
    assert (night.request_usd, night.utc_start, night.utc_end) == (Decimal("0.01"), 16.5, 0.5)
    assert made.prompt_usd == Decimal("0.000003")


def test_what_comes_out_counts_at_its_dearest_kind():
    thinking = offer_from_upstream(priced(internal_reasoning="0.000009"))
    drawing = on_offer()["google/gemini-2.5-flash-image"]
    writing = offer_from_upstream(priced(image_output="0.00003", audio_output="0.00006"))

    assert thinking is not None
    assert writing is not None
    assert thinking.completion_usd == Decimal("0.000009")
    assert drawing.completion_usd == Decimal("0.00003")
    assert writing.completion_usd == Decimal("0.000002"), "it writes only text"
    assert drawing.tiers[0].completion_usd == Decimal("0.0000025"), "what its words cost is shown"


def test_a_discount_and_prices_of_what_nobody_uses_change_nothing():
    plain, odd = offer_from_upstream(priced()), priced(discount=0.25, web_search="0.01", video="cheap", audio=None)
    assert offer_from_upstream(odd) == plain


def test_a_model_that_does_not_say_how_much_it_reads_is_not_offered():
    assert offer_from_upstream(entry(context_length=None, top_provider=None)) is None


def test_what_the_first_provider_reads_stands_for_what_the_model_does_not_say():
    assert offer(context_length=None).context_tokens == 128_000


@pytest.mark.parametrize("provider", [None, {}, {"max_completion_tokens": None}, {"max_completion_tokens": 0}, "acme"])
def test_an_answer_may_be_as_long_as_the_context_when_nothing_else_is_said(provider):
    assert offer(top_provider=provider).max_answer_tokens == 128_000


def test_an_answer_is_never_longer_than_the_context():
    assert offer(top_provider={"max_completion_tokens": 900_000}).max_answer_tokens == 128_000


def test_an_entry_needs_neither_name_nor_description_nor_parameters():
    bare = {key: entry()[key] for key in ("id", "context_length", "architecture", "pricing")}
    made = offer_from_upstream(bare)

    assert made is not None
    assert (made.name, made.description, made.canonical_slug) == ("acme/one", None, None)
    assert made.supported_parameters == frozenset()


def test_other_names_are_the_dated_one_and_those_that_write_versions_with_dashes():
    sonnet = on_offer()["anthropic/claude-sonnet-4.5"]
    assert other_names(sonnet) == ["anthropic/claude-4-5-sonnet-20250929", "anthropic/claude-sonnet-4-5"]


HOSTILE = {
    "no id": entry(id=None),
    "an id that is a path": entry("../../users"),
    "an id with steps": entry("a/b/c"),
    "an id that is reserved": entry("__x__"),
    "an id of another script": entry("acme/öne"),
    "an id without end": entry(f"acme/{'x' * 200}"),
    "an id with a line break": entry("acme/one\n"),
    "no architecture": entry(architecture=None),
    "no pricing": entry(pricing=None),
    "an empty pricing": entry(pricing={}),
    "no price for what comes out": entry(pricing={"prompt": "0"}),
    "a price of null": priced(prompt=None),
    "a price in words": priced(prompt="cheap"),
    "a price that is true": priced(prompt=True),
    "a price that is a list": priced(prompt=["0.1"]),
    "a price of NaN": priced(prompt="NaN"),
    "a price of infinity": priced(prompt="Infinity"),
    "a price with a huge exponent": priced(prompt="1e99"),
    "a price that nothing can hold": priced(prompt="1e-99"),
    "a price with spaces": priced(prompt=" 0.1"),
    "a price of other digits": priced(prompt="\u0660.\u0661"),
    "a price for a house": priced(completion="10001"),
    "overrides that are none": priced(overrides={"prompt": "1"}),
    "an override that is none": priced(overrides=["1"]),
    "tiers without end": priced(overrides=[{"prompt": "1"}] * 1000),
    "an override in words": priced(overrides=[{"prompt": "much"}]),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_entry_is_refused_and_raises_nothing_else(hostile):
    with pytest.raises(NotUnderstood):
        offer_from_upstream(hostile)


def test_texts_are_cut_to_one_line_that_can_be_stored():
    made = offer(name=f"A\n\ud800{'b' * 10_000}", description="x " * 100_000)

    assert made.name.startswith("A ?bbb")
    assert len(made.name) == 200
    assert made.description is not None
    assert len(made.description) == 400
    made.name.encode()


def test_keywords_that_nobody_could_ask_for_are_left_out():
    odd = ["tools", 1, None, "a" * 100, "ÄÖÜ", "__proto__", {"x": 1}]
    assert offer(supported_parameters=odd).supported_parameters == {"tools"}
    assert offer(supported_parameters="tools").supported_parameters == frozenset()


@pytest.mark.parametrize("tokens", [-1, 0, 1e300, "128000", True, [1]])
def test_a_number_of_tokens_that_is_none_counts_as_not_said(tokens):
    assert offer_from_upstream(entry(context_length=tokens, top_provider={})) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [*entry()]
PRICES = ["prompt", "completion", "request", "image", "overrides", "discount", "internal_reasoning"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), st.dictionaries(st.sampled_from(PRICES), JSON))
def test_no_shape_of_an_entry_raises_anything_but_that_it_is_not_understood(changes, prices):
    try:
        made = offer_from_upstream({**priced(**prices), **changes})
    except NotUnderstood:
        return
    assert made is None or (made.prompt_usd >= 0 and made.completion_usd >= 0 and made.context_tokens >= 1)
