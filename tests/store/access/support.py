"""People with their tokens, cookies and keys, and their requests to the access function."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

from flask import Request
from google.cloud.firestore import FieldFilter
from werkzeug.test import EnvironBuilder

from functions.access import http
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.http.pipeline import serve
from shared.identity import csrf
from tests.store.chat.support import id_token

KEYS = "/api/v1/api-keys"
SESSIONS = "/api/v1/sessions"
GOOD_KEY = {"name": "CI", "scopes": ["chat:read", "chat:write"]}


class StandingClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> None:
        self.now += by


@dataclass
class Answer:
    status: int
    json: Any
    headers: Any

    @property
    def cookie(self) -> Any:
        """The session cookie that the answer sets."""
        jar = SimpleCookie(self.headers.get("Set-Cookie", ""))
        return jar.get("__session")


@dataclass
class Person:
    uid: str
    clock: StandingClock
    signed_in_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.signed_in_at = self.clock.now

    def sign_in(self) -> None:
        self.signed_in_at = self.clock.now

    @property
    def token(self) -> str:
        """A fresh ID token of the last sign-in."""
        now_s = int(self.clock.now.timestamp())
        return id_token(self.uid, auth_time=int(self.signed_in_at.timestamp()), iat=now_s, exp=now_s + 3600)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request with the person's ID token."""
        return ask(self.clock, method, path, body, Authorization=f"Bearer {self.token}", **headers)

    def ask_with(self, cookie: str, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request of a page of ours in a browser that has this cookie."""
        shown = {"Cookie": f"__session={cookie}", "X-CSRF-Token": csrf.token_of(cookie), **headers}
        return ask(self.clock, method, path, body, **shown)

    def make_key(self, **wish: Any) -> dict[str, Any]:
        answer = self.ask("POST", KEYS, {**GOOD_KEY, **wish})
        assert answer.status == 201, answer.json
        made: dict[str, Any] = answer.json
        return made

    def open_session(self, **headers: str) -> tuple[str, dict[str, Any]]:
        """A cookie, and what was said about its session."""
        answer = self.ask("POST", SESSIONS, **headers)
        assert answer.status == 201, answer.json
        return answer.cookie.value, answer.json

    def events(self) -> list[dict[str, Any]]:
        """What was told about this person, the oldest first."""
        found = [each.to_dict() or {} for each in _of("events", self.uid)]
        return sorted(found, key=lambda event: event["occurred_at"])

    def event_types(self) -> list[str]:
        return [event["type"] for event in self.events()]

    def documents(self, collection: str) -> dict[str, dict[str, Any]]:
        return {each.id: each.to_dict() or {} for each in _of(collection, self.uid)}


def ask(clock: StandingClock, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    environ = EnvironBuilder(method=method, path=path, data=data, headers=named).get_environ()
    response = serve(http.routes, clock=clock)(Request(environ))
    text = response.get_data(as_text=True)
    return Answer(response.status_code, json.loads(text) if text else None, response.headers)


def _of(collection: str, uid: str) -> Any:
    return firestore_client().collection(collection).where(filter=FieldFilter("uid", "==", uid)).stream()
