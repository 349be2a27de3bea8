"""The shared circuit in a real Redis keeps the rules of the local one, and many instances send one probe."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from shared.breaker import Breakers, Circuit, CircuitOpen, LocalCircuit, Permit, Policy, SharedCircuit, State, Verdict
from shared.redis_link import Link

ROOT = Path(__file__).parents[3]
INSTANCES = 20
NOWHERE = "redis://127.0.0.1:9/0"
POLICY = Policy(
    window_ms=3_000,
    buckets=10,
    min_requests=4,
    failure_percent=50,
    cool_down_ms=300,
    longest_cool_down_ms=1_000,
    calm_ms=2_000,
    probe_lease_ms=1_000,
    view_ms=20,
)


_links: list[Link] = []


def patient_link() -> Link:
    """A busy machine must not make a test of the shared circuit one of the local one."""
    _links.append(Link(os.environ["REDIS_URL"], timeout_s=5))
    return _links[-1]


@pytest.fixture(autouse=True)
def _closed_links() -> Iterator[None]:
    yield
    while _links:
        _links.pop().close()


@pytest.fixture
def name() -> str:
    return f"test:{uuid.uuid4().hex}"


@pytest.fixture(params=["shared", "local"])
def circuit(request, name) -> Circuit:
    if request.param == "local":
        return LocalCircuit(POLICY)
    link = patient_link()
    return SharedCircuit(name, POLICY, lambda: link)


@pytest.fixture
def breakers() -> Breakers:
    return instance()


def instance(policy: Policy = POLICY) -> Breakers:
    """What one instance of a function holds: its own view, its own connections."""
    link = patient_link()
    return Breakers(lambda: link, policy)


def open_until_half_open(circuit: Circuit) -> None:
    wait_ms = circuit.exchange(0, POLICY.min_requests).wait_ms
    time.sleep(wait_ms / 1000 + 0.02)


def trip(breakers: Breakers, name: str) -> None:
    for _ in range(POLICY.min_requests):
        breakers.get(name).admit().failed()


# The rules, of both kinds of circuit alike.


def test_it_opens_at_the_ratio_and_not_before_the_minimum_of_requests(circuit):
    assert circuit.exchange(0, 3).state is State.CLOSED
    opened = circuit.exchange(0, 1)
    assert (opened.state, opened.wait_ms, opened.opened) == (State.OPEN, 300, True)
    later = circuit.exchange(0, 5)
    assert (later.state, later.opened) == (State.OPEN, False)
    assert 0 < later.wait_ms <= 300


def test_it_stays_closed_below_the_ratio(circuit):
    assert circuit.exchange(101, 0).state is State.CLOSED
    assert circuit.exchange(0, 100).state is State.CLOSED
    assert circuit.exchange(5, 0).state is State.CLOSED
    assert circuit.exchange(0, 5).state is State.CLOSED
    assert circuit.exchange(0, 1).state is State.OPEN


def test_successes_alone_never_open_it(circuit):
    circuit.exchange(0, 3)
    assert circuit.exchange(1, 0).state is State.CLOSED


def test_it_forgets_what_has_left_the_window(circuit):
    circuit.exchange(0, 3)
    time.sleep(3.1)
    assert circuit.exchange(0, 3).state is State.CLOSED
    time.sleep(1)
    assert circuit.exchange(0, 1).state is State.OPEN


def test_half_open_it_lets_one_through_until_the_lease_is_over(circuit):
    open_until_half_open(circuit)
    assert circuit.exchange(9, 9).state is State.HALF_OPEN
    assert circuit.acquire("first").state is State.PROBE
    second = circuit.acquire("second")
    assert second.state is State.HALF_OPEN
    assert 0 < second.wait_ms <= 1_000
    time.sleep(1.02)
    assert circuit.acquire("third").state is State.PROBE
    assert circuit.end_probe("first", Verdict.FAILED).state is State.HALF_OPEN
    assert circuit.end_probe("third", Verdict.SUCCEEDED).state is State.CLOSED
    assert circuit.exchange(0, 3).state is State.CLOSED


def test_a_dropped_probe_makes_room_for_the_next(circuit):
    open_until_half_open(circuit)
    circuit.acquire("first")
    circuit.end_probe("first", Verdict.DROPPED)
    assert circuit.acquire("second").state is State.PROBE


def test_the_cool_down_grows_up_to_its_limit_and_is_forgotten_after_a_calm_time(circuit):
    waits = [circuit.exchange(0, 4).wait_ms]
    for number in range(3):
        time.sleep(waits[-1] / 1000 + 0.02)
        assert circuit.acquire(str(number)).state is State.PROBE
        waits.append(circuit.end_probe(str(number), Verdict.FAILED).wait_ms)
    assert waits == [300, 600, 1_000, 1_000]
    time.sleep(1.02)
    circuit.acquire("last")
    circuit.end_probe("last", Verdict.SUCCEEDED)
    time.sleep(2.1)
    assert circuit.exchange(0, 4).wait_ms == 300


def test_a_probe_asked_for_twice_by_the_same_request_is_the_same_probe(name):
    link = patient_link()
    circuit = SharedCircuit(name, POLICY, lambda: link)
    open_until_half_open(circuit)
    assert circuit.acquire("mine").state is State.PROBE
    assert circuit.acquire("mine").state is State.PROBE
    assert circuit.acquire("theirs").state is State.HALF_OPEN


def test_nothing_of_a_circuit_stays_in_redis_for_ever(name):
    link = patient_link()
    circuit = SharedCircuit(name, POLICY, lambda: link)
    keys = (f"breaker:{{{name}}}", f"breaker:{{{name}}}:trips")

    def left_ms() -> list[int]:
        return [link.call("PTTL", key) for key in keys if link.call("EXISTS", key)]

    circuit.exchange(1, 1)
    assert left_ms()
    assert all(0 < ms <= 3_000 for ms in left_ms())
    open_until_half_open(circuit)
    circuit.acquire("probe")
    assert len(left_ms()) == 2
    assert all(0 < ms <= 24 * 60 * 60 * 1000 for ms in left_ms())


# Many instances.


def test_one_instance_s_failures_close_the_door_of_all(name):
    instances = [instance() for _ in range(INSTANCES)]
    for each in instances[:4]:
        each.get(name).admit().failed()
    time.sleep(POLICY.view_ms / 1000)
    for each in instances:
        with pytest.raises(CircuitOpen):
            each.get(name).admit()


def passed(instances: list[Breakers], name: str, threads_each: int = 1) -> list[Permit]:
    """The permits that were given when all instances ask at the same moment, from many threads each."""
    together = threading.Barrier(len(instances) * threads_each)

    def ask(each: Breakers) -> Permit | None:
        together.wait(10)
        try:
            return each.get(name).admit()
        except CircuitOpen:
            return None

    with ThreadPoolExecutor(max_workers=len(instances) * threads_each) as pool:
        return [permit for permit in pool.map(ask, instances * threads_each) if permit is not None]


def test_twenty_instances_with_three_threads_each_send_exactly_one_probe(name):
    policy = replace(POLICY, probe_lease_ms=30_000)
    instances = [instance(policy) for _ in range(INSTANCES)]
    trip(instances[0], name)
    time.sleep(POLICY.cool_down_ms / 1000)
    [probe] = passed(instances, name, threads_each=3)
    assert passed(instances, name) == []
    probe.succeeded()
    time.sleep(POLICY.view_ms / 1000)
    assert len(passed(instances, name)) == INSTANCES


def test_a_failed_probe_leaves_the_door_closed_for_all_and_for_longer(name):
    instances = [instance() for _ in range(INSTANCES)]
    trip(instances[0], name)
    time.sleep(POLICY.cool_down_ms / 1000)
    [probe] = passed(instances, name)
    probe.failed()
    time.sleep(0.35)
    assert passed(instances, name) == []
    time.sleep(0.3)
    assert len(passed(instances, name)) == 1


PROBER = """
import os, sys, time
from shared.breaker import Breakers, CircuitOpen, Policy
from shared.redis_link import Link
link = Link(os.environ["REDIS_URL"], timeout_s=10)
breaker = Breakers(lambda: link, Policy(probe_lease_ms=int(sys.argv[3]))).get(sys.argv[1])
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    permit = breaker.admit()
except CircuitOpen:
    print("refused", flush=True)
else:
    print("probe", flush=True)
    time.sleep(60)
"""


def processes(count: int, name: str, begin_at: float, lease_ms: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROBER, name, str(begin_at), str(lease_ms)]
    environment = {**os.environ, "GCLOUD_PROJECT": "demo-craftpilot", "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]


def answers(running: list[subprocess.Popen[str]]) -> list[str]:
    """What each process says of itself: whether it got the probe. Lines of its log are passed over."""

    def answer(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return next(line.strip() for line in process.stdout if not line.startswith("{"))

    with ThreadPoolExecutor(max_workers=len(running)) as pool:
        return list(pool.map(answer, running))


def test_twenty_processes_send_exactly_one_probe_and_its_death_makes_room_for_another(name):
    slow = replace(POLICY, cool_down_ms=1_000)
    trip(instance(slow), name)
    lease_ms = 8_000
    running = processes(INSTANCES, name, time.time() + 5, lease_ms)
    try:
        said = answers(running)
        print(f"{INSTANCES} processes at half-open: {said.count('probe')} probe, {said.count('refused')} refused")
        assert (said.count("probe"), said.count("refused")) == (1, INSTANCES - 1)
        running[said.index("probe")].kill()
        with pytest.raises(CircuitOpen):
            instance().get(name).admit()
        time.sleep(lease_ms / 1000)
        instance().get(name).admit().succeeded()
        assert instance().get(name).blocked_for_s() is None
    finally:
        for process in running:
            process.kill()
            process.communicate()


# Redis away.


@pytest.fixture(params=["refused", "silent"])
def dead_url(request) -> Iterator[str]:
    """Where no Redis is: nobody listens, or somebody who never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        yield NOWHERE if request.param == "refused" else f"redis://127.0.0.1:{mute.getsockname()[1]}/0"


def test_without_redis_it_works_alone_and_costs_milliseconds(name, dead_url):
    link = Link(dead_url)
    breakers = Breakers(lambda: link, POLICY)
    started = time.monotonic()
    trip(breakers, name)
    with pytest.raises(CircuitOpen):
        breakers.get(name).admit()
    assert time.monotonic() - started < 0.25
    time.sleep(POLICY.cool_down_ms / 1000)
    breakers.get(name).admit().succeeded()
    assert breakers.get(name).blocked_for_s() is None


def test_a_circuit_follows_redis_out_and_back_in(name):
    links = {"there": patient_link(), "gone": Link(NOWHERE)}
    now = "there"
    breakers = Breakers(lambda: links[now], replace(POLICY, cool_down_ms=5_000, longest_cool_down_ms=5_000))
    trip(breakers, name)
    now = "gone"
    time.sleep(POLICY.view_ms / 1000)
    with pytest.raises(CircuitOpen):
        breakers.get(name).admit()
    links["there"].call("DEL", f"breaker:{{{name}}}")
    now = "there"
    time.sleep(1.1)
    breakers.get(name).admit().dropped()


def test_many_threads_count_every_failure(breakers, name):
    policy = replace(POLICY, min_requests=400, window_ms=60_000)
    counting = instance(policy)

    def fail(_: int) -> None:
        counting.get(name).admit().failed()

    with ThreadPoolExecutor(max_workers=20) as pool:
        list(pool.map(fail, range(399)))
        assert counting.get(name).blocked_for_s() is None
        fail(0)
    assert counting.get(name).blocked_for_s() == 1


def test_a_closed_circuit_costs_microseconds(breakers, name):
    calls = 20_000
    started = time.perf_counter()
    for _ in range(calls):
        breakers.get(name).admit().succeeded()
    each_us = (time.perf_counter() - started) / calls * 1e6
    link = patient_link()
    circuit = SharedCircuit(name, POLICY, lambda: link)
    started = time.perf_counter()
    for _ in range(200):
        circuit.exchange(1, 0)
    exchange_us = (time.perf_counter() - started) / 200 * 1e6
    print(json.dumps({"admit_and_succeed_us": round(each_us, 1), "redis_exchange_us": round(exchange_us)}))
    assert breakers.get(name).blocked_for_s() is None
