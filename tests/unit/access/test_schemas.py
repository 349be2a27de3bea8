"""What a request for a key may say: nothing of whose it is, what it is, or what keys must not do."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import ValidationError

from functions.access.domain import KeyState
from functions.access.schemas import KeyChanges, KeyOut, KeyRequest, RotationRequest, to_micro
from shared.identity.permissions import KEY_SCOPES, Permission

GOOD = {"name": "CI", "scopes": ["chat:read"]}


def parsed(model, body):
    return model.model_validate_json(json.dumps(body), strict=True)


def test_a_request_needs_a_name_and_scopes_and_no_more():
    request = parsed(KeyRequest, GOOD)
    assert (request.name, request.scopes) == ("CI", [Permission.CHAT_READ])
    assert (request.expires_at, request.expires_in_days, request.allowed_models) == (None, None, None)
    assert to_micro(request.monthly_limit_credits) is None


@pytest.mark.parametrize(
    "field", ["uid", "id", "key", "budget_id", "revoked_at", "last_used_at", "role", "plan", "digest"]
)
@pytest.mark.parametrize("model", [KeyRequest, KeyChanges])
def test_nobody_can_set_what_is_not_theirs_to_set(model, field):
    with pytest.raises(ValidationError) as refusal:
        parsed(model, {**GOOD, field: "x"})
    assert [error["loc"] for error in refusal.value.errors()] == [(field,)]


BAD = {
    "no name": {"name": ""},
    "a name of spaces": {"name": "  "},
    "a name with a line break": {"name": "a\nb"},
    "a name with a NUL": {"name": "a\0"},
    "a name that is turned around": {"name": "a\u202eb"},
    "a name of nothing to see": {"name": "\u3164"},
    "a name of what has no width": {"name": "\u200b"},
    "a name too long": {"name": "x" * 81},
    "no scopes": {"scopes": []},
    "a scope nobody knows": {"scopes": ["everything"]},
    "a scope in another form": {"scopes": ["CHAT:READ"]},
    "too many scopes": {"scopes": ["chat:read"] * 50},
    "an expiry today": {"expires_in_days": 0},
    "an expiry in the far future": {"expires_in_days": 3651},
    "an expiry of no number": {"expires_in_days": "30"},
    "a time without a zone": {"expires_at": "2026-05-01T00:00:00"},
    "two expiries": {"expires_in_days": 1, "expires_at": "2026-05-01T00:00:00Z"},
    "a limit of nothing": {"monthly_limit_credits": 0},
    "a negative limit": {"monthly_limit_credits": -1},
    "a limit finer than a millionth": {"monthly_limit_credits": "0.0000001"},
    "a limit that is no number": {"monthly_limit_credits": "NaN"},
    "a limit without end": {"monthly_limit_credits": "Infinity"},
    "a limit beyond all money": {"monthly_limit_credits": 10**12},
    "a limit with an exponent": {"monthly_limit_credits": "1e3"},
    "a limit in groups": {"monthly_limit_credits": "1_000"},
    "a limit with a space": {"monthly_limit_credits": " 1"},
    "a limit in the digits of another script": {"monthly_limit_credits": "\u0663"},
    "no models": {"allowed_models": []},
    "a model with spaces": {"allowed_models": ["openai/gpt 4"]},
    "an empty model": {"allowed_models": [""]},
    "a model too long": {"allowed_models": ["x" * 201]},
    "too many models": {"allowed_models": ["a/b"] * 101},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_refused(change):
    with pytest.raises(ValidationError):
        parsed(KeyRequest, {**GOOD, **change})


@pytest.mark.parametrize(
    ("limit", "micro"),
    [(1, 1_000_000), (0.5, 500_000), ("12.000001", 12_000_001), (0.1, 100_000), (1_000_000_000, 10**15)],
)
def test_a_limit_becomes_exact_micro_credits(limit, micro):
    assert to_micro(parsed(KeyRequest, {**GOOD, "monthly_limit_credits": limit}).monthly_limit_credits) == micro


def test_half_of_a_millionth_is_never_lost():
    assert to_micro(Decimal("0.000001")) == 1


@pytest.mark.parametrize(
    "model", ["openai/gpt-4o-mini", "anthropic/claude-3.7-sonnet:thinking", "~x-ai/grok_4", "auto"]
)
def test_models_are_named_as_the_catalogue_names_them(model):
    assert parsed(KeyRequest, {**GOOD, "allowed_models": [model]}).allowed_models == [model]


def test_what_is_left_out_of_changes_is_known_from_what_is_lifted():
    assert parsed(KeyChanges, {}).model_fields_set == set()
    assert parsed(KeyChanges, {"monthly_limit_credits": None}).model_fields_set == {"monthly_limit_credits"}


@pytest.mark.parametrize("seconds", [-1, 86_401, 1.5, "60", True])
def test_a_grace_is_a_day_at_most(seconds):
    with pytest.raises(ValidationError):
        parsed(RotationRequest, {"grace_seconds": seconds})


def test_the_document_names_the_scopes_a_key_can_have_and_no_others():
    items = KeyRequest.model_json_schema()["properties"]["scopes"]["items"]
    assert set(items["enum"]) == {scope.value for scope in KEY_SCOPES}


def test_an_answer_about_a_key_has_no_place_for_the_key():
    assert not {"key", "digest", "uid", "secret", "hash"} & set(KeyOut.model_fields)
    answer = KeyOut(
        id="key_1",
        name="CI",
        hint="abcd",
        state=KeyState.LIVE,
        scopes=["chat:read"],
        allowed_models=None,
        monthly_limit_micro=None,
        monthly_limit_credits=None,
        spent_this_month_micro=0,
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        expires_at=None,
        revoked_at=None,
        last_used_at=None,
        rotated_from=None,
        rotated_to=None,
    )
    assert "cp_live_" not in answer.model_dump_json()
