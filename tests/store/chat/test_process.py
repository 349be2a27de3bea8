"""The chat function as Cloud Run runs it: its own process, real sockets, and killed without warning."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

from functions.chat import service
from functions.credits import service as credits
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.limits.policies import plan_limits
from tests.processes import FunctionProcess
from tests.store.chat.support import User, give, id_token, usage_record


@contextmanager
def post(process: FunctionProcess, uid: str, path: str, body: dict) -> Iterator[http.client.HTTPResponse]:
    headers = {"Authorization": f"Bearer {id_token(uid)}", "Content-Type": "application/json"}
    with closing(process.connect()) as connection:
        connection.request("POST", path, json.dumps(body), headers)
        with connection.getresponse() as response:
            yield response


@pytest.fixture
def process(standin, tmp_path):
    running = FunctionProcess("chat", tmp_path / "chat.log")
    yield running
    running.kill()


def test_a_killed_process_leaves_an_interrupted_answer_that_is_paid_once(user: User, standin, process, monkeypatch):
    conversation = user.conversation()
    standin.fault(chunk_delay_ms=50)
    path = f"/api/v1/conversations/{conversation}/messages"
    with post(process, user.uid, path, {"content": "/repeat 100 word"}) as stream:
        while b"text-delta" not in stream.readline():
            pass
        for _ in range(10):
            stream.readline()
        process.kill()
    assert user.messages(conversation) == []
    assert user.balance().held_micro > 0

    # The producer's sign of life runs out by itself; only the sweep's own patience is cut short.
    monkeypatch.setattr(service, "SILENT_FOR", timedelta(0))
    give_up_at = time.monotonic() + 40
    while user.balance().held_micro and time.monotonic() < give_up_at:
        service.sweep(now=utc_now())
        time.sleep(0.5)
    question, answer = user.messages(conversation)
    assert (question["status"], answer["status"]) == ("completed", "interrupted")
    assert answer["parts"][0]["text"].startswith("word")
    record = usage_record(answer["generation_id"])
    assert 1000 * 10**6 - user.balance().available_micro == record["charged_micro"] > 0
    ends = [entry for entry in ledger_of(user.uid) if entry["kind"] in {"settle", "release", "expire_hold"}]
    assert len(ends) == 1
    user.assert_money_is_in_order()
    assert user.ask(conversation, "/say goes on").json["message"]["status"] == "completed"


def test_credits_for_37_turns_pay_for_exactly_37_of_100_requests_ten_at_a_time(poor_user: User, process):
    give(poor_user.uid, 37 * 1.2)
    conversation = poor_user.conversation()
    firestore_client().collection("users").document(poor_user.uid).update({"plan": "enterprise"})
    body = {"content": "/say ok", "model": "craftpilot/flat-rate", "stream": False}
    path = f"/api/v1/conversations/{conversation}/messages"

    def ask(_: int) -> int:
        with post(process, poor_user.uid, path, body) as response:
            response.read()
            return response.status

    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=plan_limits("enterprise").generations.slots // 2) as pool:
        statuses = list(pool.map(ask, range(100)))
    answered, refused = statuses.count(200), statuses.count(402)
    print(f"100 requests: {answered} answered, {refused} without credits, {time.monotonic() - started:.1f} s")
    assert (answered, refused) == (37, 63), process.log()
    assert len(poor_user.messages(conversation)) == 74
    account = credits.get_account(poor_user.uid)
    assert (account.amounts.available_micro, account.amounts.held_micro) == (0, 0)
    poor_user.assert_money_is_in_order()


def ledger_of(uid: str) -> list[dict]:
    entries = firestore_client().collection("credit_accounts").document(uid).collection("entries").stream()
    return [entry.to_dict() for entry in entries]
