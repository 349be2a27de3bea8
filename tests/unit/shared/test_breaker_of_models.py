"""Of whom a failure of a model call speaks, whether it is asked again, and what the circuits learn from it."""

from collections.abc import Callable
from email.message import Message
from typing import Any

import pytest

from shared import metrics
from shared.breaker import Breakers, Policy
from shared.clock import utc_now
from shared.errors import UpstreamBusy, UpstreamError, UpstreamTimeout
from shared.openrouter import Cancellation, StreamCancelled, UpstreamFailedMidStream, asking
from shared.openrouter.asking import SERVICE, Attempt, circuit_of
from shared.openrouter.errors import Blame, blame, may_be_asked_again, refused
from shared.redis_link import Link, LinkFailed

MODEL = "acme/fast"
POLICY = Policy(min_requests=4)


class NoRedis(Link):
    """A connection to nowhere: the circuits live in this process alone."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:9/0")

    def run(self, *_: object) -> Any:
        raise LinkFailed("no Redis in a unit test")


class FakeCancellation(Cancellation):
    """Pauses pass at once and are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        super().wait(0)


class Calls:
    """Calls to a provider that end as told, one after the other; the last end repeats."""

    def __init__(self, *ends: BaseException | str) -> None:
        self.ends = list(ends)
        self.made = 0

    def __call__(self) -> str:
        end = self.ends[min(self.made, len(self.ends) - 1)]
        self.made += 1
        if isinstance(end, BaseException):
            raise end
        return end


@pytest.fixture(autouse=True)
def own(monkeypatch) -> Breakers:
    monkeypatch.setattr(metrics, "count", lambda *_, **__: None)
    breakers = Breakers(NoRedis, POLICY)
    monkeypatch.setattr(asking, "breakers", lambda: breakers)
    return breakers


@pytest.fixture
def cancellation() -> FakeCancellation:
    return FakeCancellation()


def status(code: int, body: bytes = b"", **headers: str) -> UpstreamError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return refused(code, message, body, utc_now())


def mid_stream(reason: UpstreamError) -> UpstreamFailedMidStream:
    return UpstreamFailedMidStream(reason, usage=None, content_delivered=True, generation_id="gen-1")


# What is refused or breaks before an answer begins: whom it speaks of, and whether it is asked again.
FAILURES = [
    (status(400), Blame.NOBODY, False),
    (status(401), Blame.NOBODY, False),
    (status(402), Blame.NOBODY, False),
    (status(403), Blame.NOBODY, False),
    (status(404), Blame.NOBODY, False),
    (status(405), Blame.NOBODY, False),
    (status(408), Blame.MODEL, True),
    (status(413), Blame.NOBODY, False),
    (status(422), Blame.NOBODY, False),
    (status(429), Blame.MODEL, True),
    (status(302), Blame.NOBODY, False),
    (status(500), Blame.SERVICE, True),
    (status(502), Blame.MODEL, True),
    (status(503), Blame.MODEL, True),
    (status(504), Blame.MODEL, True),
    (status(521), Blame.SERVICE, True),
    (status(524), Blame.MODEL, True),
    (status(529), Blame.MODEL, True),
    (UpstreamError(fault="connect_failed"), Blame.SERVICE, True),
    (UpstreamTimeout(fault="connect_timeout"), Blame.SERVICE, True),
    (UpstreamError(fault="first_byte_failed"), Blame.SERVICE, True),
    (UpstreamTimeout(fault="first_byte_timeout"), Blame.MODEL, False),
    (UpstreamError(fault="kept_connection_closed"), Blame.NOBODY, True),
    (UpstreamError(fault="malformed_answer"), Blame.MODEL, False),
    (mid_stream(status(500)), Blame.MODEL, False),
    (mid_stream(status(502)), Blame.MODEL, False),
    (mid_stream(status(429)), Blame.MODEL, False),
    (mid_stream(UpstreamError(fault="ended_early")), Blame.MODEL, False),
    (mid_stream(UpstreamTimeout(fault="read_timeout")), Blame.MODEL, False),
    (mid_stream(status(400)), Blame.NOBODY, False),
    (mid_stream(status(402)), Blame.NOBODY, False),
]


def name_of(error: UpstreamError) -> str:
    told = error.details.get("upstream_status") or error.details.get("fault")
    return f"{'after-200-' if isinstance(error, UpstreamFailedMidStream) else ''}{told}"


@pytest.mark.parametrize(("error", "whose", "again"), FAILURES, ids=[name_of(each[0]) for each in FAILURES])
def test_a_failure_speaks_of_one_of_them_and_is_asked_again_or_not(error, whose, again):
    assert blame(error) is whose
    assert may_be_asked_again(error) is again


@pytest.mark.parametrize(("error", "whose", "again"), FAILURES, ids=[name_of(each[0]) for each in FAILURES])
def test_a_failure_opens_the_circuit_it_speaks_of_and_no_other(own, error, whose, again):
    for _ in range(POLICY.min_requests):
        Attempt(MODEL, insist=False).failed(error)
    opened = {name for name in (SERVICE, circuit_of(MODEL)) if own.get(name).blocked_for_s() is not None}
    assert opened == {Blame.SERVICE: {SERVICE}, Blame.MODEL: {circuit_of(MODEL)}, Blame.NOBODY: set()}[whose]


def test_a_model_s_failures_show_that_openrouter_lives(own):
    for _ in range(3):
        Attempt("acme/other", insist=False).failed(status(500))
    for number in range(8):
        Attempt(f"acme/{number}", insist=False).failed(status(502))
    Attempt("acme/other", insist=False).failed(status(500))
    assert own.get(SERVICE).blocked_for_s() is None


def test_an_answer_comes_with_the_attempt_whose_end_its_caller_tells(own, cancellation):
    answer, attempt = asking.ask(MODEL, Calls("answer"), cancellation=cancellation)
    assert answer == "answer"
    for _ in range(POLICY.min_requests):
        asking.ask(MODEL, Calls("answer"), cancellation=cancellation)[1].failed(mid_stream(status(502)))
    attempt.succeeded()
    assert own.get(circuit_of(MODEL)).blocked_for_s() is not None


def test_a_passing_failure_is_asked_again_after_the_time_that_was_asked_for(cancellation):
    calls = Calls(status(503, Retry_After="7"), status(502), "answer")
    assert asking.ask(MODEL, calls, cancellation=cancellation)[0] == "answer"
    assert calls.made == 3
    assert 7 <= cancellation.pauses[0] <= 7.4
    assert 0 <= cancellation.pauses[1] <= 0.8


def test_a_429_that_names_no_time_is_not_waited_for_long(cancellation):
    asking.ask(MODEL, Calls(status(429), "answer"), cancellation=cancellation)
    assert cancellation.pauses[0] <= 0.4


def test_a_5xx_may_name_a_time_too(cancellation):
    asking.ask(MODEL, Calls(status(502, Retry_After="3"), "answer"), cancellation=cancellation)
    assert cancellation.pauses[0] >= 3


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_time_beyond_the_cap_is_told_to_the_caller_at_once(cancellation, code):
    calls = Calls(status(code, Retry_After="120"), "never")
    with pytest.raises(UpstreamError) as raised:
        asking.ask(MODEL, calls, cancellation=cancellation)
    assert raised.value.retry_after_s == 120
    assert calls.made == 1


def test_a_stop_is_no_failure_and_ends_everything(own, cancellation):
    for _ in range(POLICY.min_requests):
        with pytest.raises(StreamCancelled):
            asking.ask(MODEL, Calls(StreamCancelled()), cancellation=cancellation)
    cancellation.cancel()
    calls = Calls(status(502), "never")
    with pytest.raises(StreamCancelled):
        asking.ask(MODEL, calls, cancellation=cancellation)
    assert calls.made == 1
    assert own.get(circuit_of(MODEL)).blocked_for_s() is None


def test_a_mistake_of_our_own_is_no_failure_of_the_provider(own, cancellation):
    for _ in range(POLICY.min_requests):
        with pytest.raises(KeyError):
            asking.ask(MODEL, Calls(KeyError("ours")), cancellation=cancellation)
    assert own.get(circuit_of(MODEL)).blocked_for_s() is None


def test_nothing_is_called_while_a_circuit_is_open(cancellation):
    with pytest.raises(UpstreamError):
        asking.ask(MODEL, Calls(status(502)), cancellation=cancellation)
    calls = Calls(status(502))
    with pytest.raises(UpstreamBusy) as opened:
        asking.ask(MODEL, calls, cancellation=cancellation)
    assert calls.made == 1
    assert opened.value.details == {"circuit": circuit_of(MODEL)}
    with pytest.raises(UpstreamBusy) as refused_again:
        asking.ask(MODEL, calls, cancellation=cancellation)
    assert calls.made == 1
    assert refused_again.value.retry_after_s == 5
    with pytest.raises(UpstreamBusy):
        asking.refuse_if_open(SERVICE, circuit_of(MODEL))
    asking.refuse_if_open(SERVICE)


def test_the_probe_of_openrouter_is_given_back_when_the_model_is_not_asked(own, monkeypatch):
    clock = [1000.0]
    breakers = Breakers(NoRedis, POLICY, lambda: clock[0])
    monkeypatch.setattr(asking, "breakers", lambda: breakers)
    for _ in range(4):
        breakers.get(SERVICE).admit().failed()
    clock[0] += 4
    for _ in range(4):
        breakers.get(circuit_of(MODEL)).admit().failed()
    clock[0] += 1
    with pytest.raises(UpstreamBusy) as busy:
        Attempt(MODEL, insist=False)
    assert busy.value.details == {"circuit": circuit_of(MODEL)}
    Attempt("acme/other", insist=False).succeeded()
    assert breakers.get(SERVICE).blocked_for_s() is None


def test_against_an_open_circuit_one_attempt_is_made_and_no_second(cancellation):
    for _ in range(POLICY.min_requests):
        Attempt(MODEL, insist=False).failed(status(502))
    calls = Calls(status(502), "never")
    with pytest.raises(UpstreamError):
        asking.ask(MODEL, calls, cancellation=cancellation, insist=True)
    assert calls.made == 1
    answer, attempt = asking.ask(MODEL, Calls("answer"), cancellation=cancellation, insist=True)
    assert answer == "answer"
    assert attempt.bypass


def test_openrouter_itself_has_no_alternative(cancellation):
    for _ in range(POLICY.min_requests):
        Attempt(MODEL, insist=False).failed(status(500))
    calls = Calls("never")
    with pytest.raises(UpstreamBusy):
        asking.ask(MODEL, calls, cancellation=cancellation, insist=True)
    assert calls.made == 0


@pytest.mark.parametrize("end", [Attempt.succeeded, Attempt.dropped], ids=["succeeded", "dropped"])
def test_only_the_first_end_of_an_attempt_counts(own, end: Callable[[Attempt], None]):
    for _ in range(POLICY.min_requests):
        attempt = Attempt(MODEL, insist=False)
        end(attempt)
        attempt.failed(status(502))
    assert own.get(circuit_of(MODEL)).blocked_for_s() is None
