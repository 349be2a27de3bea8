"""An erased account is gone from everywhere, whatever happens on the way, and its audit chain still holds."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from google.api_core import exceptions as google_errors

from functions.activity import repository as chain
from functions.activity import service as activity
from functions.activity.domain import ACCOUNT_ERASED
from functions.privacy import repository, service, sign_in
from functions.privacy.domain import BUSY_PATIENCE, LEASE, QUIET, UPLOAD_TAKES, Job
from functions.privacy.erasure import pseudonym
from shared import holdings, storage, store
from shared.clients import firestore_client, redis_client, storage_bucket
from shared.errors import Unauthenticated, Unavailable
from shared.identity import accounts
from shared.identity.tokens import Person
from tests.store.privacy.support import AVATAR, START, World, add_job, fill, happened, job, put, traces

EFFECTS = 59
"""How many an erasure of the test's user has."""


@pytest.fixture
def full(uid, world):
    """A user about whom something is held everywhere."""
    fill(uid)
    world.auth.add(uid)
    return uid


def erase(world: World, uid: str) -> str:
    job_id = add_job(uid, "erasure")
    assert world.run(job_id)
    return job_id


def person(uid: str) -> Person:
    return Person(uid=uid, email=f"{uid}@example.com")


def assert_all_is_gone(world: World, uid: str, job_id: str) -> None:
    assert traces(uid) == []
    assert uid not in world.auth.users
    done = job(job_id)
    assert done["state"] == "done"
    assert done["uid_sha256"] == pseudonym(uid)
    assert set(done["result"]["proof"].values()) == {0}
    assert done["result"]["activity_chain"] == "holds"
    assert holdings.is_erased(uid)
    links = list(chain.all_links(pseudonym(uid)))
    assert activity.find_break(pseudonym(uid)) is None
    assert links[-1][0].action == ACCOUNT_ERASED
    assert all(entry.is_erased for entry, _ in links[:-1])


def test_nothing_of_an_erased_account_is_left_anywhere(full, world):
    assert len(traces(full)) > 25
    job_id = erase(world, full)
    assert_all_is_gone(world, full, job_id)
    assert job(job_id)["result"]["passes"] == 1


def test_the_proof_names_every_place_that_was_looked_at(full, world):
    proof = job(erase(world, full))["result"]["proof"]
    assert {"users/{uid}", "users/{uid}/conversations", "usage_records", "events", "activity/{uid}"} <= set(proof)
    assert {"redis preferences:{uid}", "redis gen:*:meta", "files avatars/{uid}/", "firebase_auth"} <= set(proof)


def test_what_belongs_to_others_stays(full, world):
    other = f"{full}0"
    fill(other)
    world.auth.add(other)
    before = traces(other)
    erase(world, full)
    assert traces(other) == before
    assert other in world.auth.users


def test_the_entries_of_the_log_live_on_under_a_pseudonym_and_without_content(full, world):
    before = [(entry.n, entry.event_id, entry.action, digest) for entry, digest in chain.all_links(full)]
    erase(world, full)
    after = list(chain.all_links(pseudonym(full)))
    assert [(entry.n, entry.event_id, entry.action, digest) for entry, digest in after[:-1]] == before
    assert chain.read_head(full)[1] is None


def test_a_user_without_any_data_is_erased_too(uid, world):
    job_id = erase(world, uid)
    assert_all_is_gone(world, uid, job_id)


def test_keys_and_sessions_go_first_and_no_refresh_token_is_worth_anything(full, world, monkeypatch):
    monkeypatch.setattr(repository, "list_other_jobs", _fails_after(repository.list_other_jobs, 1))
    job_id = add_job(full, "erasure")
    with pytest.raises(Killed):
        world.run(job_id)
    left = traces(full)
    assert not [trace for trace in left if trace.startswith(("api_keys", "sessions", "redis session"))]
    assert [trace for trace in left if trace.startswith("users/")]
    assert world.auth.revoked == [full]
    assert holdings.is_erased(full)


def test_nothing_is_deleted_before_every_process_has_forgotten_the_account(full, world, monkeypatch):
    seen = []

    def note(references):
        seen.append((world.clock.now, references[0].path))
        delete(references)

    delete = repository.delete_documents
    monkeypatch.setattr(repository, "delete_documents", note)
    erase(world, full)
    early = {path.split("/")[0] for at, path in seen if at < START + QUIET}
    assert early == {"api_keys", "sessions", "key_usage"}


def test_a_token_that_still_holds_does_not_open_the_account_anew(full, world):
    erase(world, full)
    accounts.forget_all()
    with pytest.raises(Unauthenticated) as refused:
        accounts.get_or_open(person(full), now=START)
    assert refused.value.details["reason"] == "account_deleted"
    assert traces(full) == []


def test_the_user_name_can_be_taken_by_others(full, world):
    reservation = firestore_client().document(f"usernames/ada-{full}")
    with pytest.raises(google_errors.AlreadyExists):
        reservation.create({"uid": "somebody else"})
    erase(world, full)
    reservation.create({"uid": "somebody else"})


# What is late


def test_an_event_that_is_delivered_after_the_erasure_leaves_no_trace(full, world):
    late = happened(full, 9)
    job_id = erase(world, full)
    assert not activity.record(late, now=START)
    assert_all_is_gone(world, full, job_id)


def test_events_that_arrive_while_the_log_is_moved_are_moved_too(full, world, monkeypatch):
    late = [happened(full, n) for n in range(10, 14)]
    move = activity.erase_some

    def interrupted(*args, **options):
        if late:
            activity.record(late.pop(), now=START)
        return move(*args, **options)

    monkeypatch.setattr(activity, "erase_some", interrupted)
    job_id = erase(world, full)
    assert_all_is_gone(world, full, job_id)
    assert len(list(chain.all_links(pseudonym(full)))) == 3 + 4 + 1


def test_an_event_that_is_chained_between_reading_and_moving_is_not_lost(full, world, monkeypatch):
    late = [happened(full, 10)]
    commit = store.commit
    moved: list[bool] = []

    def racing(batch):
        if late and moved:
            activity.record(late.pop(), now=START)
        return commit(batch)

    erase_some = activity.erase_some

    def counted(*args, **options):
        moved.append(True)
        return erase_some(*args, **options)

    monkeypatch.setattr(activity, "erase_some", counted)
    monkeypatch.setattr(store, "commit", racing)
    job_id = erase(world, full)
    assert_all_is_gone(world, full, job_id)
    assert len(list(chain.all_links(pseudonym(full)))) == 3 + 1 + 1


def test_a_chain_that_a_straggler_begins_anew_is_taken_away_and_the_sealed_one_stays(full, world):
    erase(world, full)
    sealed = list(chain.all_links(pseudonym(full)))
    put(f"activity/{full}", n=1, hash="0" * 64)
    put(f"activity/{full}/entries/{1:012d}", **{**sealed[0][0].__dict__, "hash": sealed[0][1]})
    while activity.erase_some(full, pseudonym=pseudonym(full), event_id="evt_late", now=START):
        pass
    assert traces(full) == []
    assert list(chain.all_links(pseudonym(full))) == sealed


def test_what_is_written_behind_the_erasures_back_is_found_by_the_proof_and_goes_in_another_pass(
    full, world, monkeypatch
):
    late = [f"credit_accounts/{full}/checkpoints/latest"]
    delete = storage_delete = repository.delete_keys

    def racing(keys):
        if late and any(key.startswith("limits:") for key in keys):
            put(late.pop(), ledger="{}")
        storage_delete(keys)

    monkeypatch.setattr(repository, "delete_keys", racing)
    job_id = add_job(full, "erasure")
    assert not world.run(job_id)
    assert job(job_id)["state"] == "running"
    assert job(job_id)["progress"]["step"] == "documents"
    monkeypatch.setattr(repository, "delete_keys", delete)
    world.clock.go_on(timedelta(minutes=1))
    assert world.sweep()["privacy_jobs_done"] == 1
    assert_all_is_gone(world, full, job_id)
    assert job(job_id)["result"]["passes"] == 2


# What happens on the way


class Killed(BaseException):
    """The process died: nothing catches this."""


def _fails_after(act, times):
    """`act`, until it was called so often; then the process dies instead."""
    left = [times]

    def wrapped(*args, **options):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return act(*args, **options)

    return wrapped


class Death:
    """Kills the process in front of its n-th effect, which is as good as behind the one before."""

    def __init__(self, monkeypatch, at: int) -> None:
        self.at, self.seen = at, 0
        effects: list[tuple[Any, str]] = [
            (store, "commit"),
            (repository, "delete_keys"),
            (storage, "delete"),
            (sign_in, "revoke"),
            (sign_in, "delete"),
        ]
        for module, name in effects:
            monkeypatch.setattr(module, name, self._deadly(getattr(module, name)))

    def _deadly(self, act):
        def effect(*args, **options):
            self.seen += 1
            if self.seen == self.at:
                raise Killed
            return act(*args, **options)

        return effect


@pytest.mark.parametrize("at", range(1, EFFECTS + 1))
def test_an_erasure_that_is_killed_at_any_effect_comes_to_the_same_end(full, world, monkeypatch, at):
    job_id = add_job(full, "erasure")
    with monkeypatch.context() as patch:
        Death(patch, at)
        with pytest.raises(Killed):
            world.run(job_id)
    world.clock.go_on(LEASE)
    assert world.run(job_id)
    assert_all_is_gone(world, full, job_id)


def test_the_effects_that_are_killed_are_all_there_are(full, world, monkeypatch):
    death = Death(monkeypatch, at=10_000)
    erase(world, full)
    assert death.seen == EFFECTS, "another place is erased: adapt EFFECTS, so that its step is killed too"


def test_an_erasure_that_is_killed_again_and_again_comes_to_its_end(full, world, monkeypatch):
    job_id = add_job(full, "erasure")
    deaths = 0
    while True:
        with monkeypatch.context() as patch:
            Death(patch, at=7)
            try:
                assert world.run(job_id)
            except Killed:
                deaths += 1
                world.clock.go_on(LEASE)
            else:
                break
    assert deaths > 4
    assert_all_is_gone(world, full, job_id)


def test_two_runs_of_one_job_end_it_once(full, world):
    job_id = add_job(full, "erasure")
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda _: world.run(job_id), range(4)))
    assert ended.count(True) == 1
    assert_all_is_gone(world, full, job_id)


def test_a_run_that_lost_its_lease_does_nothing_more(full, world, monkeypatch):
    job_id = add_job(full, "erasure")
    count = repository.count_documents

    def stolen(*args, **options):
        taken = {"attempts": 2, "lease_until": world.clock.now + LEASE}
        firestore_client().document(f"privacy_jobs/{job_id}").update(taken)
        return count(*args, **options)

    monkeypatch.setattr(repository, "count_documents", stolen)
    assert not world.run(job_id)
    assert job(job_id)["progress"]["step"] == "documents"
    assert [trace for trace in traces(full) if trace.startswith("users/")]


def test_of_two_erasures_of_one_user_the_first_does_the_work_and_ends_the_other(full, world):
    first = add_job(full, "erasure", at=START - timedelta(seconds=1))
    second = add_job(full, "erasure")
    assert not world.run(second)
    assert world.run(first)
    assert_all_is_gone(world, full, first)
    assert not world.run(second)


def test_an_answer_in_the_making_is_waited_for(full, world):
    put(f"users/{full}/generations/g2", uid=full, status="running", started_at=START)
    job_id = add_job(full, "erasure")
    assert not world.run(job_id)
    assert job(job_id)["progress"]["step"] == "wait"
    assert job(job_id)["lease_until"] > START + QUIET
    put(f"users/{full}/generations/g2", uid=full, status="completed", started_at=START)
    world.clock.go_on(timedelta(minutes=1))
    assert world.run(job_id)
    assert_all_is_gone(world, full, job_id)


def test_an_answer_that_never_ends_does_not_hold_the_erasure_up_for_ever(full, world):
    put(f"users/{full}/generations/g2", uid=full, status="running", started_at=START)
    job_id = add_job(full, "erasure")
    assert not world.run(job_id)
    world.clock.go_on(BUSY_PATIENCE)
    assert world.run(job_id)
    assert_all_is_gone(world, full, job_id)


def test_an_upload_that_is_open_is_waited_for(full, world):
    """A link cannot be taken back: what comes by it after the proof would stay."""
    good_until = START + timedelta(minutes=10)
    firestore_client().document(f"users/{full}").update({"open_upload": {"id": "upl_late", "until": good_until}})
    job_id = add_job(full, "erasure")
    assert not world.run(job_id)
    assert (job(job_id)["progress"]["step"], job(job_id)["lease_until"]) == ("wait", good_until + UPLOAD_TAKES)
    world.clock.now = good_until
    storage_bucket().blob(f"uploads/{full}/upl_late").upload_from_string(AVATAR, content_type="image/png")
    assert world.sweep()["privacy_jobs_left"] == 0
    world.clock.now = good_until + UPLOAD_TAKES
    assert world.sweep()["privacy_jobs_done"] == 1
    assert_all_is_gone(world, full, job_id)


def test_the_last_of_all_links_to_put_attachments_is_waited_for_too(full, world):
    good_until = START + timedelta(minutes=8)
    links = {"upl_first": START + timedelta(minutes=2), "upl_last": good_until}
    for upload_id, link_ends_at in links.items():
        firestore_client().document(f"users/{full}/attachments/{upload_id}").set({"link_ends_at": link_ends_at})
    job_id = add_job(full, "erasure")
    assert not world.run(job_id)
    assert (job(job_id)["progress"]["step"], job(job_id)["lease_until"]) == ("wait", good_until + UPLOAD_TAKES)
    storage_bucket().blob(f"uploads/{full}/upl_last").upload_from_string(AVATAR, content_type="image/png")
    world.clock.now = good_until + UPLOAD_TAKES
    assert world.sweep()["privacy_jobs_done"] == 1
    assert_all_is_gone(world, full, job_id)


def test_an_archive_on_its_way_up_is_taken_from_its_run_and_waited_for(full, world):
    lease = START + timedelta(seconds=50)
    running = add_job(full, "export", state="running", lease_until=lease)
    job_id = erase(world, full)
    assert world.clock.now >= lease
    assert not firestore_client().document(f"privacy_jobs/{running}").get().exists
    assert_all_is_gone(world, full, job_id)


def test_a_large_account_goes_in_several_runs(full, world, monkeypatch):
    monkeypatch.setattr(repository, "DELETES_PER_BATCH", 2)
    monkeypatch.setattr(service, "ERASURE_TIME", QUIET + timedelta(seconds=4))
    delete = repository.delete_documents

    def slowly(references):
        world.clock.sleep(2)
        delete(references)

    monkeypatch.setattr(repository, "delete_documents", slowly)
    job_id = add_job(full, "erasure")
    runs = 1
    while not world.run(job_id):
        runs += 1
        world.clock.go_on(LEASE)
        assert runs < 40
    assert runs > 2
    assert_all_is_gone(world, full, job_id)


def test_an_erasure_tells_how_far_it_is(full, world, monkeypatch):
    told = []
    change = repository.change_job

    def note(a_job: Job, changes):
        told.append((world.clock.now, changes["progress"]))
        return change(a_job, changes)

    monkeypatch.setattr(repository, "change_job", note)
    monkeypatch.setattr(repository, "DELETES_PER_BATCH", 2)
    erase(world, full)
    steps = list(dict.fromkeys(progress["step"] for _, progress in told))
    assert steps[-8:] == ["cut_off", "wait", "documents", "activity", "files", "caches", "sign_in", "prove"]
    assert max(progress["total"] for _, progress in told) >= 20


def test_when_firebase_auth_is_away_the_job_is_tried_again_and_says_why(full, world):
    world.auth.down = True
    job_id = add_job(full, "erasure")
    with pytest.raises(Unavailable):
        world.run(job_id)
    noted = job(job_id)
    assert (noted["state"], noted["failures"], noted["last_error"]) == ("running", 1, "unavailable")
    assert noted["lease_until"] == world.clock.now + timedelta(minutes=1)
    assert not world.run(job_id)
    world.auth.down = False
    world.clock.go_on(timedelta(minutes=1))
    assert world.run(job_id)
    assert_all_is_gone(world, full, job_id)


def test_an_erasure_is_never_given_up(full, world):
    world.auth.down = True
    job_id = add_job(full, "erasure")
    for _ in range(8):
        with pytest.raises(Unavailable):
            world.run(job_id)
        world.clock.now = job(job_id)["lease_until"]
    assert job(job_id)["state"] == "running"


def test_the_sweep_takes_up_what_nobody_runs_and_no_failure_stops_the_rest(full, world):
    progress = {"step": "wait", "done": 0, "total": 0}
    add_job("somebody", "erasure", at=START - timedelta(minutes=9), progress=progress, cut_off_at="no time")
    waiting = add_job(full, "erasure", at=START - timedelta(minutes=5))
    outcome = world.sweep()
    assert (outcome["privacy_jobs_failed"], outcome["privacy_jobs_left"]) == (1, 1)
    assert world.clock.now == START, "a sweep does not sleep"
    world.clock.go_on(QUIET)
    assert world.sweep()["privacy_jobs_done"] == 1
    assert_all_is_gone(world, full, waiting)


def test_the_sweep_leaves_a_new_job_to_its_own_function(full, world):
    job_id = add_job(full, "erasure", at=world.clock.now - timedelta(seconds=90))
    world.sweep()
    assert job(job_id)["state"] == "queued"


def test_redis_keys_that_look_like_a_pattern_are_taken_literally(world):
    uid, bystander = "a*[b]?", "axxb!"
    mine, not_mine = (f"limits:{{all}}:requests:{each}" for each in (uid, bystander))
    redis_client().mset({mine: "1", not_mine: "2"})
    erase(world, uid)
    assert redis_client().mget(mine, not_mine) == [None, "2"]
    redis_client().delete(not_mine)
