"""A new job is run at once, and once, however often its trigger fires."""

from types import SimpleNamespace

import pytest

from functions.privacy import service
from shared.errors import Unavailable
from tests.store.privacy.support import add_job, fill, job
from triggers import privacy as trigger


@pytest.fixture
def fire(world, monkeypatch):
    """The trigger, with the test's clock."""
    run = service.run
    monkeypatch.setattr(service, "run", lambda job_id: run(job_id, clock=world.clock, sleep=world.clock.sleep))
    return lambda job_id: trigger._on_privacy_job_created(SimpleNamespace(params={"job_id": job_id}))


def test_a_new_job_is_run(uid, world, fire):
    fill(uid)
    job_id = add_job(uid, "export")
    fire(job_id)
    assert job(job_id)["state"] == "done"


def test_a_job_that_is_done_is_not_run_again(uid, world, fire):
    job_id = add_job(uid, "export")
    fire(job_id)
    before = job(job_id)
    fire(job_id)
    assert job(job_id) == before


def test_a_job_that_is_gone_is_nobodys(fire):
    fire("job_that_never_was")


def test_what_fails_is_told_to_the_platform_and_left_alone_for_a_while(uid, world, fire):
    world.auth.down = True
    job_id = add_job(uid, "export")
    with pytest.raises(Unavailable):
        fire(job_id)
    world.auth.down = False
    fire(job_id)
    assert job(job_id)["state"] == "running"
    assert job(job_id)["failures"] == 1
