"""Redis is stopped and started while users chat: nobody's request fails for it, and the money stays exact."""

import json
import subprocess
import threading
import time
import uuid
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from emulator.toolchain import find_redis
from functions.credits import service as credits
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.limits.policies import LimitClass, plan_limits
from tests.processes import ROOT, FunctionProcess, free_port, tell
from tests.store.chat.support import MICRO, give, id_token

CHATTERS, READERS = 5, 2
FLAT_PRICE_MICRO = 1_200_000
LOAD_S = 18.0
AWAY_S = 6.0
LONGEST_S = 60.0
"""How long readers go on until they meet their limit: a starved machine reads slowly."""
READS = plan_limits("free").by_user[LimitClass.READ]


class Redis:
    """A server of this test's own, that can be killed and started again at the same port."""

    def __init__(self, folder: Path) -> None:
        found = find_redis(ROOT)
        assert found is not None, "the set-up of the suite installs Redis"
        self.port = free_port()
        self._command = [str(found.path), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class Load:
    """Users who ask one thing after the other, each in a thread of their own."""

    def __init__(self, process: FunctionProcess) -> None:
        self._process = process
        self.turns: dict[str, Counter[int]] = {f"chatter-{uuid.uuid4().hex}": Counter() for _ in range(CHATTERS)}
        self.reads: dict[str, Counter[int]] = {f"reader-{uuid.uuid4().hex}": Counter() for _ in range(READERS)}
        self.failures: list[bytes] = []
        self._began = time.monotonic()
        self.took_s = 0.0
        self._threads = [threading.Thread(target=self._ask_and_ask, args=(uid,)) for uid in [*self.turns, *self.reads]]
        for uid in self.turns:
            give(uid, 10_000)
        for thread in self._threads:
            thread.start()

    def _ask_and_ask(self, uid: str) -> None:
        headers = {"Authorization": f"Bearer {id_token(uid)}"}
        turn = json.dumps({"content": "/say ok", "model": "craftpilot/flat-rate", "stream": False})
        with closing(self._process.connect()) as connection:
            connection.request("POST", "/api/v1/conversations", "{}", headers)
            path = f"/api/v1/conversations/{json.load(connection.getresponse())['id']}"
            while self._goes_on(uid):
                if uid in self.turns:
                    self._count(connection, self.turns[uid], "POST", f"{path}/messages", turn, headers)
                else:
                    self._count(connection, self.reads[uid], "GET", path, None, headers)

    def _goes_on(self, uid: str) -> bool:
        elapsed_s = time.monotonic() - self._began
        meets_no_limit = uid in self.reads and not self.reads[uid][429]
        return elapsed_s < LOAD_S or (meets_no_limit and elapsed_s < LONGEST_S)

    def _count(self, connection, answers, *request) -> None:
        connection.request(*request)
        answer = connection.getresponse()
        said = answer.read()
        answers[answer.status] += 1
        if answer.status not in {200, 429}:
            self.failures.append(said)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=90)
        self.took_s = time.monotonic() - self._began


@pytest.fixture
def redis(tmp_path):
    server = Redis(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def chat(standin, redis, tmp_path):
    process = FunctionProcess("chat", tmp_path / "chat.log", REDIS_URL=redis.url)
    yield process
    process.kill()


def test_no_request_fails_while_redis_is_away_limits_hold_roughly_and_money_exactly(chat, redis, pytestconfig):
    load = Load(chat)
    time.sleep((LOAD_S - AWAY_S) / 2)
    redis.kill()
    time.sleep(AWAY_S)
    redis.start()
    load.join()

    turns, reads = (sum(counted.values(), Counter()) for counted in (load.turns, load.reads))
    tell(pytestconfig, f"Redis away for {AWAY_S:.0f} of {LOAD_S:.0f} s: turns {dict(turns)}, reads {dict(reads)}")
    assert load.failures == []
    assert turns[200] > CHATTERS
    for answers in load.reads.values():
        # Shared limits, then this process's own, then shared ones that Redis has forgotten: three quotas at most, of
        # which each refills by itself, also while another one is asked.
        assert READS.quota <= answers[200] <= 3 * (READS.quota + load.took_s * READS.quota / READS.window_s)
    for uid, answers in load.turns.items():
        balance = credits.get_balance(uid, utc_now())
        assert balance.held_micro == 0
        assert 10_000 * MICRO - balance.available_micro == answers[200] * FLAT_PRICE_MICRO
        assert credits.verify_account(uid) == []
    paid = firestore_client().collection("usage_records").where(filter=FieldFilter("uid", "in", list(load.turns)))
    assert len(paid.get()) == turns[200]
    assert reads[429], "the load is enough to meet a limit"
    assert "limits_local" in chat.log()
