"""Idempotency keys without their database: what counts as a key, what is kept, and who can read it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import idempotency, metrics
from shared.clock import utc_now
from shared.errors import (
    AccountSuspended,
    Gone,
    InsufficientCredits,
    InternalError,
    InvalidRequest,
    KeyReused,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
)
from shared.idempotency import Recorded

SALT = b"0123456789abcdef"
ANSWER = Recorded(201, "application/json", {"Set-Cookie": "__session=cps_secret"}, b'{"key":"cp_live_secret"}')

recordings = st.builds(
    Recorded,
    status=st.integers(200, 599),
    content_type=st.text(max_size=40),
    headers=st.dictionaries(st.text(max_size=10), st.text(max_size=40), max_size=4),
    body=st.binary(max_size=2000),
)
keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)


def test_what_is_no_key_is_refused_by_name_before_anything_is_asked():
    for key in ("", "k" * 256, "schlüssel", "two\nlines", "nul\0", "tab\t", "\x7f"):
        with pytest.raises(InvalidRequest) as refusal:
            idempotency.begin(uid="u", key=key, operation="POST /things", fingerprint=b"", now=utc_now())
        assert [field.field for field in refusal.value.fields] == ["Idempotency-Key"]


@given(keys, recordings)
def test_an_answer_comes_back_as_it_was_kept(key: str, recorded: Recorded):
    sealed = idempotency._sealed(key, SALT, "record", recorded)
    assert idempotency._opened(key, SALT, "record", sealed) == recorded


def test_neither_the_answer_nor_its_headers_can_be_read_in_what_is_stored():
    sealed = idempotency._sealed("k-1", SALT, "record", ANSWER)
    for secret in (b"cp_live_secret", b"cps_secret", b"Set-Cookie", b"application/json"):
        assert secret not in sealed


@pytest.mark.parametrize(
    ("key", "salt", "record"),
    [("k-2", SALT, "record"), ("k-1", SALT[::-1], "record"), ("k-1", SALT, "another")],
    ids=["another key", "another salt", "another record"],
)
def test_an_answer_opens_with_its_own_key_in_its_own_record_only(key: str, salt: bytes, record: str):
    from cryptography.exceptions import InvalidTag

    sealed = idempotency._sealed("k-1", SALT, "record", ANSWER)
    with pytest.raises(InvalidTag):
        idempotency._opened(key, salt, record, sealed)


def test_the_seed_needs_both_the_clients_key_and_the_stored_salt():
    def seed(key: str, salt: bytes) -> str:
        return idempotency.Claim(None, key, salt, None, first=True).seed  # type: ignore[arg-type]  # no record is touched

    assert seed("k-1", SALT) == seed("k-1", SALT)
    assert len({seed("k-1", SALT), seed("k-2", SALT), seed("k-1", SALT[::-1])}) == 3
    assert seed("k-1", SALT) != idempotency._derived("k-1", SALT, b"answer").hex()


def test_users_and_keys_do_not_run_into_each_other():
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("a\0b", "c"), ("a", "c")]
    assert len({idempotency._reference(uid, key) for uid, key in pairs}) == len(pairs)


FINAL = [InvalidRequest, NotFound, Gone, KeyReused, UpstreamRejected]
NOT_FINAL = [
    Unauthenticated,
    InsufficientCredits,
    PermissionDenied,
    AccountSuspended,
    RateLimited,
    UpstreamError,
    UpstreamBusy,
    Unavailable,
    InternalError,
]


def test_answers_that_a_later_attempt_may_change_are_not_final():
    assert all(idempotency.is_final(status) for status in (200, 201, 202, 204))
    assert all(idempotency.is_final(error.status) for error in FINAL)
    assert not any(idempotency.is_final(error.status) for error in NOT_FINAL)
    assert not idempotency.is_final(409)


@pytest.mark.parametrize("act", ["finish", "abandon"])
def test_whatever_breaks_at_its_end_the_request_is_over_and_hears_nothing_of_it(monkeypatch, act):
    def refuse(*_):
        raise PermissionError("Firestore takes nothing of ours")

    monkeypatch.setattr(idempotency, "_update", refuse)
    noted = []
    monkeypatch.setattr(metrics, "count", lambda name, **_: noted.append(name))
    claim = idempotency.Claim(cast("Any", SimpleNamespace(id="record")), "k-1", SALT, None, first=True)
    claim.finish(ANSWER, now=utc_now()) if act == "finish" else claim.abandon()
    assert len(noted) == 1
