"""What a turn takes of its caller's limits: a place among those that run, tokens, and the credits of an API key."""

import json
import re
import uuid
from typing import Any

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.access.http import routes as access_routes
from functions.chat.http import routes as chat_routes
from functions.credits import service as credits
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.identity import tokens
from shared.identity.caller import Caller
from shared.limits.admission import admit
from shared.limits.policies import LimitClass, plan_limits
from tests.store.chat.support import MICRO, User, events_of, give, id_token, wsgi_client

FREE = plan_limits("free")
FLAT_PRICE_MICRO = 1_200_000
ASK = {"content": "/say ok", "model": "craftpilot/flat-rate", "stream": False}


class Asker(User):
    """A user whose requests are counted, from an address of their own."""

    def __init__(self) -> None:
        super().__init__(f"limited-{uuid.uuid4().hex}", wsgi_client(chat_routes))
        give(self.uid, 1000)
        self.conversation_id = self.conversation()

    def turn(self, headers: dict[str, str] | None = None, **body: Any) -> Any:
        path = f"/api/v1/conversations/{self.conversation_id}/messages"
        return self.request("POST", path, {**ASK, **body}, headers=headers or {})

    def make_key(self, **wish: Any) -> dict[str, Any]:
        answer = wsgi_client(access_routes).open(
            "/api/v1/api-keys",
            method="POST",
            data=json.dumps({"name": "program", "scopes": ["chat:write"], **wish}),
            headers={"Authorization": f"Bearer {id_token(self.uid)}"},
        )
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return answer.get_json()


@pytest.fixture(autouse=True)
def _signed_in(monkeypatch):
    """Whether a sign-in was revoked is asked of Firebase Auth, which is not there."""
    monkeypatch.setattr(tokens, "refuse_when_revoked", lambda *_: None)


@pytest.fixture
def asker(standin) -> Asker:
    return Asker()


def remaining(answer: Any, policy: str) -> int:
    found = re.search(rf'"{policy}";r=(\d+)', answer.headers["RateLimit"])
    assert found, answer.headers["RateLimit"]
    return int(found[1])


def test_no_more_answers_are_made_at_once_than_the_plan_allows(asker):
    running = [asker.turn(stream=True) for _ in range(FREE.generations.slots)]
    refused = asker.turn()
    assert (refused.status_code, refused.json["reason"]) == (429, "concurrency")
    assert int(refused.headers["Retry-After"]) >= 1
    for answer in running:
        assert events_of(answer)[-1] == "[DONE]"
        answer.close()
    assert asker.turn().status_code == 200
    asker.assert_money_is_in_order()


def test_the_tokens_of_an_answer_count_once_they_are_known(asker):
    before = remaining(asker.turn(), "tokens")
    answer = asker.turn(content="/tokens 300")
    usage = answer.json["usage"]
    after = remaining(asker.turn(), "tokens")
    taken = usage["prompt_tokens"] + usage["completion_tokens"]
    # The first answer's own tokens count too, and a few come back each second.
    assert taken > 300
    assert before - after >= taken * 0.8


def test_a_stream_counts_its_tokens_too(asker):
    before = remaining(asker.turn(), "tokens")
    stream = asker.turn(content="/tokens 500", stream=True)
    events_of(stream)
    stream.close()
    assert before - remaining(asker.turn(), "tokens") >= 400


def test_whoever_used_up_the_tokens_waits(asker):
    one = asker.turn(content="/say hello")
    assert one.status_code == 200
    charge_tokens(asker.uid, FREE.tokens.quota)
    refused = asker.turn()
    assert (refused.status_code, refused.json["reason"]) == (429, "tokens")
    assert 0 < int(refused.headers["Retry-After"]) <= FREE.tokens.window_s
    asker.assert_money_is_in_order()


def charge_tokens(uid: str, amount: int) -> None:
    admission = admit(limit_class=LimitClass.GENERATE, weight=1, caller=Caller(uid=uid), address="")
    admission.charge_tokens(amount)
    admission.release()


def test_a_key_spends_no_more_than_its_monthly_limit_and_its_owner_goes_on(asker):
    key = asker.make_key(monthly_limit_credits=3.5)
    header = {"Authorization": f"Bearer {key['key']}"}
    statuses = [asker.turn(header).status_code for _ in range(2)]
    assert statuses == [200, 200], "1.2 credits each, and a third one could cost more than is left"
    refused = asker.turn(header)
    assert (refused.status_code, refused.json["reason"]) == (402, "key_limit")
    assert asker.turn().status_code == 200
    [usage] = firestore_client().collection("key_usage").where(filter=FieldFilter("uid", "==", asker.uid)).get()
    assert usage.get("spent_micro") == 2 * FLAT_PRICE_MICRO
    assert 1000 * MICRO - credits.get_balance(asker.uid, utc_now()).available_micro == 3 * FLAT_PRICE_MICRO
    asker.assert_money_is_in_order()


def test_a_key_asks_only_the_models_it_is_for(asker):
    key = asker.make_key(allowed_models=["craftpilot/flat-rate"])
    answer = keyed(asker, key["key"], model="openai/gpt-4o-mini")
    assert (answer.status_code, answer.get_json()["reason"]) == (403, "model_not_allowed")
    assert keyed(asker, key["key"], model="craftpilot/flat-rate").status_code == 200


def keyed(asker: Asker, key: str, **body: Any) -> Any:
    path = f"/api/v1/conversations/{asker.conversation_id}/messages"
    return asker.client.open(path, method="POST", data=json.dumps({**ASK, **body}), headers={"X-API-Key": key})
