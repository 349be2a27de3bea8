"""What users see of the catalogue: their prices, their plan, their favourites."""

import pytest

from functions.access.http import routes as access_routes
from functions.chat.http import routes as chat_routes
from shared.identity import accounts
from shared.identity.permissions import Role
from tests.store.chat.support import wsgi_client
from tests.store.models.support import ADMIN_MODELS, DEFAULTS, FLASH, MINI, SONNET, SPARE, headers_of, ids, item
from tests.store.users.support import ME


def test_nobody_sees_the_catalogue_without_signing_in(ask):
    assert ask(as_=None).status_code == 401


def test_a_model_is_shown_with_its_price_and_what_a_thousand_words_cost(ask):
    answer = ask()

    assert answer.headers["Cache-Control"] == "private, no-store"
    assert ids(answer) == sorted(ids(answer))
    assert "openrouter/auto" not in ids(answer)
    assert item(answer, MINI) == {
        "id": MINI,
        "name": "OpenAI: GPT-4o-mini",
        "description": "A small multimodal model: fast, cheap, good enough for most chats.",
        "context_tokens": 128_000,
        "max_answer_tokens": 16_384,
        "default_answer_tokens": 2048,
        "input_modalities": ["file", "image", "text"],
        "supported": {"tools": True, "structured_output": True, "reasoning": False, "vision": True},
        "prompt_usd_per_million": "0.15",
        "completion_usd_per_million": "0.6",
        "usd_per_request": "0",
        "tiers": [],
        "thousand_words": {"read_credits": "0.24012", "write_credits": "0.96048"},
        "request_credits": "0",
        "available": True,
        "needs_plan": None,
        "favourite": False,
        "is_default": True,
    }
    assert answer.json["default"] == MINI


def test_a_price_with_tiers_is_shown_with_all_of_them(ask):
    sonnet = item(ask(), SONNET)

    assert (sonnet["prompt_usd_per_million"], sonnet["completion_usd_per_million"]) == ("3", "15")
    assert sonnet["tiers"] == [
        {
            "min_prompt_tokens": 200_000,
            "utc_start": None,
            "utc_end": None,
            "prompt_usd_per_million": "6",
            "completion_usd_per_million": "22.5",
            "usd_per_request": "0",
        }
    ]
    assert sonnet["thousand_words"] == {"read_credits": "4.8024", "write_credits": "24.012"}


def test_a_price_for_each_request_is_shown_in_credits(ask):
    flat = item(ask(), "craftpilot/flat-rate")
    assert (flat["usd_per_request"], flat["request_credits"]) == ("0.001", "1.2")


def test_a_dear_model_takes_a_plan_and_who_has_it_may_ask(ask, someone):
    sonnet = item(ask(), SONNET)
    assert (sonnet["available"], sonnet["needs_plan"]) == (False, "pro")
    assert SONNET not in ids(ask("?available=true"))

    someone.set(plan="pro")

    sonnet = item(ask("?available=true"), SONNET)
    assert (sonnet["available"], sonnet["needs_plan"]) == (True, None)


def test_favourites_and_the_default_are_those_of_the_preferences(ask, someone):
    someone.request("PUT", f"{ME}/preferences", {"favourite_models": [SPARE, "acme/gone"], "default_model": FLASH})

    answer = ask()

    assert [each["id"] for each in answer.json["items"] if each["favourite"]] == [SPARE]
    assert [each["id"] for each in answer.json["items"] if each["is_default"]] == [answer.json["default"]] == [FLASH]
    assert ids(ask("?favourites=true")) == [SPARE]


def test_a_default_above_the_plan_is_no_default(ask, someone):
    someone.request("PUT", f"{ME}/preferences", {"default_model": SONNET})
    assert ask().json["default"] == MINI
    conversations = wsgi_client(chat_routes)

    def model_of_a_new_one() -> str | None:
        answer = conversations.post("/api/v1/conversations", json={}, headers=headers_of(someone))
        assert answer.status_code == 201, answer.text
        model: str | None = answer.get_json()["settings"]["model"]
        return model

    assert model_of_a_new_one() is None
    someone.set(plan="pro")
    assert model_of_a_new_one() == SONNET


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?q=claude+sonnet", ["anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4.6"]),
        ("?q=GPT-4O", [MINI]),
        ("?q=mistral", [SPARE]),
        ("?q=nothing+of+this+name", []),
        ("?q=claude&available=true", []),
    ],
)
def test_models_are_found_by_part_of_their_id_or_name(ask, query, found):
    assert ids(ask(query)) == found


def test_models_are_found_by_what_they_take(ask):
    seeing = ids(ask("?input=image"))
    assert MINI in seeing
    assert SPARE not in seeing


@pytest.mark.parametrize(
    ("query", "field"), [("?input=smell", "input"), ("?available=perhaps", "available"), (f"?q={'x' * 101}", "q")]
)
def test_a_query_that_asks_for_nothing_is_refused_by_name(ask, query, field):
    answer = ask(query)
    assert (answer.status_code, [error["field"] for error in answer.json["errors"]]) == (400, [field])


def test_a_key_that_names_its_models_may_ask_only_those(ask, someone):
    body = '{"name": "one model", "scopes": ["models:read"], "allowed_models": ["mistralai/mistral-small"]}'
    made = wsgi_client(access_routes).post("/api/v1/api-keys", data=body, headers=headers_of(someone))
    key = {"Authorization": f"Bearer {made.get_json()['key']}"}

    answer = ask("?available=true", as_=None, **key)

    assert ids(answer) == [SPARE]
    assert item(ask(as_=None, **key), MINI)["needs_plan"] is None, "another plan would change nothing"


def test_what_operators_decide_shows(ask, operator):
    admin = operator(Role.ADMIN)
    policy = {"model": SPARE, "markup_percent": 0, "max_answer_tokens": 1000, "default_answer_tokens": 500}
    assert admin.request("PUT", ADMIN_MODELS, policy).status_code == 200
    assert admin.request("PUT", ADMIN_MODELS, {"model": "z-ai/glm-4.6", "enabled": False}).status_code == 200
    assert admin.request("PUT", DEFAULTS, {"markup_percent": 100, "stand_ins": [SPARE]}).status_code == 200

    answer = ask()

    spare = item(answer, SPARE)
    assert spare["thousand_words"] == {"read_credits": "0.2668", "write_credits": "0.8004"}
    assert (spare["max_answer_tokens"], spare["default_answer_tokens"]) == (1000, 500)
    assert item(answer, MINI)["thousand_words"]["read_credits"] == "0.4002"
    assert "z-ai/glm-4.6" not in ids(answer)


def test_who_is_suspended_sees_nothing(ask, someone):
    someone.set(status="suspended")
    accounts.forget(someone.uid)
    assert ask().status_code == 403
