"""Every collection, operation and kind of person, with the verdicts computed from one table."""

import ast
import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rules.rest import ALLOWED, REFUSED, Person, id_token

ROOT = Path(__file__).resolve().parents[2]

OPERATIONS = ("get", "list", "create", "update", "delete")
PEOPLE = ("anonymous", "stranger", "owner", "admin")

NOBODY: frozenset[str] = frozenset()
OWNER = frozenset({"owner"})
ADMIN = frozenset({"admin"})
SIGNED_IN = frozenset({"stranger", "owner", "admin"})


@dataclass(frozen=True)
class Row:
    """Who may get one document, and who may list without a filter. Nobody may write anything."""

    get: frozenset[str]
    list: frozenset[str]


TABLE: Mapping[str, Row] = {
    "users/{uid}": Row(OWNER, NOBODY),
    "users/{uid}/conversations/c_1": Row(OWNER, OWNER),
    "users/{uid}/conversations/c_1/messages/m_1": Row(OWNER, OWNER),
    "users/{uid}/generations/g_1": Row(OWNER, OWNER),
    "credit_accounts/{uid}": Row(OWNER, NOBODY),
    "credit_accounts/{uid}/grants/g_1": Row(OWNER, OWNER),
    "credit_accounts/{uid}/holds/h_1": Row(OWNER, OWNER),
    "credit_accounts/{uid}/entries/e_1": Row(OWNER, OWNER),
    "credit_accounts/{uid}/checkpoints/latest": Row(NOBODY, NOBODY),
    "usage_records/{unique}": Row(OWNER, NOBODY),  # listing needs the filter on one's own uid
    "activity/{uid}": Row(OWNER, NOBODY),
    "activity/{uid}/entries/000000000001": Row(OWNER, OWNER),
    "analytics_daily/{unique}": Row(NOBODY, NOBODY),
    "analytics_daily/{unique}/shards/0": Row(ADMIN, ADMIN),
    "models/{unique}": Row(SIGNED_IN, SIGNED_IN),
    "events/{unique}": Row(NOBODY, NOBODY),
    "processed/{unique}": Row(NOBODY, NOBODY),
    "idempotency/{unique}": Row(NOBODY, NOBODY),
    "api_keys/{unique}": Row(NOBODY, NOBODY),
    "no_rule_names_this/{unique}": Row(NOBODY, NOBODY),
}

CELLS = tuple(itertools.product(TABLE, OPERATIONS, PEOPLE))


def expected(place: str, operation: str, who: str) -> str:
    readers = {"get": TABLE[place].get, "list": TABLE[place].list}.get(operation, NOBODY)
    return ALLOWED if who in readers else REFUSED


@pytest.fixture
def people(anybody: Callable[[str | None], Person], uid: str) -> dict[str, Person]:
    tokens = {
        "anonymous": None,
        "stranger": id_token("stranger"),
        "owner": id_token(uid),
        "admin": id_token("staff", role="admin"),
    }
    return {name: anybody(token) for name, token in tokens.items()}


@pytest.fixture
def paths(server: Person, uid: str) -> dict[str, str]:
    """The place of each row in the table → a document there. What is refused is refused although it exists."""
    unique = uuid.uuid4().hex
    paths = {place: place.format(uid=uid, unique=unique) for place in TABLE}
    for path in paths.values():
        server.put(path, {"uid": uid, "seeded": True})
    return paths


def attempt(person: Person, operation: str, path: str, uid: str) -> str:
    collection, _, _ = path.rpartition("/")
    # Its own id for each attempt, and the owner's for documents that are named after their owner.
    new_id = f"{uid}-new" if path.endswith(uid) else f"new_{uuid.uuid4().hex}"
    attempts: dict[str, Callable[[], str]] = {
        "get": lambda: person.get(path),
        "list": lambda: person.list(collection),
        "create": lambda: person.create(collection, new_id, {"uid": uid}),
        "update": lambda: person.update(path, {"seeded": False}),
        "delete": lambda: person.delete(path),
    }
    return attempts[operation]()


def test_every_cell_of_the_table_has_its_verdict(people, paths, uid, capsys):
    wrong = {}
    for place, operation, who in CELLS:
        verdict = attempt(people[who], operation, paths[place], uid)
        if verdict != expected(place, operation, who):
            wrong[place, operation, who] = verdict
    assert not wrong
    allowed = sum(expected(*cell) == ALLOWED for cell in CELLS)
    with capsys.disabled():
        print(f"\n{len(CELLS)} verdicts of the security rules: {allowed} allowed, {len(CELLS) - allowed} refused")


def test_owners_cannot_make_the_documents_that_bear_their_name(people, uid):
    for collection in ("users", "credit_accounts", "activity"):
        verdict = people["owner"].create(collection, uid, {"role": "admin", "available_micro": 10**12})
        assert verdict == REFUSED, collection


def test_the_table_names_every_collection_of_the_code():
    named = {name for place in TABLE for name in place.split("/")[::2]}
    assert collections_of_the_code() - named == set()


def collections_of_the_code() -> set[str]:
    """The names that stand where a path has a collection."""
    return {
        name for package in ("functions", "shared", "triggers") for name in _collections((ROOT / package).rglob("*.py"))
    }


def _collections(files: Iterator[Path]) -> Iterator[str]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_path(node.func.attr, node):
                yield from (str(name.value) for name in node.args[::2] if isinstance(name, ast.Constant))


def _is_path(method: str, call: ast.Call) -> bool:
    """Whether the call's arguments are a path from its beginning; `document` with one argument only adds an id."""
    return method in {"collection", "collection_group"} or (method == "document" and len(call.args) > 1)
