"""Identity without its databases: documents and sessions in memory, limits that take notes, nothing remembered."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from shared import clients
from shared.errors import RateLimited, Unavailable
from shared.http import pipeline
from shared.identity import accounts, documents, keys, last_use, session_cache, sessions, tokens
from shared.limits import admission
from shared.redis_link import LinkFailed
from tests.unit.shared.conftest import Doorkeeper, logged

__all__ = ["logged"]  # a fixture, used by its name


class Documents:
    """Firestore as far as the way in reads it: documents by path, and what was read of them."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        self.read: list[str] = []
        self.down = False

    def find(self, reference: Any, fields: Any = None) -> dict[str, Any] | None:
        self.read.append(reference.path)
        if self.down:
            raise Unavailable
        found = self.stored.get(reference.path)
        return None if found is None else {name: found[name] for name in fields or found if name in found}


class Suspicion:
    """The limits as far as sign-ins go: whom they refuse, and whose failures they were told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failed: list[str] = []
        self.suspicious: set[str] = set()

    def refuse_when_suspicious(self, address: str) -> None:
        self.asked.append(address)
        if address in self.suspicious:
            raise RateLimited(retry_after_s=60)

    def note_failed_sign_in(self, address: str) -> None:
        self.failed.append(address)


class Uses:
    """What would have been written about last uses."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str]] = []

    def submit(self, _: Callable[..., None], reference: Any, field: str, __: Any) -> Future[None]:
        self.written.append((reference.path, field))
        return Future()


class RedisDictionary:
    """Redis as far as sessions need it; it can be away, and it counts how often it was asked."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.kept_s: dict[str, int] = {}
        self.asked = 0
        self.away = False

    def call(self, *command: Any) -> bytes | None:
        self.asked += 1
        if self.away:
            raise LinkFailed("nobody there")
        match command:
            case ("GET", key):
                found = self.texts.get(key)
                return None if found is None else found.encode(errors="surrogatepass")
            case ("SET", key, text, "EX", kept_s, *only_if_new):
                if only_if_new and key in self.texts:
                    return None
                self.texts[key], self.kept_s[key] = text if isinstance(text, str) else text.decode(), kept_s
                return b"OK"
        raise AssertionError(f"nothing of the sessions asks this: {command}")


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    for part in (accounts, keys, sessions, tokens, last_use):
        part.forget_all()
    monkeypatch.setattr(session_cache._Away, "until", 0.0)
    # A client that could be asked nothing: it only makes references to documents.
    client = firestore.Client(project="demo-craftpilot", credentials=AnonymousCredentials())
    monkeypatch.setitem(clients._made, "firestore", client)


@pytest.fixture(autouse=True)
def doorkeeper(monkeypatch) -> Doorkeeper:
    """The limits on requests let everybody in."""
    keeper = Doorkeeper()
    monkeypatch.setattr(pipeline, "admit", keeper.admit)
    return keeper


@pytest.fixture(autouse=True)
def database(monkeypatch) -> Documents:
    found = Documents()
    monkeypatch.setattr(documents, "find", found.find)
    return found


@pytest.fixture(autouse=True)
def suspicion(monkeypatch) -> Suspicion:
    noted = Suspicion()
    monkeypatch.setattr(admission, "refuse_when_suspicious", noted.refuse_when_suspicious)
    monkeypatch.setattr(admission, "note_failed_sign_in", noted.note_failed_sign_in)
    return noted


@pytest.fixture(autouse=True)
def uses(monkeypatch) -> Uses:
    noted = Uses()
    monkeypatch.setattr(last_use, "_writer", lambda: noted)
    return noted


@pytest.fixture(autouse=True)
def redis_dictionary(monkeypatch) -> RedisDictionary:
    found = RedisDictionary()
    monkeypatch.setitem(clients._made, "redis_link", found)
    return found
