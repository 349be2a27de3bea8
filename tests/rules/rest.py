"""The database as an app sees it: Firestore's REST API with a person's token, which the security rules judge.

The emulator accepts unsigned ID tokens and obeys the rules for them; the token `owner` stands for the server.
"""

import base64
import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

PROJECT = "demo-craftpilot"
DOCUMENTS = f"projects/{PROJECT}/databases/(default)/documents"

ALLOWED, REFUSED = "allowed", "refused"


def id_token(uid: str, **claims: Any) -> str:
    """An unsigned ID token with the claims Firebase Auth gives, and more or others."""
    now = int(time.time())
    payload = {
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "aud": PROJECT,
        "sub": uid,
        "user_id": uid,
        "iat": now,
        "auth_time": now,
        "exp": now + 3600,
        "email": f"{uid}@example.com",
        "email_verified": True,
        "firebase": {"sign_in_provider": "password", "identities": {}},
    } | claims
    return f"{_segment({'alg': 'none', 'typ': 'JWT'})}.{_segment(payload)}."


def _segment(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def value_of(plain: Any) -> dict[str, Any]:
    """A plain value in Firestore's JSON."""
    if isinstance(plain, bool):
        return {"booleanValue": plain}
    if isinstance(plain, int):
        return {"integerValue": str(plain)}
    return {"stringValue": plain}


def fields_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {"fields": {name: value_of(value) for name, value in plain.items()}}


@dataclass(frozen=True)
class Person:
    """Somebody with a token, or nobody without one, who tries things."""

    host: str
    token: str | None
    _kept: list[http.client.HTTPConnection] = field(default_factory=list, repr=False, compare=False)

    def get(self, path: str) -> str:
        return self._verdict("GET", path)

    def list(self, collection: str) -> str:
        return self._verdict("GET", f"{collection}?pageSize=5")

    def create(self, collection: str, document_id: str, document: Mapping[str, Any]) -> str:
        return self._verdict("POST", f"{collection}?documentId={document_id}", fields_of(document))

    def update(self, path: str, document: Mapping[str, Any]) -> str:
        mask = "&".join(f"updateMask.fieldPaths={quote(name)}" for name in document)
        return self._verdict("PATCH", f"{path}?currentDocument.exists=true&{mask}", fields_of(document))

    def delete(self, path: str) -> str:
        return self._verdict("DELETE", path)

    def query(self, collection: str, *, everywhere: bool = False, **equal: Any) -> str:
        """Ask for documents with these values; `everywhere`: in all collections of that name."""
        parent, _, name = collection.rpartition("/")
        structured: dict[str, Any] = {"from": [{"collectionId": name, "allDescendants": everywhere}], "limit": 5}
        if equal:
            filters = [
                {"fieldFilter": {"field": {"fieldPath": path}, "op": "EQUAL", "value": value_of(value)}}
                for path, value in equal.items()
            ]
            structured["where"] = {"compositeFilter": {"op": "AND", "filters": filters}}
        return self._verdict("POST", f"{parent}:runQuery", {"structuredQuery": structured})

    def count(self, collection: str) -> str:
        aggregation = {
            "structuredQuery": {"from": [{"collectionId": collection}]},
            "aggregations": [{"count": {}, "alias": "n"}],
        }
        return self._verdict("POST", ":runAggregationQuery", {"structuredAggregationQuery": aggregation})

    def commit(self, *writes: Mapping[str, Any]) -> str:
        return self._verdict("POST", ":commit", {"writes": list(writes)})

    def read(self, path: str) -> dict[str, Any]:
        """The fields of a document, in Firestore's JSON, for who may read it."""
        status, answer = self._send("GET", path, None)
        assert status == http.client.OK, answer
        fields: dict[str, Any] = answer["fields"]
        return fields

    def put(self, path: str, document: Mapping[str, Any]) -> None:
        """Write a document as it must succeed, for who may."""
        status, answer = self._send("PATCH", path, fields_of(document))
        assert status == http.client.OK, answer

    def _verdict(self, method: str, path: str, body: Any = None) -> str:
        status, answer = self._send(method, path, body)
        problem = answer[0] if isinstance(answer, list) and answer else answer
        name = problem.get("error", {}).get("status") if isinstance(problem, dict) else None
        if status == http.client.OK and name is None:
            return ALLOWED
        if status == http.client.FORBIDDEN and name == "PERMISSION_DENIED":
            return REFUSED
        return f"HTTP {status}: {answer}"

    def _send(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        connection = self._connection()
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        separator = "" if path.startswith(":") else "/"
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/v1/{DOCUMENTS}{separator}{path}", data, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def _connection(self) -> http.client.HTTPConnection:
        if not self._kept:
            self._kept.append(http.client.HTTPConnection(self.host, timeout=30))
        return self._kept[0]

    def close(self) -> None:
        for connection in self._kept:
            connection.close()
        self._kept.clear()


@contextmanager
def person(host: str, token: str | None) -> Iterator[Person]:
    somebody = Person(host, token)
    try:
        yield somebody
    finally:
        somebody.close()
