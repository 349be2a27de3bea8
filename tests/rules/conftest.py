"""Rules tests talk to a Firestore emulator that was started with firestore.rules; nothing else is needed."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.rules.rest import Person, id_token, person


@pytest.fixture(scope="session")
def emulator_host() -> str:
    host = os.environ.get("FIRESTORE_EMULATOR_HOST")
    if not host:
        pytest.exit(
            "The rules tests need a Firestore emulator that was started with --rules=firestore.rules: "
            "set FIRESTORE_EMULATOR_HOST=host:port.",
            returncode=2,
        )
    return host


@pytest.fixture
def anybody(emulator_host: str) -> Iterator[Callable[[str | None], Person]]:
    """Makes a person from a token, or from None."""
    with ExitStack() as stack:
        yield lambda token: stack.enter_context(person(emulator_host, token))


@pytest.fixture
def uid() -> str:
    """An owner of this test alone, so that tests need not clean up after each other."""
    return f"owner-{uuid.uuid4().hex}"


@pytest.fixture
def server(anybody: Callable[[str | None], Person]) -> Person:
    """Not subject to the rules: it puts there what the others try to reach."""
    return anybody("owner")


@pytest.fixture
def owner(anybody: Callable[[str | None], Person], uid: str) -> Person:
    return anybody(id_token(uid))


@pytest.fixture
def stranger(anybody: Callable[[str | None], Person]) -> Person:
    return anybody(id_token("stranger"))


@pytest.fixture
def anonymous(anybody: Callable[[str | None], Person]) -> Person:
    return anybody(None)


@pytest.fixture
def admin(anybody: Callable[[str | None], Person], server: Person) -> Person:
    server.put("users/staff", {"role": "admin", "status": "active"})
    return anybody(id_token("staff", role="admin"))
