"""When a job may be taken, where it goes on, and how long it waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.privacy.domain import (
    BUSY_PATIENCE,
    EXPORT_TRIES,
    STEPS,
    Job,
    Kind,
    State,
    Step,
    after,
    gives_up,
    may_wait_for_answers,
    pause_after,
    quiet_at,
)
from shared.identity.accounts import STANDING_KEPT

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOB = Job(
    id="job_1",
    kind=Kind.ERASURE,
    uid="ada",
    state=State.QUEUED,
    created_at=NOW,
    step="queued",
    done=0,
    total=0,
    failures=0,
    passes=0,
    cut_off_at=None,
    lease_until=None,
    version=None,
)


def test_a_new_erasure_begins_at_the_first_step():
    assert JOB.erasure_step is Step.CUT_OFF


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_erasure_goes_on_at_its_step(step):
    assert replace(JOB, step=step.value).erasure_step is step


def test_the_steps_lead_from_the_cut_to_the_proof():
    walked = [Step.CUT_OFF]
    while walked[-1] is not Step.PROVE:
        walked.append(after(walked[-1]))
    assert tuple(walked) == STEPS


def test_the_sign_in_goes_only_after_everything_that_needs_it_and_the_proof_comes_last():
    assert STEPS[0] is Step.CUT_OFF
    assert STEPS[-2:] == (Step.SIGN_IN, Step.PROVE)


@pytest.mark.parametrize("state", State)
def test_only_open_jobs_can_be_taken(state):
    assert replace(JOB, state=state).can_be_taken(NOW) == (state in (State.QUEUED, State.RUNNING))


def test_a_leased_job_can_be_taken_when_the_lease_is_over():
    leased = replace(JOB, state=State.RUNNING, lease_until=NOW)
    assert not leased.can_be_taken(NOW - timedelta(microseconds=1))
    assert leased.can_be_taken(NOW)


def test_it_is_quiet_only_when_every_process_has_forgotten_the_standing():
    assert quiet_at(NOW) - NOW > STANDING_KEPT


def test_answers_in_the_making_are_not_waited_for_for_ever():
    assert may_wait_for_answers(NOW, NOW)
    assert not may_wait_for_answers(NOW, NOW + BUSY_PATIENCE)


def test_pauses_grow_up_to_an_hour():
    pauses = [pause_after(failures) for failures in range(1, 40)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (timedelta(minutes=1), timedelta(hours=1))


def test_exports_are_given_up_after_some_tries_and_erasures_never():
    assert [gives_up(Kind.EXPORT, failures) for failures in (EXPORT_TRIES - 1, EXPORT_TRIES)] == [False, True]
    assert not gives_up(Kind.ERASURE, 1000)
