"""What operators decide about models: who may, what is refused, what is told, and when it holds."""

from typing import Any

import pytest

from functions.models import repository, service
from functions.models.catalogue import KEPT_S, Catalogue
from functions.models.repository import Versioned
from shared.errors import InvalidRequest, PermissionDenied
from shared.identity.permissions import Role
from tests.store.models.support import ADMIN_MODELS, DEFAULTS, FLASH, MINI, SONNET, SPARE, stored_policy
from tests.store.users.support import Somebody

ROUTES = [("GET", ADMIN_MODELS), ("PUT", ADMIN_MODELS), ("GET", DEFAULTS), ("PUT", DEFAULTS)]
BODIES: dict[str, dict[str, Any]] = {ADMIN_MODELS: {"model": SPARE, "enabled": False}, DEFAULTS: {"markup_percent": 1}}
FULL: dict[str, Any] = {
    "enabled": True,
    "min_plan": "enterprise",
    "markup_percent": 35,
    "max_answer_tokens": 4096,
    "default_answer_tokens": 1024,
    "default_parameters": {"temperature": 0.3, "reasoning": {"effort": "low"}},
    "fallbacks": [FLASH, MINI],
}


@pytest.fixture
def admin(operator) -> Somebody:
    return operator(Role.ADMIN)


def refusal(answer):
    assert answer.status_code == 400, answer.get_data(as_text=True)
    return [error["field"] for error in answer.json["errors"]]


def decided(admin):
    return [event for event in admin.events() if event["type"] == "admin.model_policy.changed"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("role", [Role.USER, Role.SUPPORT, Role.MODERATOR])
def test_only_admins_see_and_decide(operator, role, method, path):
    somebody = operator(role)
    answer = somebody.request(method, path, BODIES[path] if method == "PUT" else None)
    assert (answer.status_code, answer.json["permission"]) == (403, "models:manage")
    assert stored_policy("mistralai~mistral-small") is None
    assert decided(somebody) == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_decides_without_signing_in_or_after_their_sign_in_was_revoked(admin, auth, method, path):
    body = BODIES[path] if method == "PUT" else None
    assert admin.request(method, path, body, Authorization="").status_code == 401
    auth.records[admin.uid].disabled = True
    assert admin.request(method, path, body).status_code == 401


def test_operators_see_every_model_with_what_holds_for_it(admin):
    answer = admin.request("GET", ADMIN_MODELS).json

    shown = {item["id"]: item for item in answer["items"]}
    assert shown[SONNET] == {
        "id": SONNET,
        "name": "Anthropic: Claude Sonnet 4.5",
        "canonical_slug": "anthropic/claude-4.5-sonnet-20250929",
        "context_tokens": 1_000_000,
        "max_answer_tokens": 64_000,
        "highest_prompt_usd_per_million": "6",
        "highest_completion_usd_per_million": "22.5",
        "needs_plan": "pro",
        "markup_percent": 20,
        "policy": {
            "enabled": True,
            "min_plan": None,
            "markup_percent": None,
            "max_answer_tokens": None,
            "default_answer_tokens": None,
            "default_parameters": {
                "temperature": None,
                "top_p": None,
                "frequency_penalty": None,
                "presence_penalty": None,
                "reasoning": None,
            },
            "fallbacks": [],
        },
    }
    assert answer["defaults"] == {
        "default_models": {"free": None, "pro": None, "enterprise": None},
        "stand_ins": [FLASH],
        "markup_percent": None,
        "highest_usd_per_million": {"free": "5", "pro": None, "enterprise": None},
    }
    assert admin.request("GET", DEFAULTS).json == answer["defaults"]


def test_a_decision_about_a_model_is_stored_shown_and_told(admin):
    answer = admin.request("PUT", ADMIN_MODELS, {"model": SPARE, **FULL})

    assert answer.status_code == 200
    assert (answer.json["needs_plan"], answer.json["markup_percent"]) == ("enterprise", 35)
    assert answer.json["policy"]["fallbacks"] == [FLASH, MINI]
    assert stored_policy("mistralai~mistral-small").items() >= FULL.items()
    assert [item for item in admin.request("GET", ADMIN_MODELS).json["items"] if item["id"] == SPARE] == [answer.json]
    (event,) = decided(admin)
    assert (event["topic"], event["subject"]) == ("user-events", "model_policies/mistralai~mistral-small")
    assert event["data"]["model"] == SPARE
    assert event["data"]["changes"]["markup_percent"] == {"was": None, "is": 35}
    assert "enabled" not in event["data"]["changes"]


def test_a_second_decision_replaces_the_first_and_tells_what_it_was(admin):
    admin.request("PUT", ADMIN_MODELS, {"model": SPARE, **FULL})
    admin.request("PUT", ADMIN_MODELS, {"model": SPARE, "markup_percent": 10})

    assert stored_policy("mistralai~mistral-small")["fallbacks"] == []
    assert stored_policy("mistralai~mistral-small")["default_parameters"] == {}
    assert decided(admin)[-1]["data"]["changes"]["markup_percent"] == {"was": 35, "is": 10}


def test_the_same_decision_again_changes_and_tells_nothing(admin):
    for _ in range(2):
        assert admin.request("PUT", ADMIN_MODELS, {"model": SPARE, **FULL}).status_code == 200
        assert admin.request("PUT", DEFAULTS, {"markup_percent": 30}).status_code == 200
    assert len(decided(admin)) == 2


@pytest.mark.parametrize(("path", "body"), BODIES.items())
def test_a_repeated_key_decides_once(admin, path, body):
    key = {"Idempotency-Key": "the-same-again"}
    first, again = (admin.request("PUT", path, body, **key) for _ in range(2))

    assert (first.status_code, again.json) == (200, first.json)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(decided(admin)) == 1
    assert admin.request("PUT", path, FULL | BODIES[path], **key).status_code in (400, 422)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model"),
        ({"model": ""}, "model"),
        ({"model": "acme/none"}, "model"),
        ({"model": "anthropic/claude-4.5-sonnet-20250929"}, "model"),
        ({"model": "../../users/x"}, "model"),
        ({"model": SPARE, "enabled": "no"}, "enabled"),
        ({"model": SPARE, "min_plan": "platinum"}, "min_plan"),
        ({"model": SPARE, "markup_percent": -1}, "markup_percent"),
        ({"model": SPARE, "markup_percent": 1001}, "markup_percent"),
        ({"model": SPARE, "markup_percent": 1.5}, "markup_percent"),
        ({"model": SPARE, "max_answer_tokens": 0}, "max_answer_tokens"),
        ({"model": SPARE, "max_answer_tokens": 10, "default_answer_tokens": 11}, "default_answer_tokens"),
        ({"model": SPARE, "default_parameters": {"temperature": 3}}, "default_parameters.temperature"),
        ({"model": SPARE, "default_parameters": {"system": "x"}}, "default_parameters.system"),
        ({"model": SPARE, "default_parameters": {"reasoning": {"effort": "much"}}}, None),
        ({"model": SPARE, "fallbacks": ["acme/none"]}, "fallbacks[0]"),
        ({"model": SPARE, "fallbacks": [MINI, SPARE]}, "fallbacks[1]"),
        ({"model": SPARE, "fallbacks": [MINI, MINI]}, "fallbacks"),
        ({"model": SPARE, "fallbacks": [MINI] * 6}, "fallbacks"),
        ({"model": SPARE, "uid": "me"}, "uid"),
    ],
)
def test_a_decision_that_cannot_hold_is_refused_by_name(admin, body, field):
    answer = admin.request("PUT", ADMIN_MODELS, body)

    assert refusal(answer) == [field or "default_parameters.reasoning.effort"]
    assert stored_policy("mistralai~mistral-small") is None
    assert decided(admin) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"default_models": {"free": "acme/none"}}, "default_models.free"),
        ({"default_models": {"free": SONNET}}, "default_models.free"),
        ({"default_models": {"gold": MINI}}, "default_models.gold"),
        ({"default_models": {"pro": SONNET}, "highest_usd_per_million": {"pro": "1"}}, "default_models.pro"),
        ({"stand_ins": ["acme/none"]}, "stand_ins[0]"),
        ({"stand_ins": [MINI, MINI]}, "stand_ins"),
        ({"markup_percent": "20"}, "markup_percent"),
        ({"highest_usd_per_million": {"free": "-1"}}, "highest_usd_per_million.free"),
        ({"highest_usd_per_million": {"free": "Infinity"}}, "highest_usd_per_million.free"),
        ({"highest_usd_per_million": {"free": "cheap"}}, "highest_usd_per_million.free"),
        ({"highest_usd_per_million": {"free": "1e30"}}, "highest_usd_per_million.free"),
        ({"ceilings": {}}, "ceilings"),
    ],
)
def test_a_default_that_cannot_hold_is_refused_by_name(admin, body, field):
    assert refusal(admin.request("PUT", DEFAULTS, body)) == [field]
    assert stored_policy("~defaults") is None
    assert decided(admin) == []


def test_defaults_are_stored_shown_and_told(admin):
    body = {
        "default_models": {"pro": SONNET},
        "stand_ins": [SPARE],
        "markup_percent": 30,
        "highest_usd_per_million": {"free": "0.5", "pro": "25"},
    }
    answer = admin.request("PUT", DEFAULTS, body)

    assert answer.status_code == 200
    assert answer.json["highest_usd_per_million"] == {"free": "0.5", "pro": "25", "enterprise": None}
    assert admin.request("GET", DEFAULTS).json == answer.json
    (event,) = decided(admin)
    assert (event["data"]["model"], event["subject"]) == (None, "model_policies/~defaults")
    assert event["data"]["changes"]["stand_ins"] == {"was": [FLASH], "is": [SPARE]}
    assert [model.slug for model in service.choose(None, plan="pro")] == [SONNET, SPARE]
    with pytest.raises(PermissionDenied):
        service.choose(MINI, plan="free")


def test_a_decision_holds_in_every_process_within_a_minute(admin, monkeypatch):
    now = 0.0
    elsewhere = Catalogue(lambda: now)
    elsewhere.look_up([SPARE])
    admin.request("PUT", ADMIN_MODELS, {"model": SPARE, "enabled": False})

    with pytest.raises(InvalidRequest):
        service.choose(SPARE, plan="free")
    assert elsewhere.look_up([SPARE]).entries[SPARE].policy.enabled
    now += KEPT_S
    assert not elsewhere.look_up([SPARE]).entries[SPARE].policy.enabled


@pytest.mark.parametrize("read", [Versioned(None, None), None], ids=["created", "changed"])
def test_of_two_who_decide_at_the_same_time_one_is_told_to_look_again(admin, monkeypatch, read):
    if read is None:
        admin.request("PUT", ADMIN_MODELS, {"model": SPARE, "markup_percent": 1})
        read = repository.get_policy(SPARE)
    admin.request("PUT", ADMIN_MODELS, {"model": SPARE, "markup_percent": 2})
    told = len(decided(admin))
    monkeypatch.setattr(repository, "get_policy", lambda _: read)

    answer = admin.request("PUT", ADMIN_MODELS, {"model": SPARE, "markup_percent": 3})

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert stored_policy("mistralai~mistral-small")["markup_percent"] == 2
    assert len(decided(admin)) == told
