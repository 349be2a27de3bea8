"""What tests of shared limits need: time that can be moved, a Redis that can be lost, processes of their own."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

import redis

from shared.limits.gcra import Bucket, Slot
from shared.limits.limiter import Limiter, Reachability
from shared.limits.policies import Concurrency, Policy
from shared.limits.shared_buckets import SharedBuckets
from shared.redis_link import Link
from shared.settings import settings

ROOT = Path(__file__).parents[3]
DAY_S = 86_400
HUNDRED = Policy("hundred", 100, window_s=DAY_S)
TWO = Concurrency("two", 2)
# A busy test machine may pause for longer than a request would wait in production.
PATIENT_S = 5.0


def new_key():
    return f"limits:{{all}}:test:{uuid.uuid4().hex}"


def new_slot(key, policy=TWO):
    return Slot(key, uuid.uuid4().hex, policy)


def patient_link(url=None):
    return Link(url or settings().redis_url, timeout_s=PATIENT_S)


def limiter_on(link, *, lease_s=30.0, renew_every_s=10.0, pause_s=0.5):
    return Limiter(
        SharedBuckets(link, lease_s=lease_s), reachability=Reachability(pause_s=pause_s), renew_every_s=renew_every_s
    )


def raw_redis():
    return redis.Redis.from_url(settings().redis_url, decode_responses=True)


class MovableTime:
    """Redis's clock cannot be moved; everything that was stored can, the other way."""

    def __init__(self, prefix):
        self._prefix = prefix
        self._redis = raw_redis()

    def advance(self, us):
        for key in self._redis.scan_iter(match=f"{self._prefix}*", count=1000):
            if self._redis.type(key) == "zset":
                for member, score in self._redis.zrange(key, 0, -1, withscores=True):
                    self._redis.zadd(key, {member: score - us})
            else:
                self._redis.set(key, int(self._redis.get(key)) - us, keepttl=True)

    def close(self):
        self._redis.close()


def wait_until(holds, *, seconds=20):
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at, "This did not come true in time."
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Mood(Enum):
    FORWARDS = "forwards"
    SILENT = "accepts and reads, and never answers"
    DEAD = "refuses connections"


class Between:
    """A wire between a limiter and Redis that can go silent, break, and be mended."""

    def __init__(self):
        target = urlsplit(settings().redis_url)
        self._target = (target.hostname, target.port)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.connections = 0
        self._mood = Mood.FORWARDS
        self._open: set[socket.socket] = set()
        self._listener = self._listen()

    def become(self, mood):
        """Every connection there is breaks, unless the wire only goes silent."""
        was, self._mood = self._mood, mood
        if mood is Mood.DEAD:
            self._listener.close()
        elif was is Mood.DEAD:
            self._listener = self._listen()
        if mood is not Mood.SILENT:
            self._break()

    def close(self):
        self._mood = Mood.DEAD
        self._listener.close()
        self._break()

    def _break(self):
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _listen(self):
        listener = socket.create_server(("127.0.0.1", self.port), backlog=200)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                if self._mood is Mood.DEAD:
                    client.close()
                    continue
                self.connections += 1
                server = socket.create_connection(self._target)
                self._open |= {client, server}
                threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client), daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError), source:
            while data := source.recv(65_536):
                if self._mood is Mood.FORWARDS:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)


@contextlib.contextmanager
def python_process(code, *arguments):
    """A process of its own that runs the code and is gone at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def hundred(key, cost=1):
    return Bucket(key, HUNDRED, cost)
