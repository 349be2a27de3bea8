"""The credit routes, from the request to the answer."""

from datetime import datetime, timedelta

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from functions.credits import http
from shared.errors import Unauthenticated
from shared.http import pipeline
from shared.identity.caller import Caller

DAY = timedelta(days=1)


@pytest.fixture
def get(wallet, monkeypatch):
    """GET a path as a user; the bearer token is the user's id."""

    def authenticate(presented, *, now, fresh):
        assert now == wallet.now
        if not presented.authorization:
            raise Unauthenticated
        return Caller(uid=presented.authorization[0].removeprefix("Bearer "))

    monkeypatch.setattr(pipeline, "authenticate", authenticate)
    handle = pipeline.serve(http.routes, clock=lambda: wallet.now)

    def send(path, uid=wallet.uid):
        headers = [] if uid is None else [("Authorization", f"Bearer {uid}")]
        response = handle(Request(EnvironBuilder(path=path, headers=headers).get_environ()))
        return response.status_code, response.get_json()

    return send


@pytest.mark.parametrize("path", ["/api/v1/credits", "/api/v1/credits/entries"])
def test_anonymous_caller_is_turned_away(get, path):
    assert get(path, uid=None)[0] == 401


def test_user_without_an_account_has_nothing(get):
    status, body = get("/api/v1/credits")
    assert status == 200
    assert body == {
        "available_micro": 0,
        "available": "0",
        "held_micro": 0,
        "held": "0",
        "grants": [],
        "next_expiry_at": None,
    }


def test_credits_come_as_integers_and_as_text_with_the_grants_in_burn_order(get, wallet):
    wallet.grant("forever", 2_000_000, source="pack")
    wallet.grant("soon", 1_500_000, expires_at=wallet.now + DAY, promotional=True, note="Welcome")
    wallet.settle(wallet.hold("h", 1_000_000), 250_000)
    wallet.hold("h2", 10_000)
    status, body = get("/api/v1/credits")
    assert status == 200
    assert (body["available_micro"], body["available"], body["held"]) == (3_240_000, "3.24", "0.01")
    assert [(grant["id"], grant["remaining"]) for grant in body["grants"]] == [("soon", "1.25"), ("forever", "2")]
    soon = body["grants"][0]
    assert (soon["note"], soon["promotional"], soon["amount_micro"]) == ("Welcome", True, 1_500_000)
    assert datetime.fromisoformat(body["next_expiry_at"]) == wallet.now + DAY


def test_entries_come_newest_first_in_pages(get, wallet):
    wallet.grant("g", 100)
    wallet.release(wallet.hold("h", 10, ref={"generation_id": "gen_1"}))
    status, first = get("/api/v1/credits/entries?limit=2")
    assert status == 200
    assert [entry["kind"] for entry in first["items"]] == ["release", "hold"]
    assert first["items"][0]["ref"] == {"purpose": "test", "generation_id": "gen_1", "reason": "test"}
    assert first["items"][1]["held_delta_micro"] == 10
    status, second = get(f"/api/v1/credits/entries?limit=2&cursor={first['next_cursor']}")
    assert ([entry["id"] for entry in second["items"]], second["next_cursor"]) == (["g.grant"], None)


def test_users_see_their_own_ledger_only(get, wallet):
    wallet.grant("g", 100)
    assert get("/api/v1/credits", uid=f"{wallet.uid}-other")[1]["available_micro"] == 0
    assert get("/api/v1/credits/entries", uid=f"{wallet.uid}-other")[1]["items"] == []


@pytest.mark.parametrize(("query", "field"), [("limit=0", "limit"), ("limit=101", "limit"), ("cursor=!", "cursor")])
def test_bad_query_is_refused_naming_the_field(get, query, field):
    status, body = get(f"/api/v1/credits/entries?{query}")
    assert status == 400
    assert [error["field"] for error in body["errors"]] == [field]
