"""The rules of a turn: what it may cost, what of a conversation goes along, what a conversation is called."""

from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.domain import (
    DEFAULT_ANSWER_TOKENS,
    HISTORY_BUDGET_BYTES,
    MAX_HISTORY_MESSAGES,
    MESSAGE_OVERHEAD_TOKENS,
    PICO_USD_PER_USD,
    TITLE_CHARS,
    UNTITLED,
    Message,
    Model,
    answer_tokens,
    highest_cost_pico_usd,
    model_from_upstream,
    path_to,
    title_from,
    within_budget,
)

PRICES = st.decimals(min_value=0, max_value=Decimal("0.01"), places=12, allow_nan=False)
TEXTS = st.text(max_size=400)


def model(**values: Any) -> Model:
    return Model(
        **{
            "slug": "acme/one",
            "name": "One",
            "context_tokens": 128_000,
            "max_answer_tokens": 16_000,
            "prompt_usd": Decimal("0.0000025"),
            "completion_usd": Decimal("0.00001"),
            "request_usd": Decimal(0),
            **values,
        }
    )


MODELS = st.builds(
    model,
    context_tokens=st.integers(1, 2_000_000),
    max_answer_tokens=st.integers(1, 200_000),
    prompt_usd=PRICES,
    completion_usd=PRICES,
    request_usd=PRICES,
)


def catalogue_entry(pricing: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    return {
        "id": "acme/one",
        "name": "One",
        "architecture": {"output_modalities": ["text"]},
        "context_length": 128_000,
        "top_provider": {"max_completion_tokens": 16_000},
        "pricing": pricing or {"prompt": "0.0000025", "completion": "0.00001"},
        **values,
    }


def message(message_id: str, parent_id: str | None = None, text: str = "hello") -> Message:
    return Message(message_id, parent_id, "user", text)


def tree(*messages: Message) -> dict[str, Message]:
    return {node.id: node for node in messages}


def ids(messages: list[Message]) -> list[str]:
    return [node.id for node in messages]


# What a turn may cost


@given(MODELS, TEXTS, st.lists(TEXTS, max_size=60), st.integers(1, 200_000), st.data())
def test_no_usage_costs_more_than_what_is_held(asked, question, history, max_tokens, data):
    path = [message(str(position), text=text) for position, text in enumerate(history)]
    sent = [question, *(node.text for node in within_budget(path))]
    most_prompt_tokens = sum(len(text.encode()) + MESSAGE_OVERHEAD_TOKENS for text in sent)
    prompt_tokens = data.draw(st.integers(0, min(most_prompt_tokens, asked.context_tokens)))
    allowed = answer_tokens(asked, max_tokens)
    completion_tokens = data.draw(st.integers(0, allowed))
    usd = asked.prompt_usd * prompt_tokens + asked.completion_usd * completion_tokens + asked.request_usd
    cost = int((usd * PICO_USD_PER_USD).to_integral_value(ROUND_CEILING))
    assert cost <= highest_cost_pico_usd(asked, question=question, max_answer_tokens=allowed)


@given(MODELS, TEXTS, st.integers(1, 200_000))
def test_what_is_held_is_a_whole_number_and_never_negative(asked, question, max_tokens):
    held = highest_cost_pico_usd(asked, question=question, max_answer_tokens=max_tokens)
    assert type(held) is int
    assert held >= 0


def test_what_is_held_is_what_the_prices_say():
    dear = model(
        prompt_usd=Decimal("0.01"), completion_usd=Decimal("0.1"), request_usd=Decimal("0.5"), context_tokens=100
    )
    assert highest_cost_pico_usd(dear, question="x" * 1000, max_answer_tokens=10) == (1 + 1) * 10**12 + 5 * 10**11


@pytest.mark.parametrize("size", [1, HISTORY_BUDGET_BYTES // MAX_HISTORY_MESSAGES, HISTORY_BUDGET_BYTES])
def test_the_fullest_history_is_covered_by_what_is_held(size):
    asked = model(context_tokens=10**6, completion_usd=Decimal("0.002"))
    path = within_budget([message(str(number), text="x" * size) for number in range(2 * MAX_HISTORY_MESSAGES)])
    sent = [*(node.text for node in path), "what was asked"]
    prompt_tokens = sum(len(text) + MESSAGE_OVERHEAD_TOKENS for text in sent)
    cost = (asked.prompt_usd * prompt_tokens + asked.completion_usd * 10) * PICO_USD_PER_USD
    assert cost <= highest_cost_pico_usd(asked, question="what was asked", max_answer_tokens=10)


def test_a_free_model_costs_nothing():
    free = model(prompt_usd=Decimal(0), completion_usd=Decimal(0))
    assert highest_cost_pico_usd(free, question="x" * 10_000, max_answer_tokens=16_000) == 0


def test_a_fraction_of_the_smallest_amount_is_held_as_a_whole_one():
    cheap = model(prompt_usd=Decimal(0), completion_usd=Decimal("0.0000000000001"))
    assert highest_cost_pico_usd(cheap, question="", max_answer_tokens=1) == 1


@pytest.mark.parametrize(
    ("asked", "given"), [(None, DEFAULT_ANSWER_TOKENS), (1, 1), (16_000, 16_000), (16_001, 16_000), (128_000, 16_000)]
)
def test_an_answer_has_the_tokens_that_were_asked_for_within_what_the_model_can_do(asked, given):
    assert answer_tokens(model(), asked) == given


# The catalogue


def test_a_catalogue_entry_is_read():
    assert model_from_upstream(catalogue_entry()) == model()


@pytest.mark.parametrize("kind", ["prompt", "completion", "request"])
@pytest.mark.parametrize("price", ["-1", "-0.1"])
def test_a_model_whose_price_is_not_known_is_not_offered(kind, price):
    pricing = {"prompt": "0.1", "completion": "0.1", kind: price}
    assert model_from_upstream(catalogue_entry(pricing)) is None


@pytest.mark.parametrize("kind", ["prompt", "completion", "request"])
def test_a_model_that_overrides_a_price_with_an_unknown_one_is_not_offered(kind):
    pricing = {"prompt": "0.1", "completion": "0.1", "overrides": [{kind: "-1"}]}
    assert model_from_upstream(catalogue_entry(pricing)) is None


def test_a_free_model_is_offered():
    made = model_from_upstream(catalogue_entry({"prompt": "0", "completion": "0"}))
    assert made is not None
    assert made.prompt_usd == made.completion_usd == made.request_usd == 0


def test_prices_count_at_their_highest():
    pricing = {
        "prompt": "0.000001",
        "completion": "0.000005",
        "overrides": [
            {"prompt": "0.000002", "completion": "0.000004", "min_prompt_tokens": 200_000},
            {"completion": "0.000006", "request": "0.01"},
        ],
    }
    made = model_from_upstream(catalogue_entry(pricing))
    assert made is not None
    assert (made.prompt_usd, made.completion_usd) == (Decimal("0.000002"), Decimal("0.000006"))
    assert made.request_usd == Decimal("0.01")


def test_a_price_keeps_every_digit():
    made = model_from_upstream(catalogue_entry({"prompt": "0.000000123456789012", "completion": "1e-7"}))
    assert made is not None
    assert made.prompt_usd == Decimal("0.000000123456789012")
    assert made.completion_usd == Decimal("0.0000001")


def test_a_model_that_writes_no_text_is_not_offered():
    assert model_from_upstream(catalogue_entry(architecture={"output_modalities": ["image"]})) is None


@pytest.mark.parametrize("top_provider", [None, {}, {"max_completion_tokens": None}])
def test_an_answer_without_a_limit_of_its_own_may_fill_the_context(top_provider):
    made = model_from_upstream(catalogue_entry(top_provider=top_provider))
    assert made is not None
    assert made.max_answer_tokens == made.context_tokens == 128_000


@pytest.mark.parametrize("context_length", [None, 0])
def test_a_model_that_hides_its_context_gets_a_small_one(context_length):
    made = model_from_upstream(catalogue_entry(context_length=context_length))
    assert made is not None
    assert made.context_tokens == DEFAULT_ANSWER_TOKENS * 2


# The branch


BRANCHES = tree(
    message("root"),
    message("a1", "root"),
    message("a2", "a1"),
    message("b1", "root"),
    message("b2", "b1"),
    message("loop1", "loop2"),
    message("loop2", "loop1"),
    message("self", "self"),
    message("orphan", "gone"),
)


@pytest.mark.parametrize(
    ("tip", "path", "missing"),
    [
        (None, [], None),
        ("root", ["root"], None),
        ("a2", ["root", "a1", "a2"], None),
        ("b2", ["root", "b1", "b2"], None),
        ("a1", ["root", "a1"], None),
        ("orphan", ["orphan"], "gone"),
        ("nowhere", [], "nowhere"),
        ("loop1", ["loop2", "loop1"], None),
        ("self", ["self"], None),
    ],
)
def test_a_path_is_the_branch_that_ends_at_a_message(tip, path, missing):
    found, first_missing = path_to(tip, BRANCHES)
    assert ids(found) == path
    assert first_missing == missing


NODE_IDS = st.sampled_from("abcdefgh")


@given(st.dictionaries(NODE_IDS, st.none() | NODE_IDS), st.none() | NODE_IDS)
def test_whatever_the_parents_are_a_path_ends_and_each_step_leads_to_the_next(parents, tip):
    nodes = tree(*(message(node, parent) for node, parent in parents.items()))
    path, missing = path_to(tip, nodes)
    assert len(set(ids(path))) == len(path)
    assert [node.parent_id for node in path[1:]] == ids(path)[:-1]
    if path:
        assert path[-1].id == tip
    if missing is not None:
        assert missing not in nodes
        assert missing == (path[0].parent_id if path else tip)


# The history that goes along


@given(st.lists(st.text(max_size=6000) | st.sampled_from(["", "x" * HISTORY_BUDGET_BYTES, "ä" * 9000]), max_size=80))
def test_the_newest_messages_that_fit_go_along_in_order(texts):
    path = [message(str(position), text=text) for position, text in enumerate(texts)]
    chosen = within_budget(path)
    spoken = [node for node in path if node.text]
    assert chosen == spoken[len(spoken) - len(chosen) :]
    assert sum(len(node.text.encode()) for node in chosen) <= HISTORY_BUDGET_BYTES
    assert len(chosen) <= MAX_HISTORY_MESSAGES
    if len(chosen) < min(len(spoken), MAX_HISTORY_MESSAGES):
        one_more = spoken[len(spoken) - len(chosen) - 1 :]
        assert sum(len(node.text.encode()) for node in one_more) > HISTORY_BUDGET_BYTES


def test_a_message_that_fills_the_budget_goes_along_and_a_larger_one_does_not():
    assert len(within_budget([message("a", text="x" * HISTORY_BUDGET_BYTES)])) == 1
    assert within_budget([message("a", text="x" * (HISTORY_BUDGET_BYTES + 1))]) == []


def test_a_message_that_does_not_fit_hides_those_before_it():
    path = [message("a", text="small"), message("b", text="x" * (HISTORY_BUDGET_BYTES + 1)), message("c", text="new")]
    assert ids(within_budget(path)) == ["c"]


def test_of_many_small_messages_only_the_newest_go_along():
    path = [message(str(number)) for number in range(MAX_HISTORY_MESSAGES + 5)]
    assert ids(within_budget(path)) == [str(number) for number in range(5, MAX_HISTORY_MESSAGES + 5)]


def test_empty_messages_do_not_count():
    path = [message(str(number), text="x" if number % 2 else "") for number in range(2 * MAX_HISTORY_MESSAGES)]
    assert len(within_budget(path)) == MAX_HISTORY_MESSAGES


# The title


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", UNTITLED),
        ("  \n\t ", UNTITLED),
        ("Hello", "Hello"),
        ("  Hello \n  there\t", "Hello there"),
        ("x" * TITLE_CHARS, "x" * TITLE_CHARS),
        ("x" * (TITLE_CHARS + 1), "x" * (TITLE_CHARS - 1) + "…"),
        ("word " * 20, " ".join(["word"] * 12) + "…"),
    ],
)
def test_a_title_is_the_first_words_of_what_was_asked(text, title):
    assert title_from(text) == title


@given(st.text())
def test_a_title_is_one_line_of_bounded_length(text):
    title = title_from(text)
    assert title
    assert len(title) <= TITLE_CHARS
    assert title == " ".join(title.split())
    line = " ".join(text.split())
    assert line.startswith(title.removesuffix("…")) or title == UNTITLED
