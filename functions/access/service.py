"""The use cases of API keys and sessions, and what chat asks of a key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from functions.access import repository
from functions.access.domain import (
    MAX_KEY_LIFE,
    MAX_LIVE_KEYS,
    RECENT_SIGN_IN,
    Key,
    KeyState,
    Session,
    displaced,
    expiry_after_grace,
    month_of,
    successor_expiry,
)
from functions.access.events import (
    KeyChanged,
    KeyCreated,
    KeyRevoked,
    KeyRotated,
    SessionCreated,
    SessionRevoked,
    SignedOutEverywhere,
)
from shared import events, store
from shared.errors import (
    Conflict,
    FieldError,
    InsufficientCredits,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from shared.identity import accounts, keys, secret_text, sessions, tokens
from shared.identity.caller import Caller, Proof
from shared.identity.permissions import GRANTED, KEY_SCOPES, Permission, Role
from shared.identity.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.store import Batch


ResultT = TypeVar("ResultT")

_ATTEMPTS = 5
"""Each further one means that somebody else changed the same document between our read and our write."""
SPENDING_KEPT = timedelta(seconds=5)
_spent_micro: Recent[int] = Recent(size=10_000, keep=SPENDING_KEPT)


KEY_BUDGET = "key_budget_id"
"""Where a hold's `ref` names the API key that its work was asked for with."""


@dataclass(frozen=True)
class KeyWish:
    """What a new key shall be."""

    name: str
    scopes: Sequence[Permission]
    expires_at: datetime | None
    monthly_limit_micro: int | None
    allowed_models: Sequence[str] | None


# --- API keys --------------------------------------------------------------------------------------------------------


def make_key(caller: Caller, wish: KeyWish, *, key_id: str, seed: str | None, now: datetime) -> tuple[Key, str]:
    """A new key, and the secret that is shown this once. The same seed makes the same key once.

    Raises InvalidRequest for scopes nobody can give and times that are over, Conflict when there are too many keys.
    """
    _require_grantable(wish.scopes, caller.role)
    _require_life(wish.expires_at, now)
    secret = keys.new_key(seed)
    key = Key(
        digest=secret_text.digest(secret),
        id=key_id,
        uid=caller.uid,
        name=wish.name,
        hint=secret[-keys.HINT_CHARS :],
        scopes=_sorted(wish.scopes),
        allowed_models=_sorted_models(wish.allowed_models),
        monthly_limit_micro=wish.monthly_limit_micro,
        budget_id=key_id,
        created_at=now,
        expires_at=wish.expires_at,
    )
    _require_room(key, now)
    batch = store.new_batch()
    repository.add_key(batch, key)
    created = KeyCreated(
        key_id=key.id,
        scopes=list(key.scopes),
        expires_at=key.expires_at,
        monthly_limit_micro=key.monthly_limit_micro,
    )
    _record(batch, created, key, now)
    try:
        store.commit(batch)
    except store.AlreadyExists:
        # This same request was here before and died on the way back.
        return get_key(caller.uid, key_id), secret
    return key, secret


def list_keys(uid: str) -> list[Key]:
    """The user's keys but the revoked ones, the newest first."""
    return repository.list_keys(uid)


def get_key(uid: str, key_id: str) -> Key:
    """Raises NotFound, also for somebody else's key."""
    found = repository.find_key(uid, key_id)
    if found is None:
        raise NotFound("There is no such API key.")
    return found


def change_key(caller: Caller, key_id: str, changes: Mapping[str, object], *, now: datetime) -> Key:
    """Change the name, the scopes, the allowed models or the monthly limit of a live key.

    Raises NotFound, InvalidRequest, and Conflict for a key that is dead.
    """
    if "scopes" in changes:
        scopes: Sequence[Permission] = changes["scopes"]  # type: ignore[assignment]  # as the schema has it
        _require_grantable(scopes, caller.role)
        changes = {**changes, "scopes": _sorted(scopes)}

    def change() -> Key:
        before = get_key(caller.uid, key_id)
        _require_live(before, now)
        after = replace(before, **changes)  # type: ignore[arg-type]  # the names of fields, with their types
        if after != before:
            batch = store.new_batch()
            repository.change_key(batch, before, after)
            _record(batch, KeyChanged(key_id=key_id, changed=sorted(changes)), after, now)
            store.commit(batch)
            keys.forget(before.digest)
        return after

    return _again_when_stale(change)


def rotate_key(
    uid: str, key_id: str, *, new_id: str, grace: timedelta, seed: str | None, now: datetime
) -> tuple[Key, str]:
    """A new secret in place of the old one, which dies at once or after the grace.

    Raises NotFound, and Conflict for a key that is dead or was replaced already, or when too many would live at once.
    """
    secret = keys.new_key(seed)

    def rotate() -> Key:
        old = get_key(uid, key_id)
        if old.rotated_to == new_id:  # this same request was here before
            return get_key(uid, new_id)
        _require_live(old, now)
        if old.rotated_to is not None:
            raise Conflict("This key was replaced already.", reason="already_rotated")
        new = _successor(old, new_id, secret, now)
        if grace:  # for its time, two keys live in the place of one
            _require_room(new, now)
        ended = _ended(old, new_id, grace, now)
        batch = store.new_batch()
        repository.add_key(batch, new)
        repository.change_key(batch, old, ended)
        until = ended.revoked_at or expiry_after_grace(old, now, grace)
        _record(batch, KeyRotated(key_id=new_id, replaced_id=old.id, replaced_until=until), new, now)
        store.commit(batch)
        keys.forget(old.digest)
        return new

    return _again_when_stale(rotate), secret


def revoke_key(uid: str, key_id: str, *, now: datetime) -> None:
    """The key dies; doing it again changes nothing. Raises NotFound."""

    def revoke() -> None:
        key = get_key(uid, key_id)
        if key.revoked_at is None:
            batch = store.new_batch()
            repository.change_key(batch, key, replace(key, revoked_at=now))
            _record(batch, KeyRevoked(key_id=key_id), key, now)
            store.commit(batch)
        keys.forget(key.digest)

    _again_when_stale(revoke)


def read_spent_micro(found: Sequence[Key], now: datetime) -> dict[str, int]:
    """What each key's budget has spent this month, by the key's id."""
    spent = repository.read_all_spent_micro([key.budget_id for key in found], month_of(now))
    return {key.id: spent.get(key.budget_id, 0) for key in found}


# --- what chat asks of a key -----------------------------------------------------------------------------------------


def check_key(caller: Caller, model: str, *, needed_micro: int, now: datetime) -> None:
    """Whether the caller's key, if they came with one, is for this model and has this much of the month's credits left.

    What is spent is known to five seconds, and work in progress is not in it: a key can end above its limit by what
    runs at the same time. Raises PermissionDenied (`model_not_allowed`), InsufficientCredits (`key_limit`).
    """
    key = caller.key
    if key is None:
        return
    if key.allowed_models is not None and model not in key.allowed_models:
        raise PermissionDenied(f"This API key is not for the model {model[:200]}.", reason="model_not_allowed")
    if key.monthly_limit_micro is None:
        return
    left_micro = key.monthly_limit_micro - _spent_this_month(key.budget_id, now)
    if left_micro < needed_micro:
        raise InsufficientCredits(
            "What this could cost is more than this API key may still spend this month.",
            reason="key_limit",
            needed_micro=needed_micro,
            available_micro=max(left_micro, 0),
        )


def add_key_spending(batch: Batch, *, uid: str, budget_id: str, micro: int, now: datetime) -> None:
    """Add to the batch that settles the work what it cost the key. `budget_id` is the key's (`KeyGrant.budget_id`)."""
    repository.add_spending(batch, uid=uid, budget_id=budget_id, micro=micro, at=now)
    _spent_micro.change(_budget_of_month(budget_id, now), lambda known: known + micro, now)


# --- sessions --------------------------------------------------------------------------------------------------------


def open_session(
    caller: Caller, *, session_id: str, seed: str | None, user_agent: str, address: str, now: datetime
) -> tuple[Session, str]:
    """A new session, and its cookie. The same seed makes the same session once; of too many, the oldest end.

    Raises Unauthenticated when the caller did not sign in just now.
    """
    _require_recent_sign_in(caller, now)
    assert caller.proved_at is not None, "an ID token says when it was proved"
    cookie = sessions.new_cookie(seed)
    session = Session(
        digest=secret_text.digest(cookie),
        id=session_id,
        uid=caller.uid,
        created_at=now,
        proved_at=caller.proved_at,
        expires_at=now + sessions.LIFETIME,
        user_agent=user_agent,
        address=address,
        last_seen_at=now,
    )

    def open_it() -> Session:
        too_old = displaced([each for each in list_sessions(caller.uid, now=now) if each.digest != session.digest])
        batch = store.new_batch()
        repository.add_session(batch, session)
        _record(batch, SessionCreated(session_id=session_id, expires_at=session.expires_at), session, now)
        for each in too_old:
            repository.end_session(batch, each, now)
            _record(batch, SessionRevoked(session_id=each.id), each, now)
        try:
            store.commit(batch)
        except store.AlreadyExists:
            # This same request was here before and died on the way back.
            return _get_session(caller.uid, session_id)
        _forget_sessions(too_old)
        return session

    return _again_when_stale(open_it), cookie


def list_sessions(uid: str, *, now: datetime) -> list[Session]:
    """The user's live sessions, the newest first."""
    return [session for session in repository.list_sessions(uid) if session.is_live(now)]


def get_current_session(caller: Caller) -> Session:
    """Raises NotFound when the caller came without a session."""
    if caller.session_id is None:
        raise NotFound("This request came without a session.")
    return _get_session(caller.uid, caller.session_id)


def end_session(uid: str, session_id: str, *, now: datetime) -> None:
    """The session ends; doing it again changes nothing. Raises NotFound."""

    def end() -> None:
        session = _get_session(uid, session_id)
        if session.revoked_at is None:
            batch = store.new_batch()
            repository.end_session(batch, session, now)
            _record(batch, SessionRevoked(session_id=session_id), session, now)
            store.commit(batch)
        _forget_sessions([session])

    _again_when_stale(end)


def sign_out_everywhere(uid: str, *, now: datetime) -> int:
    """End every session and every sign-in there is; how many sessions that were. API keys go on.

    Raises Unavailable also when all is ended here and only Firebase Auth was not told: then do it again.
    """

    def sign_out() -> list[Session]:
        live = list_sessions(uid, now=now)
        batch = store.new_batch()
        accounts.end_sign_ins(batch, uid, now)
        for session in live:
            repository.end_session(batch, session, now)
        events.record(batch, SignedOutEverywhere(sessions_ended=len(live)), uid=uid, subject="sessions", at=now)
        store.commit(batch)
        return live

    ended = _again_when_stale(sign_out)
    accounts.forget(uid)
    _forget_sessions(ended)
    tokens.revoke_refresh_tokens(uid)
    return len(ended)


# --- what they have in common ----------------------------------------------------------------------------------------


def _again_when_stale(change: Callable[[], ResultT]) -> ResultT:
    """Read and write again when somebody else's write came between. Raises Conflict when that does not end."""
    for _ in range(_ATTEMPTS):
        try:
            return change()
        except (store.StaleWrite, store.AlreadyExists):
            continue
    raise Conflict("This is being changed by others; try again.", retry_after_s=1)


def _record(batch: Batch, payload: events.EventPayload, about: Key | Session, now: datetime) -> None:
    collection = "api_keys" if isinstance(about, Key) else "sessions"
    events.record(batch, payload, uid=about.uid, subject=f"{collection}/{about.id}", at=now)


def _require_grantable(scopes: Sequence[Permission], role: Role) -> None:
    """A key can be given what keys may do at all and its owner may do."""
    refused = [scope for scope in scopes if scope not in KEY_SCOPES & GRANTED[role]]
    if refused:
        problems = [FieldError(f"scopes[{list(scopes).index(scope)}]", "is no scope of yours") for scope in refused]
        raise InvalidRequest("Check: scopes.", fields=problems)


def _require_life(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and not now < expires_at <= now + MAX_KEY_LIFE:
        problem = FieldError("expires_at", f"must lie in the next {MAX_KEY_LIFE.days} days")
        raise InvalidRequest("Check: expires_at.", fields=[problem])


def _require_room(key: Key, now: datetime) -> None:
    others = [each for each in list_keys(key.uid) if each.state(now) is KeyState.LIVE and each.digest != key.digest]
    if len(others) >= MAX_LIVE_KEYS:
        raise Conflict(f"You have {len(others)} API keys; revoke some you do not need.", reason="too_many_keys")


def _require_live(key: Key, now: datetime) -> None:
    state = key.state(now)
    if state is not KeyState.LIVE:
        raise Conflict(f"This key is {state}; make a new one.", reason=f"key_{state}")


def _require_recent_sign_in(caller: Caller, now: datetime) -> None:
    recent = caller.proved_at is not None and now - caller.proved_at <= RECENT_SIGN_IN
    if caller.proof is not Proof.ID_TOKEN or not recent:
        raise Unauthenticated("Sign in again, then ask for a session at once.", reason="recent_sign_in_required")


def _successor(old: Key, new_id: str, secret: str, now: datetime) -> Key:
    return replace(
        old,
        digest=secret_text.digest(secret),
        id=new_id,
        hint=secret[-keys.HINT_CHARS :],
        created_at=now,
        expires_at=successor_expiry(old, now),
        last_used_at=None,
        rotated_from=old.id,
    )


def _ended(old: Key, new_id: str, grace: timedelta, now: datetime) -> Key:
    if grace:
        return replace(old, rotated_to=new_id, expires_at=expiry_after_grace(old, now, grace))
    return replace(old, rotated_to=new_id, revoked_at=now)


def _get_session(uid: str, session_id: str) -> Session:
    found = repository.find_session(uid, session_id)
    if found is None:
        raise NotFound("There is no such session.")
    return found


def _forget_sessions(ended: Sequence[Session]) -> None:
    for session in ended:
        sessions.forget(session.digest)


def _spent_this_month(budget_id: str, now: datetime) -> int:
    key = _budget_of_month(budget_id, now)
    spent = _spent_micro.get(key, now)
    if spent is None:
        spent = repository.read_spent_micro(budget_id, month_of(now))
        _spent_micro.put(key, spent, now)
    return spent


def _budget_of_month(budget_id: str, now: datetime) -> str:
    return f"{budget_id}:{month_of(now)}"


def _sorted(scopes: Sequence[Permission]) -> tuple[str, ...]:
    return tuple(sorted({scope.value for scope in scopes}))


def _sorted_models(models: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if models is None else tuple(sorted(set(models)))
