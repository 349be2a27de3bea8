"""API keys and sessions over HTTP.

No API key can reach these routes: their permissions are in no scope.
"""

from datetime import datetime, timedelta
from typing import Any

from werkzeug.http import dump_cookie

from functions.access import service
from functions.access.domain import Key, Session, credits_text
from functions.access.schemas import (
    KeyChanges,
    KeyOut,
    KeyRequest,
    KeysOut,
    NewKeyOut,
    OpenSessionOut,
    RotationRequest,
    SessionOut,
    SessionsOut,
    SignedOutOut,
    to_micro,
)
from shared.http.function import http_function
from shared.http.routes import Call, Reply, Routes
from shared.identity import csrf
from shared.identity.permissions import Permission
from shared.identity.sessions import COOKIE_NAME, LIFETIME
from shared.limits.policies import LimitClass
from shared.settings import settings

routes = Routes("access")

KEYS = Permission.KEYS_MANAGE
SESSIONS = Permission.SESSIONS_MANAGE


@routes.post(
    "/api/v1/api-keys",
    who=KEYS,
    body=KeyRequest,
    answer=NewKeyOut,
    status=201,
    limit=LimitClass.SIGN_IN,
    fresh=True,
)
def make_key(call: Call[KeyRequest, Any]) -> NewKeyOut:
    """Make an API key. The answer is the only place that shows it."""
    wish = service.KeyWish(
        name=call.body.name,
        scopes=call.body.scopes,
        expires_at=_expiry(call.body, call.now),
        monthly_limit_micro=to_micro(call.body.monthly_limit_credits),
        allowed_models=call.body.allowed_models,
    )
    key, secret = service.make_key(call.caller, wish, key_id=call.new_id("key"), seed=call.seed, now=call.now)
    return _shape_new_key(key, secret, call.now)


@routes.get("/api/v1/api-keys", who=KEYS, answer=KeysOut)
def list_keys(call: Call[Any, Any]) -> KeysOut:
    """The caller's API keys, without the keys themselves."""
    found = service.list_keys(call.caller.uid)
    spent = service.read_spent_micro(found, call.now)
    return KeysOut(items=[KeyOut(**_key_fields(key, spent[key.id], call.now)) for key in found])


@routes.get("/api/v1/api-keys/{key_id}", who=KEYS, answer=KeyOut)
def get_key(call: Call[Any, Any]) -> KeyOut:
    """One API key, revoked ones too for some weeks."""
    return _shape_key(service.get_key(call.caller.uid, call.path["key_id"]), call.now)


@routes.patch("/api/v1/api-keys/{key_id}", who=KEYS, body=KeyChanges, answer=KeyOut, fresh=True)
def change_key(call: Call[KeyChanges, Any]) -> KeyOut:
    """Change what a live API key is called, may do and may spend. Every instance knows it within 30 seconds."""
    key = service.change_key(call.caller, call.path["key_id"], _changes(call.body), now=call.now)
    return _shape_key(key, call.now)


@routes.post(
    "/api/v1/api-keys/{key_id}/rotate",
    who=KEYS,
    body=RotationRequest,
    answer=NewKeyOut,
    status=201,
    limit=LimitClass.SIGN_IN,
    fresh=True,
)
def rotate_key(call: Call[RotationRequest, Any]) -> NewKeyOut:
    """Replace an API key by a new one with the same rights and the same budget. The answer is the only place that
    shows it.
    """
    key, secret = service.rotate_key(
        call.caller.uid,
        call.path["key_id"],
        new_id=call.new_id("key"),
        grace=timedelta(seconds=call.body.grace_seconds),
        seed=call.seed,
        now=call.now,
    )
    return _shape_new_key(key, secret, call.now)


@routes.delete("/api/v1/api-keys/{key_id}", who=KEYS, status=204)
def revoke_key(call: Call[Any, Any]) -> None:
    """Revoke an API key for good. It is dead everywhere within 30 seconds."""
    service.revoke_key(call.caller.uid, call.path["key_id"], now=call.now)


@routes.post("/api/v1/sessions", who=SESSIONS, answer=OpenSessionOut, status=201, limit=LimitClass.SIGN_IN, fresh=True)
def open_session(call: Call[Any, Any]) -> Reply:
    """Exchange an ID token of somebody who signed in within the last five minutes for a session cookie."""
    session, cookie = service.open_session(
        call.caller,
        session_id=call.new_id("sess"),
        seed=call.seed,
        user_agent=call.user_agent,
        address=call.address,
        now=call.now,
    )
    answer = OpenSessionOut(id=session.id, csrf_token=csrf.token_of(cookie), expires_at=session.expires_at)
    return Reply(answer, {"Set-Cookie": _cookie(cookie, LIFETIME)})


@routes.get("/api/v1/sessions", who=SESSIONS, answer=SessionsOut)
def list_sessions(call: Call[Any, Any]) -> SessionsOut:
    """The caller's live sessions."""
    found = service.list_sessions(call.caller.uid, now=call.now)
    return SessionsOut(items=[_shape_session(session, call.caller.session_id) for session in found])


@routes.get("/api/v1/sessions/current", who=SESSIONS, answer=OpenSessionOut)
def get_current_session(call: Call[Any, Any]) -> OpenSessionOut:
    """The session this request came with, and its CSRF token."""
    session = service.get_current_session(call.caller)
    assert call.caller.csrf_token is not None, "who has a session has its token"
    return OpenSessionOut(id=session.id, csrf_token=call.caller.csrf_token, expires_at=session.expires_at)


@routes.delete("/api/v1/sessions/current", who=SESSIONS, status=204)
def end_current_session(call: Call[Any, Any]) -> Reply:
    """Sign this browser out."""
    service.end_session(call.caller.uid, service.get_current_session(call.caller).id, now=call.now)
    return _without_cookie(None)


@routes.delete("/api/v1/sessions/{session_id}", who=SESSIONS, status=204)
def end_session(call: Call[Any, Any]) -> Reply:
    """Sign another browser out."""
    service.end_session(call.caller.uid, call.path["session_id"], now=call.now)
    return _without_cookie(None) if call.path["session_id"] == call.caller.session_id else Reply(None)


@routes.post("/api/v1/sessions/revoke-all", who=SESSIONS, answer=SignedOutOut)
def sign_out_everywhere(call: Call[Any, Any]) -> Reply:
    """Sign out everywhere: every session and every sign-in ends, this one too. API keys go on.

    The cookie of this answer is empty at once; on every instance it has ended within half a minute.
    """
    ended = service.sign_out_everywhere(call.caller.uid, now=call.now)
    return _without_cookie(SignedOutOut(sessions_ended=ended, valid_since=call.now))


def _expiry(body: KeyRequest, now: datetime) -> datetime | None:
    return body.expires_at if body.expires_in_days is None else now + timedelta(days=body.expires_in_days)


def _changes(body: KeyChanges) -> dict[str, object]:
    """The fields of a key that shall be others."""
    changes: dict[str, object] = {}
    if body.name is not None:
        changes["name"] = body.name
    if body.scopes is not None:
        changes["scopes"] = body.scopes
    if "allowed_models" in body.model_fields_set:
        changes["allowed_models"] = body.allowed_models and tuple(sorted(set(body.allowed_models)))
    if "monthly_limit_credits" in body.model_fields_set:
        changes["monthly_limit_micro"] = to_micro(body.monthly_limit_credits)
    return changes


def _shape_key(key: Key, now: datetime) -> KeyOut:
    return KeyOut(**_key_fields(key, service.read_spent_micro([key], now)[key.id], now))


def _shape_new_key(key: Key, secret: str, now: datetime) -> NewKeyOut:
    return NewKeyOut(**_key_fields(key, service.read_spent_micro([key], now)[key.id], now), key=secret)


def _key_fields(key: Key, spent_micro: int, now: datetime) -> dict[str, Any]:
    limit = key.monthly_limit_micro
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "state": key.state(now),
        "scopes": list(key.scopes),
        "allowed_models": None if key.allowed_models is None else list(key.allowed_models),
        "monthly_limit_micro": limit,
        "monthly_limit_credits": None if limit is None else credits_text(limit),
        "spent_this_month_micro": spent_micro,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "rotated_from": key.rotated_from,
        "rotated_to": key.rotated_to,
    }


def _shape_session(session: Session, current_id: str | None) -> SessionOut:
    return SessionOut(
        id=session.id,
        current=session.id == current_id,
        created_at=session.created_at,
        expires_at=session.expires_at,
        last_seen_at=session.last_seen_at,
        user_agent=session.user_agent,
        address=session.address,
    )


def _without_cookie(answer: SignedOutOut | None) -> Reply:
    return Reply(answer, {"Set-Cookie": _cookie("", timedelta(0))})


def _cookie(value: str, life: timedelta) -> str:
    return dump_cookie(
        COOKIE_NAME,
        value,
        max_age=life,
        path="/",
        secure=not settings().in_emulator,
        httponly=True,
        samesite="Lax",
    )


access = http_function("access", routes)
