"""Holds firestore.indexes.json against every query of the code: the emulator answers queries that have no index.

Each function that queries is called once, with the database replaced by a recorder; what it would have asked is
compared with the indexes Firestore makes by itself and those of the file
(https://firebase.google.com/docs/firestore/query-data/index-overview).
"""

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.types import AggregationResult, RunAggregationQueryResponse, StructuredQuery, Value

from functions.access import domain as access_domain
from functions.access import repository as access
from functions.activity import domain as activity_domain
from functions.activity import repository as activity
from functions.chat import domain as chat_domain
from functions.chat import repository as chat
from functions.chat import schemas as chat_schemas
from functions.chat.folders import repository as folders
from functions.chat.removal import repository as removal
from functions.chat.search import repository as search
from functions.chat.sharing import repository as sharing
from functions.chat.transfer import repository as transfer
from functions.chat.uploads import domain as uploads_domain
from functions.chat.uploads import repository as uploads
from functions.credits import domain as credits_domain
from functions.credits import repository as credits
from functions.models import domain as models_domain
from functions.models import repository as models
from functions.openai_api import domain as openai_api_domain
from functions.openai_api import repository as openai_api
from functions.privacy import domain as privacy_domain
from functions.privacy import repository as privacy
from functions.privacy.inventory import DOCUMENTS
from functions.users import repository as users
from shared import clients, events, store
from shared.holdings import Documents
from shared.identity.accounts import Status
from shared.identity.permissions import Role

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "firestore.indexes.json"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
JOB = privacy_domain.Job(
    id="job_1",
    kind=privacy_domain.Kind.EXPORT,
    uid="u",
    state=privacy_domain.State.QUEUED,
    created_at=NOW,
    step="",
    done=0,
    total=0,
    failures=0,
    passes=0,
    cut_off_at=None,
    lease_until=None,
    version=None,
)

FOUND_BY_FIELD = tuple(one for one in DOCUMENTS if not one.by_path)
"""Collections of all users, in which everything of one user is found for the archive, the erasure and the proof."""


def each_by_field(ask: Callable[[Documents], Any]) -> None:
    for holding in FOUND_BY_FIELD:
        ask(holding)


def in_a_transaction(ask: Callable[[Any], Any]) -> None:
    transaction = clients.firestore_client().transaction()
    vars(transaction)["_id"] = b"transaction"
    ask(transaction)


QUERIES = {
    "functions/access/repository.py:_query": lambda: [
        *(access._query(name, uid="u", id="i") for name in ("api_keys", "sessions")),
        *(access._query(name, uid="u", revoked_at=None) for name in ("api_keys", "sessions")),
    ],
    "functions/activity/repository.py:list_entries": lambda: activity.list_entries("u", 10, None),
    "functions/activity/repository.py:first_links": lambda: activity.first_links("u", 10),
    "functions/activity/repository.py:all_links": lambda: list(activity.all_links("u")),
    "functions/privacy/repository.py:list_waiting_jobs": lambda: privacy.list_waiting_jobs(NOW, 10),
    "functions/privacy/repository.py:list_past_exports": lambda: privacy.list_past_exports(NOW, 10),
    "functions/privacy/repository.py:list_other_jobs": lambda: privacy.list_other_jobs(JOB),
    "functions/privacy/repository.py:next_references": lambda: each_by_field(
        lambda holding: privacy.next_references(holding, "u")
    ),
    "functions/privacy/repository.py:count_documents": lambda: each_by_field(
        lambda holding: privacy.count_documents(holding, "u")
    ),
    "functions/privacy/repository.py:_queries": lambda: each_by_field(
        lambda holding: [query.get() for query in privacy._queries(holding, "u", frozenset())]
    ),
    "functions/privacy/repository.py:walk": lambda: each_by_field(lambda holding: list(privacy.walk(holding, "u"))),
    "functions/privacy/repository.py:_pages": lambda: each_by_field(lambda holding: list(privacy.walk(holding, "u"))),
    "functions/users/repository.py:find_by_username": lambda: users.find_by_username("ada"),
    "functions/users/repository.py:list_users": lambda: [
        users.list_users(role=role, status=status, limit=10, cursor=None)
        for role in (None, Role.ADMIN)
        for status in (None, Status.SUSPENDED)
    ],
    "functions/users/repository.py:is_last_admin_in": lambda: in_a_transaction(
        lambda transaction: users.is_last_admin_in(transaction, "u")
    ),
    "functions/chat/repository.py:list_conversations": lambda: [
        chat.list_conversations("u", 10, None, **chosen)
        for chosen in ({}, {"folder_id": "f"}, {"tag": "t"}, {"pinned": True})
    ],
    "functions/chat/repository.py:_written_before": lambda: chat._written_before("u", "c", NOW, 10),
    "functions/chat/repository.py:list_messages": lambda: chat.list_messages("u", "c", 10, None),
    "functions/chat/repository.py:has_running": lambda: chat.has_running("u"),
    "functions/chat/repository.py:list_running": lambda: chat.list_running(NOW, 10),
    "functions/chat/repository.py:list_unsettled": lambda: chat.list_unsettled(NOW, 10),
    "functions/models/repository.py:find_by_other_name": lambda: models.find_by_other_name("acme/one"),
    "functions/models/repository.py:list_entries": models.list_entries,
    "functions/models/repository.py:save": lambda: models.save([], NOW),
    "functions/openai_api/repository.py:list_embedding_models": openai_api.list_embedding_models,
    "functions/openai_api/repository.py:save_embedding_models": lambda: openai_api.save_embedding_models([], NOW),
    "functions/chat/sharing/repository.py:_of": lambda: [
        sharing.delete_shares(None, "u", "c"),  # type: ignore[arg-type]  # nothing is found, so nothing is deleted
        sharing.delete_pieces("u", "c"),  # type: ignore[func-returns-value]  # asking is all that is looked at
    ],
    "functions/chat/transfer/repository.py:walk_messages": lambda: list(transfer.walk_messages("u", "c")),
    "functions/chat/transfer/repository.py:_walk_parents": lambda: transfer.branch_ids("u", "c", "m"),
    "functions/chat/uploads/repository.py:count_open": lambda: uploads.count_open("u", NOW),
    "functions/chat/uploads/repository.py:last_link_ends_at": lambda: uploads.last_link_ends_at("u"),
    "functions/chat/uploads/repository.py:list_of_conversation": lambda: uploads.list_of_conversation("u", "c", 10),
    "functions/chat/search/repository.py:list_candidates": lambda: search.list_candidates("u", "word", 10, None),
    "functions/chat/search/repository.py:list_messages": lambda: search.list_messages("u", "c", 10, None),
    "functions/chat/search/repository.py:remove_some_of": lambda: search.remove_some_of("u", "c"),
    "functions/chat/search/repository.py:remove_of_messages": lambda: search.remove_of_messages("u", ["m1", "m2"]),
    "functions/chat/folders/repository.py:take_out_some": lambda: folders.take_out_some("u", "f"),
    "functions/chat/removal/repository.py:list_expired": lambda: removal.list_expired(NOW, 10),
    "functions/chat/removal/repository.py:list_marked": lambda: removal.list_marked(NOW, 10),
    "functions/chat/removal/repository.py:delete_some_messages": lambda: removal.delete_some_messages("u", "c"),
    "functions/chat/removal/repository.py:read_parents": lambda: removal.read_parents("u", "c"),
    "functions/chat/removal/repository.py:find_running": lambda: removal.find_running("u", "c"),
    "functions/credits/repository.py:list_grants": lambda: credits.list_grants("u"),
    "functions/credits/repository.py:list_holds": lambda: credits.list_holds("u"),
    "functions/credits/repository.py:list_expired_holds": lambda: credits.list_expired_holds(NOW, 10),
    "functions/credits/repository.py:list_expiring_accounts": lambda: credits.list_expiring_accounts(NOW, 10),
    "functions/credits/repository.py:list_entries": lambda: credits.list_entries("u", 10, None),
    "functions/credits/repository.py:_pages": lambda: list(credits._pages("u", NOW)),
}
"""Every function of the product that queries Firestore, with a call of it. A new one is added here."""


def usage_of_the_user() -> None:
    """Apps list their own usage, the latest first."""
    records = clients.firestore_client().collection("usage_records")
    mine = records.where(filter=FieldFilter("uid", "==", "u"))
    mine.order_by("at", direction=firestore.Query.DESCENDING).get()


CLIENT_QUERIES = {"an app: its user's usage": usage_of_the_user}
"""What the security rules let apps ask and no function does."""

ALL_QUERIES = QUERIES | CLIENT_QUERIES

STORED_FIELDS = {
    "conversations": set(chat_schemas.Conversation.model_fields),
    "messages": set(chat_schemas.Message.model_fields) | {"reasoning_details"},
    "generations": {field.name for field in fields(chat_domain.Generation)},
    "attachments": {field.name for field in fields(uploads_domain.Upload)},
    "shares": {"uid", "conversation_id", "revisions", "created_at", "updated_at"},
    "share_pages": {"uid", "conversation_id", "snapshot", "content", "stored_at"},
    "search_entries": {"conversation_id", "message_id", "role", "at", "terms", "words"},
    "removals": {"at", "reason"},
    "grants": {field.name for field in fields(credits_domain.Grant)},
    "holds": {field.name for field in fields(credits_domain.Hold)},
    "entries": {field.name for kind in (activity_domain.Entry, credits_domain.Entry) for field in fields(kind)},
    "events": set(events.Event.__dataclass_fields__) | {"expires_at"},
    "processed": {"event_type", "at", "expires_at"},
    "api_keys": {field.name for field in fields(access_domain.Key)} | {"forgotten_at"},
    "sessions": {field.name for field in fields(access_domain.Session)},
    "key_usage": {"uid", "month", "spent_micro", "updated_at", "expires_at"},
    "idempotency": {
        "uid",
        "operation",
        "fingerprint",
        "state",
        "holder",
        "lease_until",
        "salt",
        "answer",
        "expires_at",
    },
    "models": {field.name for field in fields(models_domain.Offer)} | {"other_names"},
    "embedding_models": {field.name for field in fields(openai_api_domain.EmbeddingModel)},
    "model_policies": {field.name for kind in (models_domain.Policy, models_domain.Defaults) for field in fields(kind)},
    "users": {"role", "status", "created_at", "username", "preferences", "bio"},
}


_OPERATORS = StructuredQuery.FieldFilter.Operator
_EQUALITIES = {_OPERATORS.EQUAL, _OPERATORS.IN}
_OF_LISTS = {_OPERATORS.ARRAY_CONTAINS, _OPERATORS.ARRAY_CONTAINS_ANY}


@dataclass(frozen=True)
class Asked:
    """What of a query decides about its index."""

    collection: str
    scope: str
    equal: frozenset[str]
    ordered: tuple[tuple[str, str], ...]
    """Field and direction, in order; a range without an order of its own counts as ascending."""
    contains: frozenset[str] = frozenset()
    """Lists of which one element is asked for."""

    @classmethod
    def by(cls, query: StructuredQuery) -> Self:
        (source,) = query.from_
        filters = [filter_ for filter_ in _flat(query.where) if filter_.field.field_path != "__name__"]
        equal = frozenset(one.field.field_path for one in filters if one.op in _EQUALITIES)
        contains = frozenset(one.field.field_path for one in filters if one.op in _OF_LISTS)
        ranges = [one.field.field_path for one in filters if one.op not in _EQUALITIES | _OF_LISTS]
        orders = [(order.field.field_path, order.direction.name) for order in query.order_by]
        ordered = orders or [(path, "ASCENDING") for path in dict.fromkeys(ranges)]
        assert set(ranges) <= {path for path, _ in ordered}, "several ranges: teach this test their index"
        if ordered and ordered[-1][0] == "__name__" and (len(ordered) == 1 or ordered[-2][1] == ordered[-1][1]):
            ordered = ordered[:-1]  # every index ends with the name, in the direction of the field before it
        scope = "COLLECTION_GROUP" if source.all_descendants else "COLLECTION"
        return cls(source.collection_id, scope, equal, tuple(ordered), contains)


def _flat(where: StructuredQuery.Filter) -> list[StructuredQuery.FieldFilter]:
    kind = StructuredQuery.Filter.pb(where).WhichOneof("filter_type")
    if kind is None:
        return []
    if kind == "composite_filter":
        assert where.composite_filter.op == StructuredQuery.CompositeFilter.Operator.AND, (
            "OR: teach this test its index"
        )
        return [one for part in where.composite_filter.filters for one in _flat(part)]
    if kind == "unary_filter" and where.unary_filter.op == StructuredQuery.UnaryFilter.Operator.IS_NULL:
        equal = StructuredQuery.FieldFilter.Operator.EQUAL
        return [StructuredQuery.FieldFilter(field=where.unary_filter.field, op=equal)]
    assert kind == "field_filter", f"{kind}: teach this test its index"
    return [where.field_filter]


@dataclass(frozen=True)
class Composite:
    collection: str
    scope: str
    fields: tuple[tuple[str, str], ...]

    def serves(self, asked: Asked) -> bool:
        """Fields compared for equality come first, in any order and direction; then exactly the query's order."""
        if (self.collection, self.scope) != (asked.collection, asked.scope):
            return False
        compared = len(asked.equal) + len(asked.contains)
        first, rest = self.fields[:compared], self.fields[compared:]
        lists = {path for path, order in first if order == "CONTAINS"}
        return lists == asked.contains and {path for path, _ in first} - lists == asked.equal and rest == asked.ordered


class Indexes:
    """The file, together with the single-field indexes that Firestore makes when the file does not forbid them."""

    def __init__(self, file: Path) -> None:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        self.composites = [
            Composite(
                entry["collectionGroup"],
                entry["queryScope"],
                tuple((field["fieldPath"], field.get("order") or field["arrayConfig"]) for field in entry["fields"]),
            )
            for entry in content["indexes"]
        ]
        self.overrides = {(entry["collectionGroup"], entry["fieldPath"]): entry for entry in content["fieldOverrides"]}
        assert len(self.overrides) == len(content["fieldOverrides"]), "a field has two overrides"

    @property
    def times_to_live(self) -> set[tuple[str, str]]:
        return {place for place, entry in self.overrides.items() if entry.get("ttl")}

    def serve(self, asked: Asked) -> bool:
        if len(asked.equal) + len(asked.contains) + len(asked.ordered) > 1 and asked.ordered:
            return any(composite.serves(asked) for composite in self.composites)
        compared = [*((path, "ASCENDING") for path in asked.equal), *((path, "CONTAINS") for path in asked.contains)]
        needed = [*compared, *asked.ordered]
        return all(self._has_single_field(asked.collection, asked.scope, path, order) for path, order in needed)

    def _has_single_field(self, collection: str, scope: str, path: str, order: str) -> bool:
        override = self.overrides.get((collection, path)) or self.overrides.get((collection, "*"))
        if override is None:
            return scope == "COLLECTION"
        return any(
            index["queryScope"] == scope and order in (index.get("order"), index.get("arrayConfig"))
            for index in override["indexes"]
        )


INDEXES = Indexes(FILE)


class Recorder:
    """Stands where the RPC client is: keeps what is asked and finds nothing."""

    def __init__(self) -> None:
        self.queries: list[StructuredQuery] = []

    def run_query(self, request: dict[str, Any], **_: Any) -> Iterator[Any]:
        self.queries.append(request["structured_query"])
        return iter(())

    def run_aggregation_query(self, request: dict[str, Any], **_: Any) -> Iterator[Any]:
        self.queries.append(request["structured_aggregation_query"].structured_query)
        result = AggregationResult(aggregate_fields={"field_1": Value(integer_value=0)})
        return iter([RunAggregationQueryResponse(result=result)])


@cache
def asked_by(name: str) -> tuple[Asked, ...]:
    """What the function asks: always the same, so it is called once, however many indexes are held against it."""
    recorder = Recorder()
    client = firestore.Client(project="demo-indexes", credentials=AnonymousCredentials())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firestore.Client, "_firestore_api", property(lambda _: recorder))
        patch.setitem(clients._made, "firestore", client)
        ALL_QUERIES[name]()
    assert recorder.queries, f"{name} asked nothing"
    return tuple(Asked.by(query) for query in recorder.queries)


QUERY_METHODS = {"where", "order_by", "collection_group", "find_nearest"}
QUERY_METHODS_IN_REPOSITORIES = QUERY_METHODS | {"stream", "select", "count", "sum", "avg", "on_snapshot"}
PAGE = "shared/pages.py:page"
"""Adds order and limit to the query of its caller; the callers are listed."""


def functions_that_query() -> set[str]:
    found = set()
    for package in ("functions", "triggers", "shared"):
        for file in sorted((ROOT / package).rglob("*.py")):
            methods = QUERY_METHODS_IN_REPOSITORIES if file.name == "repository.py" else QUERY_METHODS
            for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(function, ast.FunctionDef) and _queries(function, methods):
                    found.add(f"{file.relative_to(ROOT).as_posix()}:{function.name}")
    return found - {PAGE}


def _queries(function: ast.FunctionDef, methods: set[str]) -> bool:
    called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return any(
        (isinstance(name, ast.Attribute) and name.attr in methods) or (isinstance(name, ast.Name) and name.id == "page")
        for name in called
    )


def test_every_function_that_queries_is_listed_here():
    assert functions_that_query() == set(QUERIES)


@pytest.mark.parametrize("name", ALL_QUERIES)
def test_the_query_has_its_index(name):
    missing = [asked for asked in asked_by(name) if not INDEXES.serve(asked)]
    assert not missing, f"firestore.indexes.json has no index for {missing}"


@pytest.mark.parametrize("composite", INDEXES.composites, ids=str)
def test_the_composite_index_serves_a_query(composite):
    asked = [one for name in ALL_QUERIES for one in asked_by(name)]
    assert any(composite.serves(one) for one in asked), "an index that no query needs costs every write"


def test_a_query_without_its_index_would_be_noticed():
    across_users = Asked("generations", "COLLECTION_GROUP", frozenset({"uid"}), (("ended_at", "DESCENDING"),))
    other_direction = Asked("usage_records", "COLLECTION", frozenset({"uid"}), (("at", "ASCENDING"),))
    by_exempted_field = Asked("messages", "COLLECTION", frozenset(), (("parts", "ASCENDING"),))
    by_wildcard = Asked("events", "COLLECTION", frozenset({"subject"}), ())
    single_field_of_a_group = Asked("messages", "COLLECTION_GROUP", frozenset(), (("created_at", "ASCENDING"),))
    words_of_one_role = Asked(
        "search_entries", "COLLECTION", frozenset({"role"}), (("at", "DESCENDING"),), frozenset({"terms"})
    )
    words_without_an_order = Asked("search_entries", "COLLECTION", frozenset(), (), frozenset({"terms"}))
    for asked in (
        across_users,
        other_direction,
        by_exempted_field,
        by_wildcard,
        single_field_of_a_group,
        words_of_one_role,
        words_without_an_order,
    ):
        assert not INDEXES.serve(asked), asked


@pytest.mark.parametrize(("collection", "path"), [place for place in INDEXES.overrides if place[1] != "*"])
def test_the_field_with_an_override_is_one_that_is_stored(collection, path):
    assert path in STORED_FIELDS[collection]


def test_what_expires_is_what_carries_the_time(monkeypatch):
    event = events.Event(
        id="evt_1",
        type="credits.granted",
        version=1,
        topic="credit-events",
        uid="u",
        subject="grants/g",
        data={},
        occurred_at=NOW,
        traceparent="",
    )
    assert event.to_document()["expires_at"] > NOW

    committed: list[Any] = []
    client = firestore.Client(project="demo-indexes", credentials=AnonymousCredentials())
    monkeypatch.setitem(clients._made, "firestore", client)
    monkeypatch.setattr(store, "commit", committed.append)
    events.once("consumer", event, lambda _: None, now=NOW)
    (mark,) = committed[0].request.writes
    assert "/processed/" in mark.update.name
    assert set(mark.update.fields) == STORED_FIELDS["processed"]

    assert INDEXES.times_to_live == {
        ("events", "expires_at"),
        ("attachments", "expires_at"),
        ("processed", "expires_at"),
        ("idempotency", "expires_at"),
        ("api_keys", "forgotten_at"),
        ("sessions", "expires_at"),
        ("key_usage", "expires_at"),
    }
