"""Idempotency keys: a request that is sent again is answered again, not done again.

    idempotency/{sha256(uid, key)}   uid, operation, fingerprint, state, holder, lease_until, salt, answer, …

The first request with an `Idempotency-Key` makes the record and leaves its answer there; for 24 hours every repetition
gets that answer. While the first one runs, a repetition is told to come back (409); with other content it is refused
(422), as https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ wants it.

What survives a crash is the *seed*. It is the same for every attempt at one request, and a handler takes the ids of all
it makes from it. When a process dies between effect and answer, its lease runs out, exactly one repetition takes the
record over, and finds by these ids what is there already. So the lease only spares work, it does not guard it: it is
short, nobody renews it, and a request that outlives it is safe beside its own repetition.

What becomes of an attempt:

    answered               kept, and given to every repetition
    refused, or failed     at the first attempt, with nothing left to find: forgotten, the next one is a new request
    not known              (409, 500, 503, a crash) the next attempt goes on under the same seed, and so do all later
                           ones: a refusal says nothing of what an earlier attempt has made

Answers may hold secrets that are shown once. They are sealed with a key derived from the client's own, of which only a
digest is stored, and so is the seed: who reads the database learns neither. That is as strong as the client's key is
hard to guess.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared import log, metrics
from shared.errors import (
    AppError,
    Conflict,
    FieldError,
    InternalError,
    InvalidRequest,
    KeyReused,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.store import Batch, Reference, Snapshot

KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=30)
"""How long a repetition waits for a process that may be dead; nearly every request has its answer before."""
RETRY_AFTER_S = 2
MAX_ANSWER_BYTES = 900_000
"""What fits beside the rest of a record, sealed. A larger answer is not kept: its repetition makes it anew, by the same
ids and therefore of the same things."""
_ATTEMPTS = 5
"""Each further one means that somebody else changed the record between our read and our write."""
_KEY = re.compile(r"[ -~]{1,255}")
_FINAL_REFUSALS = {400, 404, 405, 410, 413, 422}
"""Said of the request as it is: sent again unchanged, it deserves the same answer."""
_OUTCOME_UNKNOWN = (Conflict, Unavailable, InternalError)
_RUNNING, _DONE = "running", "done"


@dataclass(frozen=True)
class Recorded:
    """An answer as it went over the wire."""

    status: int
    content_type: str
    headers: Mapping[str, str]
    body: bytes


def begin(*, uid: str, key: str, operation: str, fingerprint: bytes, now: datetime) -> Claim | Recorded:
    """The right to carry the request out, or the answer it got before. One round trip when the key is new.

    `operation` is the method and the path, `fingerprint` what tells two requests to it apart: the body.
    Raises InvalidRequest for something that is no key, KeyReused when it came with another request, Conflict while that
    request still runs, and Unavailable.
    """
    _require_key(key)
    reference = _reference(uid, key)
    holder = secrets.token_hex(8)
    lease: dict[str, Any] = {"state": _RUNNING, "holder": holder, "lease_until": now + LEASE}
    new: dict[str, Any] = {
        **lease,
        "uid": uid,
        "operation": operation,
        "fingerprint": hashlib.sha256(operation.encode() + b"\0" + fingerprint).hexdigest(),
        "salt": secrets.token_bytes(16),
        "created_at": now,
        "expires_at": now + KEPT,
    }
    for _ in range(_ATTEMPTS):
        if made_at := _create(reference, new):
            return Claim(reference, key, new["salt"], made_at, first=True)
        snapshot = _read(reference)
        if snapshot is None:
            continue
        found = snapshot.fields
        if found["holder"] == holder:  # the commit went through although its answer was lost
            first = found["salt"] == new["salt"]
            return Claim(reference, key, found["salt"], snapshot.update_time, first=first)
        expired = found["expires_at"] <= now
        if not expired:
            _require_same(found, new)
            if found["state"] == _DONE:
                return _opened(key, found["salt"], reference.id, found["answer"])
            if found["lease_until"] is not None and found["lease_until"] > now:
                break
        changes = {**new, "answer": None} if expired else lease
        if taken_at := _update(reference, changes, snapshot.update_time):
            return Claim(reference, key, changes.get("salt", found["salt"]), taken_at, first=expired)
    raise Conflict(
        "A request with this Idempotency-Key is still running; try again in a moment.",
        retry_after_s=RETRY_AFTER_S,
        reason="idempotency_key_in_use",
    )


def is_final(status: int) -> bool:
    """Whether an answer with this status is the one that every repetition shall get."""
    return status < 400 or status in _FINAL_REFUSALS  # noqa: PLR2004  # what RFC 9110 §15 calls an error


class Claim:
    """The right to carry a request out. `finish` or `abandon` it; neither raises: by then the request itself is over.

    When the record cannot be written, its lease runs out and the next repetition goes on under the same seed.
    """

    def __init__(self, reference: Reference, key: str, salt: bytes, held_since: Any, *, first: bool) -> None:
        """`first`: nobody has worked under this seed before."""
        self._reference, self._key, self._salt, self._held_since = reference, key, salt, held_since
        self._first = first
        self.seed = _derived(key, salt, b"seed").hex()

    def finish(self, recorded: Recorded, *, now: datetime) -> None:
        """Keep the answer for every repetition."""
        answer = _sealed(self._key, self._salt, self._reference.id, recorded)
        if len(answer) > MAX_ANSWER_BYTES:
            self._note("idempotency_answers_too_large_total", size=len(answer))
            self.abandon()
            return
        done = {"state": _DONE, "answer": answer, "answered_at": now}
        try:
            if not _update(self._reference, done, self._held_since):
                self._finish_after_takeover(done)
        except Exception as error:  # noqa: BLE001  # an edge: whatever broke, the request's own answer goes out
            self._note("idempotency_answers_lost_total", reason=repr(error))

    def abandon(self, error: AppError | None = None) -> None:
        """Let the next repetition try at once. `error` is what the handler raised: when it says for certain that
        nothing is left of the first attempt, the next is a new request; otherwise it goes on under the same seed.
        """
        over = self._first and error is not None and not isinstance(error, _OUTCOME_UNKNOWN)
        try:
            if over:
                _delete(self._reference, self._held_since)
            else:
                _update(self._reference, {"lease_until": None}, self._held_since)
        except Exception as broken:  # noqa: BLE001  # an edge: whatever broke, the request's own answer goes out
            self._note("idempotency_claims_lost_total", reason=repr(broken))

    def _finish_after_takeover(self, done: dict[str, Any]) -> None:
        """A request that outlived its lease has the first answer all the same, unless a repetition was faster."""
        snapshot = _read(self._reference)
        found = snapshot.fields if snapshot else {}
        ours = found.get("salt") == self._salt and found["state"] == _RUNNING
        if snapshot is None or not ours or not _update(self._reference, done, snapshot.update_time):
            self._note("idempotency_answers_superseded_total")

    def _note(self, counter: str, **fields: Any) -> None:
        metrics.count(counter)
        log.warning("idempotency record not as wished", counter=counter, record=self._reference.id, **fields)


def _require_key(key: str) -> None:
    if _KEY.fullmatch(key) is None:
        problem = FieldError("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
        raise InvalidRequest("Check: Idempotency-Key.", fields=[problem])


def _require_same(found: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if found["fingerprint"] != new["fingerprint"]:
        what = "another body" if found["operation"] == new["operation"] else "another operation"
        problem = FieldError("Idempotency-Key", f"was used with {what}; take a new key for a new request")
        raise KeyReused(f"This Idempotency-Key was used with {what}.", fields=[problem])


# --- the record ------------------------------------------------------------------------------------------------------


def _reference(uid: str, key: str) -> Reference:
    """Keys hold no NUL, so the last one parts the two whatever the uid is."""
    from shared import store

    digest = hashlib.sha256(uid.encode() + b"\0" + key.encode()).hexdigest()
    return store.document("idempotency", digest)


def _create(reference: Reference, document: Mapping[str, Any]) -> Any:
    from shared import store

    batch = store.new_batch()
    batch.create(reference, document)
    return _committed(batch)


def _update(reference: Reference, changes: Mapping[str, Any], unchanged_since: Any) -> Any:
    from shared import store

    batch = store.new_batch()
    batch.update(reference, changes, option=store.LastUpdateOption(unchanged_since))
    return _committed(batch)


def _delete(reference: Reference, unchanged_since: Any) -> Any:
    from shared import store

    batch = store.new_batch()
    batch.delete(reference, option=store.LastUpdateOption(unchanged_since))
    return _committed(batch)


def _committed(batch: Batch) -> Any:
    """The record's new update time; None when it was not as the batch expected it."""
    from shared import store

    try:
        return store.commit(batch)[0].update_time
    except (store.AlreadyExists, store.StaleWrite):
        return None


def _read(reference: Reference) -> Snapshot | None:
    from shared import store

    return store.read(reference)


# --- the answer in it ------------------------------------------------------------------------------------------------


def _sealed(key: str, salt: bytes, record_id: str, recorded: Recorded) -> bytes:
    """The answer, compressed and encrypted; bound to its record, so that it opens nowhere else."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    about = {"status": recorded.status, "content_type": recorded.content_type, "headers": dict(recorded.headers)}
    plain = zlib.compress(json.dumps(about).encode() + b"\n" + recorded.body)
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(_derived(key, salt, b"answer")).encrypt(nonce, plain, record_id.encode())


def _opened(key: str, salt: bytes, record_id: str, sealed: bytes) -> Recorded:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    plain = AESGCM(_derived(key, salt, b"answer")).decrypt(sealed[:12], sealed[12:], record_id.encode())
    about, _, body = zlib.decompress(plain).partition(b"\n")
    return Recorded(**json.loads(about), body=body)


def _derived(key: str, salt: bytes, purpose: bytes) -> bytes:
    """256 bits that need the client's key to be known (RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose).derive(key.encode())
