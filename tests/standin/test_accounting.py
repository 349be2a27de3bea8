"""The books of the stand-in: what the answers say, what the key says, and what is refused always agree."""

import threading
from decimal import Decimal

import pytest

MANAGER = "sk-or-v1-manager"
POOR = "sk-or-v1-poor"


def test_the_key_and_the_credits_equal_the_sum_of_all_costs(api):
    api.post("/_standin/keys", {"key": MANAGER, "balance_usd": 0, "management": True})
    costs = [_cost(api.chat(f"/tokens {count}", model=model)) for count in (1, 7, 40) for model in _MODELS]
    costs += [_cost(api.stream(f"/tokens {count}", model=model)) for count in (3, 11) for model in _MODELS]
    costs.append(_cost(api.post("/embeddings", {"model": "qwen/qwen3-embedding-8b", "input": "some words"})))
    costs.append(_cost(api.post("/images", {"model": "openai/gpt-image-1", "prompt": "x", "resolution": "512"})))
    total = sum(costs)
    key = api.get("/key").json["data"]
    assert _exact(key["usage"]) == total
    assert _exact(key["limit_remaining"]) == 1000 - total
    assert _exact(api.get("/credits", key=MANAGER).json["data"]["total_usage"]) == total
    shown = [_exact(entry["cost"]) for entry in api.requests() if entry["cost"] is not None]
    assert sum(shown) == total


_MODELS = ("openai/gpt-4o-mini", "deepseek/deepseek-chat", "anthropic/claude-sonnet-4.5", "craftpilot/flat-rate")


def test_concurrent_requests_are_all_charged(api):
    threads = [threading.Thread(target=api.chat, args=("/tokens 3",)) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    costs = [_exact(entry["cost"]) for entry in api.requests(path="/chat/completions")]
    assert len(costs) == 24
    assert _exact(api.usage()) == sum(costs) > 0


def test_a_flat_rate_turn_costs_a_tenth_of_a_cent(api):
    for say in ("hello", "/tokens 900"):
        assert _cost(api.chat(say, model="craftpilot/flat-rate")) == Decimal("0.001")


def test_the_dearer_tier_applies_to_long_prompts(api):
    prompt = "/tokens 1\n" + "word " * 200_001
    usage = api.chat(prompt, model="google/gemini-2.5-pro", reasoning={"enabled": False}).json["usage"]
    assert usage["prompt_tokens"] > 200_000
    details = usage["cost_details"]
    assert _exact(details["upstream_inference_prompt_cost"]) == usage["prompt_tokens"] * Decimal("0.0000025")
    assert _exact(details["upstream_inference_completions_cost"]) == usage["completion_tokens"] * Decimal("0.000015")


def test_402_is_computed_from_balance_price_and_max_tokens(api):
    prompt_cost = api.chat("/tokens 1").json["usage"]["cost_details"]["upstream_inference_prompt_cost"]
    balance = _exact(prompt_cost) + 10 * Decimal("0.0000006")
    api.post("/_standin/keys", {"key": POOR, "balance_usd": str(balance)})
    refused = api.chat("/tokens 1", key=POOR, max_tokens=11)
    assert refused.status == 402
    assert "You requested up to 11 tokens, but can only afford 10." in refused.json["error"]["message"]
    assert refused.json["error"]["metadata"] == {"provider_name": None}
    unlimited = api.chat("/tokens 1", key=POOR)
    assert "You requested up to 16384 tokens" in unlimited.json["error"]["message"]
    assert api.chat("/tokens 1", key=POOR, max_tokens=10).status == 200


def test_a_spent_key_can_use_free_models_only(api):
    api.post("/_standin/keys", {"key": POOR, "balance_usd": 0})
    refused = api.chat(key=POOR)
    assert refused.status == 402
    assert refused.json["error"]["message"] == "Insufficient credits. Add more using https://openrouter.ai/credits"
    assert api.chat(key=POOR, model="google/gemini-2.0-flash-exp:free").status == 200
    api.post("/_standin/keys", {"key": POOR, "balance_usd": -1})
    assert api.chat(key=POOR, model="google/gemini-2.0-flash-exp:free").status == 402


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embeddings", {"model": "openai/text-embedding-3-small", "input": "x"}),
        ("/images", {"model": "black-forest-labs/flux.2-pro", "prompt": "x"}),
    ],
)
def test_every_route_refuses_a_spent_key(api, path, body):
    api.post("/_standin/keys", {"key": POOR, "balance_usd": 0})
    assert api.post(path, body, key=POOR).status == 402


def test_keys_do_not_pay_for_each_other(api):
    cost = _cost(api.chat("/tokens 5"))
    assert _exact(api.usage()) == cost
    assert api.usage(POOR) == 0


def _cost(reply):
    assert reply.status == 200
    body = reply.events[-1] if reply.headers["content-type"] == "text/event-stream" else reply.json
    return _exact(body["usage"]["cost"])


def _exact(number):
    return Decimal(repr(number))
