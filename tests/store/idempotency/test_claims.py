"""Idempotency keys against the database: who may carry a request out, and what every other attempt gets."""

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from shared import idempotency, metrics, store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.errors import (
    Conflict,
    InsufficientCredits,
    InternalError,
    KeyReused,
    RateLimited,
    Unavailable,
    UpstreamBusy,
)
from shared.idempotency import KEPT, LEASE, Claim, Recorded
from shared.store import Batch
from tests.store.documents import there

OPERATION = "POST /api/v1/things"
ANSWER = Recorded(201, "application/json", {"Location": "/things/1"}, b'{"secret":"cp_live_shown_once"}')
AT_ONCE = 16
PAST_LEASE = LEASE + timedelta(seconds=1)


@pytest.fixture
def key():
    return f"key-{secrets.token_hex(8)}"


@pytest.fixture
def counted(monkeypatch):
    names: list[str] = []
    monkeypatch.setattr(metrics, "count", lambda name, *_, **__: names.append(name))
    return names


def begin(uid: str, key: str, body: bytes = b"{}", *, operation: str = OPERATION, now: datetime | None = None) -> Any:
    return idempotency.begin(uid=uid, key=key, operation=operation, fingerprint=body, now=now or utc_now())


def claim(uid: str, key: str, body: bytes = b"{}", *, now: datetime | None = None) -> Claim:
    begun = begin(uid, key, body, now=now)
    assert isinstance(begun, Claim)
    return begun


def record_of(uid: str, key: str) -> dict[str, Any] | None:
    return there(idempotency._reference(uid, key)).get().to_dict()


def all_at_once(uid: str, key: str, now: datetime) -> tuple[list[Claim], int]:
    """What sixteen begins at the same moment get: the claims, and how many were told to come back."""
    barrier = Barrier(AT_ONCE)

    def attempt(_: int) -> Claim | None:
        barrier.wait()
        try:
            return claim(uid, key, now=now)
        except Conflict:
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        got = list(pool.map(attempt, range(AT_ONCE)))
    claims = [each for each in got if each is not None]
    return claims, AT_ONCE - len(claims)


def test_a_repetition_gets_the_first_answer(uid, key):
    claim(uid, key).finish(ANSWER, now=utc_now())
    assert begin(uid, key) == ANSWER
    assert begin(uid, key) == ANSWER


def test_a_repetition_of_a_running_request_is_told_to_come_back(uid, key):
    claim(uid, key)
    with pytest.raises(Conflict) as refusal:
        begin(uid, key)
    assert refusal.value.status == 409
    assert refusal.value.retry_after_s == idempotency.RETRY_AFTER_S
    assert refusal.value.details["reason"] == "idempotency_key_in_use"


@pytest.mark.parametrize("answered", [True, False])
def test_another_request_under_the_same_key_is_refused(uid, key, answered):
    first = claim(uid, key)
    if answered:
        first.finish(ANSWER, now=utc_now())
    with pytest.raises(KeyReused, match="another body"):
        begin(uid, key, b'{"other":1}')
    with pytest.raises(KeyReused, match="another operation"):
        begin(uid, key, operation="DELETE /api/v1/things/1")
    with pytest.raises(KeyReused):  # the crash of the first does not make room for another request
        begin(uid, key, b'{"other":1}', now=utc_now() + PAST_LEASE)


def test_the_same_key_of_another_user_is_another_key(uid, key):
    first = claim(uid, key)
    first.finish(ANSWER, now=utc_now())
    stranger = claim(f"{uid}-stranger", key, b'{"other":1}')
    assert stranger.seed != first.seed
    assert begin(uid, key) == ANSWER


def test_of_many_at_once_exactly_one_is_carried_out(uid, key):
    claims, told_to_come_back = all_at_once(uid, key, utc_now())
    assert (len(claims), told_to_come_back) == (1, AT_ONCE - 1)


def test_after_a_crash_exactly_one_repetition_goes_on_under_the_same_seed(uid, key):
    crashed = claim(uid, key)
    with pytest.raises(Conflict):
        begin(uid, key, now=utc_now() + LEASE - timedelta(seconds=5))
    claims, told_to_come_back = all_at_once(uid, key, utc_now() + PAST_LEASE)
    assert ([each.seed for each in claims], told_to_come_back) == ([crashed.seed], AT_ONCE - 1)


def test_an_expired_record_is_as_if_it_was_not_there(uid, key):
    first = claim(uid, key, now=utc_now() - KEPT - timedelta(minutes=1))
    first.finish(ANSWER, now=utc_now() - KEPT)
    again = claim(uid, key, b'{"other":1}')
    assert again.seed != first.seed
    with pytest.raises(Conflict):
        begin(uid, key, b'{"other":1}')
    other = Recorded(200, "text/plain", {}, b"other")
    again.finish(other, now=utc_now())
    assert begin(uid, key, b'{"other":1}') == other


def test_of_many_that_find_an_expired_record_exactly_one_is_carried_out(uid, key):
    claim(uid, key, now=utc_now() - 2 * KEPT).finish(ANSWER, now=utc_now() - 2 * KEPT)
    claims, told_to_come_back = all_at_once(uid, key, utc_now())
    assert (len(claims), told_to_come_back) == (1, AT_ONCE - 1)


@pytest.mark.parametrize("refusal", [InsufficientCredits(), RateLimited(), UpstreamBusy()], ids=lambda each: each.code)
def test_a_refused_request_may_come_again_as_a_new_one(uid, key, refusal):
    first = claim(uid, key)
    first.abandon(refusal)
    assert record_of(uid, key) is None
    assert claim(uid, key, b'{"less":1}').seed != first.seed


def test_a_refusal_after_a_crash_does_not_forget_what_the_first_attempt_may_have_made(uid, key):
    crashed = claim(uid, key)
    later = utc_now() + PAST_LEASE
    claim(uid, key, now=later).abandon(InsufficientCredits())
    assert claim(uid, key, now=later).seed == crashed.seed


@pytest.mark.parametrize(
    "error", [None, Conflict(), Unavailable(), InternalError()], ids=lambda each: each.code if each else "none"
)
def test_a_request_with_an_unknown_outcome_goes_on_at_once_under_the_same_seed(uid, key, error):
    first = claim(uid, key)
    first.abandon(error)
    with pytest.raises(KeyReused):
        begin(uid, key, b'{"other":1}')
    claims, told_to_come_back = all_at_once(uid, key, utc_now())
    assert ([each.seed for each in claims], told_to_come_back) == ([first.seed], AT_ONCE - 1)


def test_a_request_that_outlives_its_lease_still_has_the_first_answer(uid, key, counted):
    slow = claim(uid, key)
    repetition = claim(uid, key, now=utc_now() + PAST_LEASE)
    slow.finish(ANSWER, now=utc_now())
    repetition.finish(Recorded(200, "text/plain", {}, b"later"), now=utc_now())
    assert begin(uid, key) == ANSWER
    assert counted == ["idempotency_answers_superseded_total"]


def test_a_request_that_was_overtaken_does_not_replace_the_answer(uid, key, counted):
    slow = claim(uid, key)
    claim(uid, key, now=utc_now() + PAST_LEASE).finish(ANSWER, now=utc_now())
    slow.finish(Recorded(200, "text/plain", {}, b"later"), now=utc_now())
    assert begin(uid, key) == ANSWER
    assert counted == ["idempotency_answers_superseded_total"]


@pytest.mark.parametrize("error", [None, InsufficientCredits()], ids=["unknown", "refused"])
def test_a_request_that_was_overtaken_does_not_give_the_claim_of_another_away(uid, key, error):
    slow = claim(uid, key)
    later = utc_now() + PAST_LEASE
    claim(uid, key, now=later)
    slow.abandon(error)
    with pytest.raises(Conflict):
        begin(uid, key, now=later)


def test_what_is_stored_shows_neither_key_nor_seed_nor_answer(uid, key):
    first = claim(uid, key)
    first.finish(ANSWER, now=utc_now())
    record = record_of(uid, key)
    assert record is not None
    assert {"uid", "operation", "fingerprint", "state", "created_at", "expires_at"} <= record.keys()
    assert record["uid"] == uid  # erasure finds it by this
    stored = repr(record) + idempotency._reference(uid, key).path
    for secret in (key, first.seed, "cp_live_shown_once", "Location", str(bytes.fromhex(first.seed))[2:-1]):
        assert secret not in stored


def test_an_answer_of_eight_hundred_thousand_random_bytes_is_kept(uid, key):
    large = Recorded(200, "application/octet-stream", {}, secrets.token_bytes(800_000))
    claim(uid, key).finish(large, now=utc_now())
    assert begin(uid, key) == large


def test_a_large_answer_that_compresses_well_is_kept(uid, key):
    large = Recorded(200, "application/json", {}, json.dumps(["word"] * 500_000).encode())
    claim(uid, key).finish(large, now=utc_now())
    assert begin(uid, key) == large


def test_an_answer_that_does_not_fit_is_made_anew_under_the_same_seed(uid, key, counted):
    first = claim(uid, key)
    first.finish(Recorded(200, "application/octet-stream", {}, secrets.token_bytes(1_000_000)), now=utc_now())
    assert counted == ["idempotency_answers_too_large_total"]
    with pytest.raises(KeyReused):
        begin(uid, key, b'{"other":1}')
    assert claim(uid, key).seed == first.seed


@contextmanager
def database_away():
    def refuse(_batch: object) -> None:
        raise Unavailable("The database did not answer in time; try again.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "commit", refuse)
        yield


def test_a_request_whose_key_cannot_be_claimed_is_not_carried_out(uid, key):
    with database_away(), pytest.raises(Unavailable):
        begin(uid, key)
    assert record_of(uid, key) is None


def test_a_database_that_is_away_at_the_end_does_not_hurt_the_answer(uid, key, counted):
    first = claim(uid, key)
    with database_away():
        first.finish(ANSWER, now=utc_now())
        first.abandon(InsufficientCredits())
        first.abandon()
    lost = "idempotency_claims_lost_total"
    assert counted == ["idempotency_answers_lost_total", lost, lost]
    assert claim(uid, key, now=utc_now() + PAST_LEASE).seed == first.seed


@pytest.mark.parametrize("expired", [False, True])
def test_a_commit_that_went_through_unheard_is_known_again(uid, key, monkeypatch, expired):
    """The client library sends a commit again when its answer was lost; then the record is there, and ours."""
    if expired:
        claim(uid, key, now=utc_now() - 2 * KEPT)
    commit = store.commit

    def unheard(batch: Batch) -> None:
        commit(batch)
        raise store.AlreadyExists("the record of the first sending")

    monkeypatch.setattr(store, "commit", unheard)
    ours = claim(uid, key)
    monkeypatch.undo()
    ours.finish(ANSWER, now=utc_now())
    assert begin(uid, key) == ANSWER


def test_a_record_that_is_erased_while_its_request_runs_does_not_come_back(uid, key, counted):
    running = claim(uid, key)
    there(idempotency._reference(uid, key)).delete()
    running.finish(ANSWER, now=utc_now())
    assert record_of(uid, key) is None
    assert counted == ["idempotency_answers_superseded_total"]


def test_a_users_records_are_found_by_their_uid(uid, key):
    claim(uid, key)
    claim(uid, f"{key}-2").finish(ANSWER, now=utc_now())
    claim(f"{uid}-stranger", key)
    mine = firestore_client().collection("idempotency").where(filter=FieldFilter("uid", "==", uid))
    assert len(mine.get()) == 2
