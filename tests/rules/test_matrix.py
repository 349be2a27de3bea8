"""Every place, operation and kind of person, with the verdicts computed from the one table."""

import itertools
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.rules.access import DEVICE, DEVICES, OPERATIONS, PEOPLE, PROPER_WRITES, TABLE, Role, Somebody, may
from tests.rules.rest import ALLOWED, REFUSED, Person, Write, delete_of, id_token, write_of

CELLS = tuple(itertools.product(PEOPLE, TABLE, OPERATIONS))

WORKERS = 4
LONG_AGO_S = 600

CLAIMS: Mapping[Role, Mapping[str, Any]] = {
    Role.GUEST: {"firebase": {"sign_in_provider": "anonymous", "identities": {}}, "provider_id": "anonymous"},
    Role.USER: {},
    Role.SUPPORT: {"role": "support"},
    Role.MODERATOR: {"role": "moderator"},
    Role.ADMIN: {"role": "admin"},
    Role.SUSPENDED: {"role": "admin", "suspended": True},
    Role.SUSPENDED_JUST_NOW: {"role": "admin"},
    Role.SIGNED_OUT_EVERYWHERE: {"role": "admin", "auth_time": int(time.time()) - LONG_AGO_S},
    Role.ERASING: {"role": "admin"},
}

ACCOUNTS: Mapping[Role, Mapping[str, Any]] = {
    # Of one that was suspended and says so in its token, the document says nothing here: the claim alone must do.
    **{role: {"status": "active", "role": CLAIMS[role].get("role", "user")} for role in Role},
    Role.SUSPENDED_JUST_NOW: {"status": "suspended", "role": "admin"},
    Role.SIGNED_OUT_EVERYWHERE: {
        "status": "active",
        "role": "admin",
        "valid_since": datetime.now(UTC) - timedelta(minutes=1),
    },
    Role.ERASING: {"status": "erasing", "role": "admin"},
}


@dataclass(frozen=True)
class Estate:
    """All documents of one owner: a place of the table → the document there."""

    uid: str
    account: Mapping[str, Any]
    paths: Mapping[str, str]

    def document(self, place: str) -> Mapping[str, Any]:
        if place == DEVICES:
            return DEVICE
        return {"uid": self.uid, **(self.account if place == "users/{uid}" else {})}

    def writes(self) -> list[Write]:
        return [write_of(path, self.document(place)) for place, path in self.paths.items()]


def estate_of(role: Role) -> Estate:
    unique = uuid.uuid4().hex
    uid = f"{role.name.lower()}-{unique}"

    def path(place: str) -> str:
        return re.sub(r"{(\w+)}", lambda found: uid if found[1] == "uid" else f"{found[1]}-{unique}", place)

    return Estate(uid, ACCOUNTS[role], {place: path(place) for place in TABLE})


@pytest.fixture
def settle(server: Person) -> Callable[[Role], Estate]:
    """Makes all documents of somebody. What is refused is refused although it exists."""

    def settled(role: Role) -> Estate:
        estate = estate_of(role)
        server.must(*estate.writes())
        return estate

    return settled


def attempt(person: Person, server: Person, estate: Estate, place: str, operation: str) -> str:
    path = estate.paths[place]
    collection, _, _ = path.rpartition("/")
    document = PROPER_WRITES.get((place, operation), {"uid": estate.uid, "forged": True})

    def create() -> str:
        if not place.endswith("{uid}"):
            return person.create(f"{path}-new", document)
        # A document that bears its owner's uid can be made only where it is missing.
        server.must(delete_of(path))
        verdict = person.create(path, document)
        server.put(path, estate.document(place))
        return verdict

    attempts: Mapping[str, Callable[[], str]] = {
        "get": lambda: person.get(path),
        "list": lambda: person.list(collection),
        "list_by_uid": lambda: person.query(collection, uid=estate.uid),
        "create": create,
        "update": lambda: person.update(path, document),
        "delete": lambda: person.delete(path),
    }
    return attempts[operation]()


def wrong_verdicts(role: Role | None, person: Person, server: Person, own: Estate, foreign: Estate) -> Iterator[str]:
    """What the rules judge otherwise than the table, for everything that somebody of this role may try."""
    for somebody, place, operation in CELLS:
        if somebody.role is role:
            verdict = attempt(person, server, own if somebody.owns_it else foreign, place, operation)
            if verdict != (ALLOWED if may(place, operation, somebody) else REFUSED):
                yield f"{somebody}: {operation} {place}: {verdict}"


def test_every_cell_of_the_table_has_its_verdict(anybody, settle, capsys):
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        tries = []
        for role in (None, *Role):
            # Everybody has a neighbour and a server of their own, so that nobody waits for the others.
            own, foreign = settle(role or Role.USER), settle(Role.USER)
            person = anybody(id_token(own.uid, **CLAIMS[role]) if role else None)
            tries.append(pool.submit(list, wrong_verdicts(role, person, anybody("owner"), own, foreign)))
        assert list(itertools.chain.from_iterable(attempts.result() for attempts in tries)) == []
    allowed = sum(may(place, operation, somebody) for somebody, place, operation in CELLS)
    with capsys.disabled():
        print(
            f"\n{len(CELLS)} verdicts of the security rules"
            f" ({len(TABLE)} places x {len(OPERATIONS)} operations x {len(PEOPLE)} kinds of people):"
            f" {allowed} allowed, {len(CELLS) - allowed} refused"
        )


def test_nothing_below_a_place_is_open_to_its_owner_or_to_admins(anybody, server, settle):
    """What an open place has below it is a place of its own."""
    estate = settle(Role.USER)
    people = [anybody(id_token(estate.uid)), anybody(id_token(estate.uid, role="admin"))]
    below = {place: f"{path}/below/d_1" for place, path in estate.paths.items()}
    server.must(*(write_of(path, {"uid": estate.uid}) for path in below.values()))
    for person, (place, path) in itertools.product(people, below.items()):
        assert person.get(path) == REFUSED, place
        assert person.list(path.removesuffix("/d_1")) == REFUSED, place
        assert person.create(f"{path}-new", {"uid": estate.uid}) == REFUSED, place


def test_what_is_asked_of_the_table_says_yes_and_no_to_each_right():
    """Guards the table's own arithmetic: a `may` that is always false would agree with closed rules."""
    assert may("users/{uid}", "get", Somebody(Role.USER, owns_it=True))
    assert not may("users/{uid}", "get", Somebody(Role.ADMIN))
    assert not may("users/{uid}", "get", Somebody(Role.SUSPENDED, owns_it=True))
    assert may("models/{modelId}", "list", Somebody(Role.GUEST))
    assert not may("models/{modelId}", "list", Somebody(None))
    assert may("analytics_daily/{date}/shards/{shard}", "get", Somebody(Role.ADMIN))
    assert not may("analytics_daily/{date}/shards/{shard}", "get", Somebody(Role.MODERATOR))
