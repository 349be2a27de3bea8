"""People with accounts, their requests to the users and admin functions, and what was written about them."""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from google.cloud.firestore_v1.base_query import FieldFilter

from functions.admin.http import routes as admin_routes
from functions.users.http import routes as users_routes
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.identity import accounts
from shared.identity.caller import Caller
from shared.identity.permissions import Role
from shared.identity.tokens import Person
from tests.store.chat.support import id_token, wsgi_client

ME = "/api/v1/users/me"


@dataclass
class Somebody:
    """A person with an account. `signed_in_at` is the `auth_time` of their token."""

    uid: str
    signed_in_at: float = field(default_factory=time.time)
    address: str = field(default_factory=lambda: f"10.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}.7")

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        routes = admin_routes if path.startswith("/api/v1/admin") else users_routes
        sent = {
            "Authorization": f"Bearer {id_token(self.uid, auth_time=int(self.signed_in_at))}",
            "X-Forwarded-For": self.address,
            **headers,
        }
        data = None if body is None else json.dumps(body)
        return wsgi_client(routes).open(path, method=method, data=data, headers=sent)

    def document(self) -> dict[str, Any]:
        found = firestore_client().collection("users").document(self.uid).get().to_dict()
        assert found is not None
        return found

    def set(self, **fields: Any) -> None:
        firestore_client().collection("users").document(self.uid).update(fields)
        accounts.forget(self.uid)

    def events(self) -> list[dict[str, Any]]:
        found = firestore_client().collection("events").where(filter=FieldFilter("uid", "==", self.uid)).get()
        told = [document.to_dict() or {} for document in found]
        return sorted(told, key=lambda event: event["occurred_at"])

    def event_types(self) -> list[str]:
        return [event["type"] for event in self.events() if event["type"] != "user.registered"]

    def as_caller(self) -> Caller:
        return Caller(uid=self.uid, role=Role(self.document()["role"]))


def open_account(role: Role = Role.USER, **fields: Any) -> Somebody:
    somebody = Somebody(f"user-{uuid.uuid4().hex}")
    accounts.get_or_open(Person(somebody.uid, **fields), now=utc_now())
    if role is not Role.USER:
        somebody.set(role=role.value)
    return somebody


def owner_of(username: str) -> str | None:
    """Whom the name is reserved for."""
    reservation = firestore_client().collection("usernames").document(username).get().to_dict()
    return reservation["uid"] if reservation else None


def reservations_of(uid: str) -> list[str]:
    found = firestore_client().collection("usernames").where(filter=FieldFilter("uid", "==", uid)).get()
    return sorted(document.id for document in found)


def fresh_name() -> str:
    """A name that no other test takes."""
    return f"n{uuid.uuid4().hex[:20]}"
