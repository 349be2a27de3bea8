"""When a failed call is tried again, by a clock that tests turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import retries
from shared.deployment import FUNCTIONS
from shared.errors import AppError, InvalidRequest, UpstreamBusy, UpstreamError
from shared.openrouter import Cancellation, StreamCancelled, Timeouts
from shared.retries import Patience


class Scene:
    """Attempts that take some time and fail as told; pauses that pass at once and are written down."""

    def __init__(self, *outcomes: AppError | str, attempt_s: float = 0.0, jitter: float = 1.0) -> None:
        self.outcomes = list(outcomes)
        self.attempt_s = attempt_s
        self.jitter = jitter
        self.now = 0.0
        self.begun_at: list[float] = []
        self.pauses: list[float] = []

    def attempt(self) -> str:
        self.begun_at.append(self.now)
        self.now += self.attempt_s
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, AppError):
            raise outcome
        return outcome

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def call(self, patience: Patience | None = None) -> str:
        return retries.call(
            self.attempt,
            pause_after=lambda error: None if isinstance(error, InvalidRequest) else float(error.retry_after_s or 0),
            wait=self.wait,
            patience=patience,
            monotonic=lambda: self.now,
            jitter=lambda low, high: low + (high - low) * self.jitter,
        )


def test_a_first_success_is_not_repeated():
    scene = Scene("answer")
    assert scene.call() == "answer"
    assert scene.begun_at == [0]


def test_what_fails_once_is_tried_again_after_a_pause():
    scene = Scene(UpstreamError(), "answer")
    assert scene.call() == "answer"
    assert scene.pauses == [0.4]


def test_three_attempts_are_all_and_the_last_error_is_raised():
    last = UpstreamBusy()
    scene = Scene(UpstreamError(), UpstreamError(), last, "never")
    with pytest.raises(UpstreamBusy) as raised:
        scene.call()
    assert raised.value is last
    assert scene.pauses == [0.4, 0.8]


def test_what_must_not_be_repeated_is_raised_at_once():
    scene = Scene(InvalidRequest(), "never")
    with pytest.raises(InvalidRequest):
        scene.call()
    assert scene.pauses == []


def test_the_asked_for_wait_is_kept_and_lengthened_by_chance():
    scene = Scene(UpstreamBusy(retry_after_s=3), "answer", jitter=0.5)
    assert scene.call() == "answer"
    assert scene.pauses == [3.2]


def test_a_wait_beyond_the_total_time_gives_up_at_once_with_that_wait():
    scene = Scene(UpstreamBusy(retry_after_s=21), "never")
    with pytest.raises(UpstreamBusy) as raised:
        scene.call()
    assert raised.value.retry_after_s == 21
    assert scene.pauses == []


def test_the_total_time_counts_the_attempts_too():
    scene = Scene(UpstreamError(), UpstreamError(), "never", attempt_s=15)
    with pytest.raises(UpstreamError):
        scene.call()
    assert len(scene.begun_at) == 2


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 30)), min_size=3, max_size=3),
    st.floats(0, 30),
    st.floats(0, 1),
)
def test_no_attempt_ever_begins_after_the_total_time_or_too_early(waits, attempt_s, jitter):
    errors = [UpstreamBusy(retry_after_s=wait) for wait in waits]
    scene = Scene(*errors, attempt_s=attempt_s, jitter=jitter)
    with pytest.raises(UpstreamBusy):
        scene.call()
    assert len(scene.begun_at) <= Patience().attempts
    assert scene.begun_at[-1] <= Patience().total_s
    for wait, pause in zip(waits, scene.pauses, strict=False):
        assert pause >= (wait or 0)


def test_the_pauses_are_full_jitter():
    assert list(Patience(attempts=4, first_pause_s=0.5).longest_pauses_s()) == [0.5, 1.0, 2.0]
    scene = Scene(UpstreamError(), UpstreamError(), "answer", jitter=0.0)
    assert scene.call() == "answer"
    assert scene.pauses == [0, 0]


def test_the_last_attempt_ends_within_the_time_a_request_may_take():
    longest_s = Patience().total_s + Timeouts().connect_s + Timeouts().first_byte_s
    assert longest_s < FUNCTIONS["chat"].options.timeout_s


def test_a_stop_ends_the_waiting_at_once():
    cancellation = Cancellation()
    attempts = []

    def attempt() -> None:
        attempts.append(1)
        cancellation.cancel()
        raise UpstreamBusy(retry_after_s=15)

    with pytest.raises(StreamCancelled):
        retries.call(attempt, pause_after=lambda _: 15.0, wait=cancellation.wait)
    assert len(attempts) == 1
