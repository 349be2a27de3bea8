"""The database as an app sees it: Firestore's REST API with a person's token, which the security rules judge.

The emulator accepts unsigned ID tokens and obeys the rules for them; the token `owner` stands for the server. Writes go
through `commit`, as those of the SDKs do.
"""

import base64
import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeAlias
from urllib.parse import quote

PROJECT = "demo-craftpilot"
DOCUMENTS = f"projects/{PROJECT}/databases/(default)/documents"

ALLOWED, REFUSED = "allowed", "refused"

Document: TypeAlias = Mapping[str, Any]
Write: TypeAlias = dict[str, Any]


class ServerTime:
    """The moment of the write, which the server alone knows: serverTimestamp() of the SDKs."""

    def __repr__(self) -> str:
        return "SERVER_TIME"


SERVER_TIME = ServerTime()


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


def _segment(value: Document) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def value_of(plain: Any) -> dict[str, Any]:  # noqa: PLR0911  # one line per type of Firestore
    """A plain value in Firestore's JSON."""
    match plain:
        case None:
            return {"nullValue": None}
        case bool():
            return {"booleanValue": plain}
        case int():
            return {"integerValue": str(plain)}
        case float():
            return {"doubleValue": plain}
        case bytes():
            return {"bytesValue": base64.b64encode(plain).decode()}
        case datetime():
            return {"timestampValue": plain.isoformat()}
        case list():
            return {"arrayValue": {"values": [value_of(item) for item in plain]}}
        case dict():
            return {"mapValue": fields_of(plain)}
        case _:
            return {"stringValue": plain}


def fields_of(plain: Document) -> dict[str, Any]:
    return {"fields": {name: value_of(value) for name, value in plain.items() if value is not SERVER_TIME}}


def write_of(
    path: str,
    document: Document,
    *,
    exists: bool | None = None,
    mask: list[str] | None = None,
    transforms: Mapping[str, Document] = MappingProxyType({}),
) -> Write:
    """One write of a commit. Without a mask the document is replaced; `transforms`: field → how the server makes it."""
    now = {name: {"setToServerValue": "REQUEST_TIME"} for name, value in document.items() if value is SERVER_TIME}
    write: Write = {
        "update": {"name": f"{DOCUMENTS}/{path}", **fields_of(document)},
        "updateTransforms": [{"fieldPath": name, **how} for name, how in {**now, **transforms}.items()],
    }
    if mask is not None:
        write["updateMask"] = {"fieldPaths": mask}
    if exists is not None:
        write["currentDocument"] = {"exists": exists}
    return write


def delete_of(path: str) -> Write:
    return {"delete": f"{DOCUMENTS}/{path}"}


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

    def create(self, path: str, document: Document) -> str:
        return self.commit(write_of(path, document, exists=False))

    def replace(self, path: str, document: Document) -> str:
        return self.commit(write_of(path, document))

    def update(self, path: str, document: Document) -> str:
        """Change the fields that the document has; the others stay."""
        mask = [name for name, value in document.items() if value is not SERVER_TIME]
        return self.commit(write_of(path, document, exists=True, mask=mask))

    def delete(self, path: str) -> str:
        return self.commit(delete_of(path))

    def patch(self, path: str, document: Document) -> str:
        """Change fields through the other door: PATCH with the mask in the address."""
        mask = "&".join(f"updateMask.fieldPaths={quote(name)}" for name in document)
        return self._verdict("PATCH", f"{path}?{mask}", fields_of(document))

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

    def commit(self, *writes: Write) -> str:
        return self._verdict("POST", ":commit", {"writes": list(writes)})

    def batch_write(self, *writes: Write) -> str:
        """Independent writes in one request, which a batch of an SDK never is."""
        return self._verdict("POST", ":batchWrite", {"writes": list(writes)})

    def read(self, path: str) -> dict[str, Any] | None:
        """The fields of a document, in Firestore's JSON, for who may read it; None when it is not there."""
        status, answer = self._send("GET", path, None)
        if status == http.client.NOT_FOUND:
            return None
        assert status == http.client.OK, answer
        fields: dict[str, Any] = answer.get("fields", {})
        return fields

    def put(self, path: str, document: Document) -> None:
        """Write a document as it must succeed, for who may."""
        self.must(write_of(path, document))

    def must(self, *writes: Write) -> None:
        verdict = self.commit(*writes)
        assert verdict == ALLOWED, verdict

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
