"""The circuit breaker without Redis, and how a process goes from one to the other, by a clock that tests turn."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import breaker, metrics
from shared.breaker import Breakers, CircuitOpen, LocalCircuit, Policy, State, Verdict, View
from shared.redis_link import LinkFailed

POLICY = Policy(
    window_ms=10_000,
    buckets=10,
    min_requests=4,
    failure_percent=50,
    cool_down_ms=1_000,
    longest_cool_down_ms=4_000,
    calm_ms=60_000,
    probe_lease_ms=3_000,
    view_ms=250,
)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


class FakeRedis:
    """A circuit behind a connection that can be cut; counts how often it is asked."""

    def __init__(self, clock: Clock) -> None:
        self.circuits: dict[str, LocalCircuit] = {}
        self.clock = clock
        self.away = False
        self.asked = 0

    def run(self, script, keys, args) -> list[int]:
        self.asked += 1
        if self.away:
            raise LinkFailed("away")
        circuit = self.circuits.setdefault(keys[0], LocalCircuit(POLICY, self.clock))
        own = args[9:]
        if script is breaker._EXCHANGE:
            view = circuit.exchange(*own)
        elif script is breaker._ACQUIRE:
            view = circuit.acquire(*own)
        else:
            view = circuit.end_probe(own[0], Verdict(own[1]))
        return [view.state, view.wait_ms, int(view.opened)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock) -> LocalCircuit:
    return LocalCircuit(POLICY, clock)


@pytest.fixture
def server(clock) -> FakeRedis:
    return FakeRedis(clock)


@pytest.fixture
def breakers(clock, server) -> Breakers:
    return Breakers(lambda: server, POLICY, clock)


@pytest.fixture(autouse=True)
def counted(monkeypatch) -> Counter[str]:
    """What was counted in this test, by the name of the counter."""
    seen: Counter[str] = Counter()
    monkeypatch.setattr(metrics, "count", lambda name, **_: seen.update([name]))
    return seen


def trip(breakers: Breakers, name: str = "x") -> None:
    for _ in range(POLICY.min_requests):
        breakers.get(name).admit().failed()


def test_a_circuit_opens_at_the_ratio_and_not_before_the_minimum_of_requests(circuit):
    assert circuit.exchange(0, 3).state is State.CLOSED
    assert circuit.exchange(0, 1) == View(State.OPEN, 1_000, opened=True)


def test_a_circuit_stays_closed_below_the_ratio(circuit):
    assert circuit.exchange(101, 0).state is State.CLOSED
    assert circuit.exchange(0, 100).state is State.CLOSED
    assert circuit.exchange(0, 1).state is State.OPEN


def test_successes_alone_never_open_a_circuit(circuit):
    circuit.exchange(0, 3)
    assert circuit.exchange(1, 0).state is State.CLOSED
    assert circuit.exchange(0, 1).state is State.OPEN


def test_failures_that_left_the_window_do_not_count(circuit, clock):
    circuit.exchange(0, 3)
    clock.pass_s(10.1)
    assert circuit.exchange(0, 3).state is State.CLOSED
    clock.pass_s(5)
    assert circuit.exchange(0, 1).state is State.OPEN


def test_an_open_circuit_counts_nothing(circuit, clock):
    circuit.exchange(0, 4)
    clock.pass_s(0.5)
    assert circuit.exchange(0, 50) == View(State.OPEN, 500)
    clock.pass_s(0.5)
    assert circuit.exchange(50, 0) == View(State.HALF_OPEN)


def test_half_open_lets_one_through_until_its_lease_is_over(circuit, clock):
    circuit.exchange(0, 4)
    assert circuit.acquire("early").state is State.OPEN
    clock.pass_s(1)
    assert circuit.acquire("first").state is State.PROBE
    assert circuit.acquire("second") == View(State.HALF_OPEN, 3_000)
    clock.pass_s(3)
    assert circuit.acquire("third").state is State.PROBE
    assert circuit.end_probe("first", Verdict.FAILED).state is State.HALF_OPEN
    assert circuit.end_probe("third", Verdict.SUCCEEDED).state is State.CLOSED


def test_a_dropped_probe_makes_room_for_the_next(circuit, clock):
    circuit.exchange(0, 4)
    clock.pass_s(1)
    circuit.acquire("first")
    circuit.end_probe("first", Verdict.DROPPED)
    assert circuit.acquire("second").state is State.PROBE


def test_the_cool_down_grows_with_each_failure_up_to_its_limit(circuit, clock):
    waits = [circuit.exchange(0, 4).wait_ms]
    for number in range(4):
        clock.pass_s(waits[-1] / 1000)
        circuit.acquire(str(number))
        waits.append(circuit.end_probe(str(number), Verdict.FAILED).wait_ms)
    assert waits == [1_000, 2_000, 4_000, 4_000, 4_000]


def test_a_circuit_that_flaps_cools_down_longer_each_time_and_after_a_calm_time_starts_anew(circuit, clock):
    def open_and_close() -> int:
        wait_ms: int = circuit.exchange(0, 4).wait_ms
        clock.pass_s(wait_ms / 1000)
        circuit.acquire("probe")
        assert circuit.end_probe("probe", Verdict.SUCCEEDED).state is State.CLOSED
        return wait_ms

    assert [open_and_close() for _ in range(3)] == [1_000, 2_000, 4_000]
    clock.pass_s(61)
    assert open_and_close() == 1_000


def test_a_circuit_that_closed_has_forgotten_the_failures_before(circuit, clock):
    circuit.exchange(0, 4)
    clock.pass_s(1)
    circuit.acquire("probe")
    circuit.end_probe("probe", Verdict.SUCCEEDED)
    assert circuit.exchange(0, 3).state is State.CLOSED


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 5)), max_size=40))
def test_a_circuit_opens_only_when_the_window_holds_the_ratio(steps):
    clock = Clock()
    circuit = LocalCircuit(POLICY, clock)
    history: list[tuple[float, int, int]] = []
    for good, bad, pause_s in steps:
        clock.pass_s(pause_s)
        history.append((clock.now, good, bad))
        if circuit.exchange(good, bad).opened:
            recent = [entry for entry in history if entry[0] > clock.now - POLICY.window_ms / 1000]
            goods, bads = sum(entry[1] for entry in recent), sum(entry[2] for entry in recent)
            assert bad > 0
            assert goods + bads >= POLICY.min_requests
            # A bucket that is partly outside the window is forgotten as a whole: then fewer were counted than these.
            counted = [entry for entry in recent if int(entry[0]) > int(clock.now) - POLICY.buckets]
            assert 2 * sum(entry[2] for entry in counted) >= sum(entry[1] + entry[2] for entry in counted)
            return


def test_a_closed_circuit_is_asked_for_only_when_the_view_is_too_old(breakers, server, clock):
    for _ in range(1000):
        breakers.get("x").admit().succeeded()
    assert server.asked == 1
    clock.pass_s(0.25)
    breakers.get("x").admit()
    assert server.asked == 2


def test_successes_are_told_with_the_next_view_and_failures_at_once(breakers, server, clock):
    for _ in range(5):
        breakers.get("x").admit().succeeded()
    for _ in range(4):
        breakers.get("x").admit().failed()
    assert breakers.get("x").blocked_for_s() is None
    breakers.get("x").admit().failed()
    assert breakers.get("x").blocked_for_s() == 1


def test_successes_that_were_never_told_are_forgotten_with_their_window(breakers, clock):
    for _ in range(100):
        breakers.get("x").admit().succeeded()
    clock.pass_s(11)
    trip(breakers)
    assert breakers.get("x").blocked_for_s() == 1


def test_an_open_circuit_refuses_at_once_and_says_when_to_come_back(breakers, server, clock):
    trip(breakers)
    clock.pass_s(0.3)
    for _ in range(10):
        with pytest.raises(CircuitOpen) as refused:
            breakers.get("x").admit()
        assert refused.value.retry_after_s == 1
    assert server.asked == 2 + POLICY.min_requests


def test_the_time_to_come_back_is_whole_seconds_of_what_is_left(breakers, clock):
    trip(breakers)
    for longer in range(2):
        clock.pass_s(1 + longer)
        breakers.get("x").admit().failed()
    for left_s, said_s in ((4, 4), (3.9, 4), (2.01, 3), (0.5, 1)):
        clock.now = 1000.0 + 3 + 4 - left_s
        assert breakers.get("x").blocked_for_s() == said_s


def test_one_process_sends_one_probe_and_no_more_calls_for_those_it_refuses(breakers, server, clock):
    trip(breakers)
    clock.pass_s(1)
    probe = breakers.get("x").admit()
    asked = server.asked
    for _ in range(50):
        with pytest.raises(CircuitOpen):
            breakers.get("x").admit()
    assert server.asked == asked
    probe.succeeded()
    assert breakers.get("x").blocked_for_s() is None


def test_a_probe_that_is_being_answered_closes_the_circuit_and_its_later_failure_counts_like_any(breakers, clock):
    trip(breakers)
    clock.pass_s(1)
    probe = breakers.get("x").admit()
    probe.answering()
    assert breakers.get("x").blocked_for_s() is None
    probe.answering()
    probe.failed()
    for _ in range(3):
        breakers.get("x").admit().failed()
    assert breakers.get("x").blocked_for_s() == 2


def test_only_the_first_end_of_a_permit_counts(breakers):
    permit = breakers.get("x").admit()
    permit.dropped()
    for _ in range(10):
        permit.failed()
    assert breakers.get("x").blocked_for_s() is None


def test_a_dropped_request_counts_for_nothing(breakers):
    for _ in range(10):
        breakers.get("x").admit().dropped()
    for _ in range(3):
        breakers.get("x").admit().failed()
    assert breakers.get("x").blocked_for_s() is None


def test_circuits_of_different_names_do_not_touch_each_other(breakers):
    trip(breakers, "broken")
    assert breakers.get("broken").blocked_for_s() == 1
    assert breakers.get("well").blocked_for_s() is None


def test_of_alternatives_those_that_are_open_are_left_out(breakers):
    trip(breakers, "b")
    choice = breakers.choose(["a", "b", "c"])
    assert (choice.names, choice.bypass) == (["a", "c"], False)


def test_when_all_alternatives_are_open_all_may_be_tried_and_that_is_counted(breakers, counted):
    trip(breakers, "a")
    trip(breakers, "b")
    choice = breakers.choose(["a", "b"])
    assert (choice.names, choice.bypass) == (["a", "b"], True)
    permit = breakers.get("a").admit(insist=True)
    assert permit.bypass
    permit.failed()
    assert breakers.get("a").blocked_for_s() == 1
    assert counted["breaker_bypassed_total"] == 1


def test_who_insists_still_takes_the_probe_when_it_is_free(breakers, clock):
    trip(breakers)
    clock.pass_s(1)
    probe = breakers.get("x").admit(insist=True)
    assert not probe.bypass
    probe.succeeded()
    assert breakers.get("x").blocked_for_s() is None


def test_without_redis_a_process_goes_by_its_own_outcomes(breakers, server, clock, counted):
    server.away = True
    trip(breakers)
    with pytest.raises(CircuitOpen):
        breakers.get("x").admit()
    clock.pass_s(1)
    probe = breakers.get("x").admit()
    with pytest.raises(CircuitOpen):
        breakers.get("x").admit()
    probe.succeeded()
    breakers.get("x").admit().succeeded()
    assert counted["breaker_local_total"] > 0
    assert counted["breaker_opened_total"] == 1


def test_a_dead_redis_is_asked_once_a_second_whatever_the_traffic(breakers, server, clock):
    server.away = True
    for number in range(40):
        for _ in range(3):
            breakers.get(str(number)).admit().failed()
        clock.pass_s(0.05)
    assert server.asked == 2


def test_an_open_circuit_stays_open_when_redis_goes_away(breakers, server, clock):
    trip(breakers)
    clock.pass_s(0.5)
    server.away = True
    assert breakers.get("x").blocked_for_s() == 1
    clock.pass_s(0.4)
    with pytest.raises(CircuitOpen):
        breakers.get("x").admit()
    clock.pass_s(0.1)
    breakers.get("x").admit().succeeded()
    assert breakers.get("x").blocked_for_s() is None


def test_when_redis_is_back_the_shared_circuit_counts_again(breakers, server, clock):
    server.away = True
    breakers.get("x").admit().succeeded()
    server.away = False
    clock.pass_s(1)
    others = Breakers(lambda: server, POLICY, clock)
    trip(others)
    clock.pass_s(0.25)
    with pytest.raises(CircuitOpen):
        breakers.get("x").admit()


def test_a_probe_whose_end_redis_did_not_hear_runs_out(breakers, server, clock):
    trip(breakers)
    clock.pass_s(1)
    probe = breakers.get("x").admit()
    server.away = True
    probe.succeeded()
    server.away = False
    clock.pass_s(3)
    breakers.get("x").admit().succeeded()
    assert breakers.get("x").blocked_for_s() is None
