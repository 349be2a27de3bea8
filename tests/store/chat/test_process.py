"""The chat function as Cloud Run runs it: its own process, real sockets, and killed without warning."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from functions.chat import service
from functions.credits import service as credits
from shared.clients import firestore_client
from shared.clock import utc_now
from tests.store.chat.conftest import free_port
from tests.store.chat.support import User, give, id_token, usage_record

ROOT = Path(__file__).parents[3]


class FunctionProcess:
    """`functions-framework` serving one function, in a process group of its own."""

    def __init__(self, target: str, log: Path) -> None:
        self.port = free_port()
        framework = Path(sys.executable).with_name("functions-framework")
        command = [
            str(framework),
            "--source",
            "main.py",
            "--target",
            target,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        environment = {**os.environ, "FUNCTION_TARGET": target}
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        give_up_at = time.monotonic() + 30
        while time.monotonic() < give_up_at:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                connection.request("GET", "/__/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.1)
            finally:
                connection.close()
        self.kill()
        pytest.fail(f"the function's process does not answer:\n{self.log()}")

    @contextmanager
    def post(self, uid: str, path: str, body: dict) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {id_token(uid)}", "Content-Type": "application/json"}
        with closing(connection):
            connection.request("POST", path, json.dumps(body), headers)
            with connection.getresponse() as response:
                yield response

    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)


@pytest.fixture
def process(standin, tmp_path):
    running = FunctionProcess("chat", tmp_path / "chat.log")
    yield running
    if running._process.poll() is None:
        running.kill()


def test_a_killed_process_leaves_an_interrupted_answer_that_is_paid_once(user: User, standin, process, monkeypatch):
    conversation = user.conversation()
    standin.fault(chunk_delay_ms=50)
    path = f"/api/v1/conversations/{conversation}/messages"
    with process.post(user.uid, path, {"content": "/repeat 100 word"}) as stream:
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


def test_credits_for_37_turns_pay_for_exactly_37_of_100_requests_at_once(poor_user: User, process):
    give(poor_user.uid, 37 * 1.2)
    conversation = poor_user.conversation()
    body = {"content": "/say ok", "model": "craftpilot/flat-rate", "stream": False}
    path = f"/api/v1/conversations/{conversation}/messages"

    def ask(_: int) -> int:
        with process.post(poor_user.uid, path, body) as response:
            response.read()
            return response.status

    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=100) as pool:
        statuses = list(pool.map(ask, range(100)))
    answered, refused = statuses.count(200), statuses.count(402)
    print(f"100 at once: {answered} answered, {refused} without credits, {time.monotonic() - started:.1f} s")
    assert (answered, refused) == (37, 63), process.log()
    assert len(poor_user.messages(conversation)) == 74
    account = credits.get_account(poor_user.uid)
    assert (account.amounts.available_micro, account.amounts.held_micro) == (0, 0)
    poor_user.assert_money_is_in_order()


def ledger_of(uid: str) -> list[dict]:
    entries = firestore_client().collection("credit_accounts").document(uid).collection("entries").stream()
    return [entry.to_dict() for entry in entries]
