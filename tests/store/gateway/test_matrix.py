"""Every route, asked by everybody: anonymous, each role, a suspended admin, an API key; as owner and as stranger.

The cells are generated from the routes that are deployed; what should come out stands in `routes.py`, by hand.
"""

import io
import json
import re
import uuid
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from functions.access import service as access
from functions.api import all_routes
from functions.chat.callable import routes as chat_send
from functions.chat.uploads import service as uploads
from functions.users.callable import routes as account_bootstrap
from shared import storage
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.http.dialects import Callable
from shared.http.routes import Route, Routes
from shared.identity import accounts, tokens
from shared.identity.permissions import KEY_SCOPES
from tests.processes import tell
from tests.store.chat.support import User, give, id_token, wsgi_client
from tests.store.gateway.routes import ROWS, Rank, Row
from tests.unit.users.fake_auth import FakeAuth

CALLABLES = (chat_send, account_bootstrap)
_PARAMETER = re.compile(r"\{([a-z_]+)\}")
counted: Counter[str] = Counter()


@dataclass(frozen=True)
class Asker:
    """Somebody who asks: a role, and how they prove who they are."""

    name: str
    rank: Rank
    suspended: bool = False
    by_key: bool = False


ASKERS = (
    Asker("anonymous", Rank.ANONYMOUS),
    Asker("user", Rank.USER),
    Asker("support", Rank.SUPPORT),
    Asker("moderator", Rank.MODERATOR),
    Asker("admin", Rank.ADMIN),
    Asker("suspended admin", Rank.ADMIN, suspended=True),
    Asker("admin's API key", Rank.ADMIN, by_key=True),
)
ANOTHER = Asker("another user", Rank.USER)
RELATIONS = ("owner", "stranger")
MODEL = {"author": "openai", "name": "gpt-4o-mini"}
"""What paths may name that belongs to nobody."""


@cache
def routed() -> dict[str, tuple[Routes, Route]]:
    """Every route under its label: method and path, or the name of a callable."""
    found = {f"{route.method} {route.path}": (routes, route) for routes in all_routes() for route in routes}
    return found | {f"CALL {routes.capability}": (routes, route) for routes in CALLABLES for route in routes}


CELLS = [
    pytest.param(label, asker, relation, id=f"{label}-{asker.name}-{relation}")
    for label in routed()
    for asker in ASKERS
    for relation in (RELATIONS if asker.rank else RELATIONS[:1])
]


def test_every_route_has_its_row_and_every_row_its_route():
    assert set(ROWS) == set(routed())


@pytest.fixture(scope="module", autouse=True)
def _say_how_many_cells(pytestconfig):
    yield
    told = ", ".join(f"{count} x {status}" for status, count in sorted(counted.items()))
    tell(pytestconfig, f"route x asker x ownership: {len(CELLS)} cells; answers: {told}")


@pytest.fixture(autouse=True)
def _only_authorisation(monkeypatch, no_limits):
    """Firebase Auth is in memory, and everybody is below every limit."""
    FakeAuth().install(monkeypatch)
    monkeypatch.setattr(tokens, "refuse_when_revoked", lambda *_: None)


class Somebody:
    """An account of a role, with what it owns."""

    def __init__(self, asker: Asker) -> None:
        self.uid = f"matrix-{uuid.uuid4().hex}"
        self.chat = User(self.uid, client_of("chat"))
        if not asker.rank:
            return
        assert self.chat.request("GET", "/api/v1/conversations").status_code == 200, (
            "the first request opens the account"
        )
        give(self.uid, 100)
        self._key = self._make_key() if asker.by_key else None
        changes = {"role": asker.rank.name.lower(), "plan": "enterprise"}
        if asker.suspended:
            changes["status"] = "suspended"
        firestore_client().collection("users").document(self.uid).update(changes)
        accounts.forget(self.uid)

    def headers(self, asker: Asker) -> dict[str, str]:
        if not asker.rank:
            return {}
        return {"Authorization": f"Bearer {self._key or id_token(self.uid)}"}

    def _make_key(self) -> str:
        body = {"name": "matrix", "scopes": sorted(KEY_SCOPES)}
        answer = self._ask("access", "POST", "/api/v1/api-keys", body)
        return answer["key"]

    def resources(self, names: list[str]) -> dict[str, str]:
        """The ids that a path names, of things that belong to this account; a message with its own conversation."""
        if "message_id" in names:
            answer = self._answer()
            return {"conversation_id": answer["conversation_id"], "message_id": answer["message"]["id"]}
        return {name: MODEL.get(name) or self.resource(name) for name in names}

    def resource(self, name: str) -> str:
        """The id of something that belongs to this account."""
        key = {"name": "mine", "scopes": ["chat:read"]}
        makers = {
            "conversation_id": self.chat.conversation,
            "generation_id": lambda: self._answer()["generation_id"],
            "folder_id": lambda: self._ask("chat", "POST", "/api/v1/folders", {"name": uuid.uuid4().hex})["id"],
            "token": lambda: self._share()["token"],
            "upload_id": self._attachment,
            "key_id": lambda: self._ask("access", "POST", "/api/v1/api-keys", key)["id"],
            "session_id": lambda: self._ask("access", "POST", "/api/v1/sessions", {})["id"],
            "job_id": lambda: Somebody(ANOTHER)._ask("users", "DELETE", "/api/v1/users/me", None)["job_id"],
            "uid": lambda: Somebody(Asker("user", Rank.USER)).uid,
        }
        assert name in makers, f"the matrix does not know how to make a {name}"
        return makers[name]()

    def _answer(self) -> dict[str, Any]:
        return self.chat.ask(self.chat.conversation(), "/say mine").json

    def _share(self) -> dict[str, Any]:
        return self._ask("chat", "POST", f"/api/v1/conversations/{self._answer()['conversation_id']}/share", {})

    def _attachment(self) -> str:
        """A text that a message used."""
        body = {"name": "mine.txt", "content_type": "text/plain", "size_bytes": 4}
        begun = self._ask("chat", "POST", "/api/v1/uploads", body)
        storage.upload(f"uploads/{self.uid}/{begun['upload_id']}", io.BytesIO(b"mine"), content_type="text/plain")
        uploads.adopt(self.uid, "conv_matrix", [begun["upload_id"]], now=utc_now())
        upload_id: str = begun["upload_id"]
        return upload_id

    def _ask(self, capability: str, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {id_token(self.uid)}"}
        data = None if body is None else json.dumps(body)
        answer = client_of(capability).open(path, method=method, data=data, headers=headers)
        assert answer.status_code // 100 == 2, answer.get_data(as_text=True)
        return answer.get_json()


@cache
def regular(asker: Asker) -> Somebody:
    """The account of this kind that all cells share which do it no harm."""
    return Somebody(asker)


@cache
def client_of(capability: str) -> Any:
    routes = {one.capability: one for one in [*all_routes(), *CALLABLES]}[capability]
    return wsgi_client(routes, Callable() if routes in CALLABLES else None)


def expected(row: Row, asker: Asker, relation: str) -> set[int]:
    """The statuses that are right; an empty set stands for "let in": whatever it is, no refusal and no failure."""
    if row.least is Rank.ANONYMOUS:
        return set()
    if asker.rank is Rank.ANONYMOUS:
        return {401}
    if asker.suspended or asker.rank < row.least or (asker.by_key and not row.by_key):
        return {403}
    return {404} if row.owned and relation == "stranger" else set()


@pytest.mark.parametrize(("label", "asker", "relation"), CELLS)
def test_who_may_do_what(label, asker, relation, standin):
    routes, route = routed()[label]
    row = ROWS[label]
    somebody = Somebody(asker) if row.spoils else regular(asker)
    owner = somebody if relation == "owner" and asker.rank and not asker.suspended else regular(ANOTHER)
    named = owner.resources(_PARAMETER.findall(route.path))
    path = _PARAMETER.sub(lambda match: named[match[1]], route.path)

    body = {"data": row.body} if routes in CALLABLES else row.body
    data = None if body is None else json.dumps(body)
    answer = client_of(routes.capability).open(
        path, method=route.method, data=data, headers=somebody.headers(asker), query_string=row.query
    )
    text = answer.get_data(as_text=True)
    answer.close()

    right = expected(row, asker, relation)
    if right:
        assert answer.status_code in right, text
        assert "matrix-" not in text, "a refusal tells nothing of anybody"
    else:
        assert answer.status_code not in {401, 403, *([] if row.nothing_there else [404])}, text
        assert answer.status_code < 500, text
        if row.least is Rank.USER and owner is not somebody:
            assert owner.uid not in text, "nobody sees what is somebody else's"
    counted[f"{answer.status_code // 100}xx" if not right else str(answer.status_code)] += 1


def test_a_key_reaches_only_what_its_scopes_name(standin):
    """Each scope alone, at every route: it opens those that need just this permission."""
    somebody = Somebody(ANOTHER)
    for scope in sorted(KEY_SCOPES):
        made = somebody._ask("access", "POST", "/api/v1/api-keys", {"name": scope, "scopes": [scope]})
        for label, (routes, route) in routed().items():
            if ROWS[label].least is Rank.ANONYMOUS or ROWS[label].owned:
                continue
            body = ROWS[label].body
            data = None if body is None else json.dumps({"data": body} if routes in CALLABLES else body)
            named = {**MODEL, "uid": somebody.uid}
            path = route.path
            for name, value in named.items():
                path = path.replace(f"{{{name}}}", value)
            answer = client_of(routes.capability).open(
                path,
                method=route.method,
                data=data,
                headers={"X-API-Key": made["key"]},
            )
            allowed = route.who == scope
            assert (answer.status_code != 403) is allowed, (label, scope, answer.get_data(as_text=True))
            counted["key scopes"] += 1
        access.revoke_key(somebody.uid, made["id"], now=utc_now())
