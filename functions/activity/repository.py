"""Every Firestore path of the activity log: a chain's end is activity/{chain}, its links activity/{chain}/entries/{n}.

A chain is named by its user; once the account is erased, by a pseudonym.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from google.cloud.firestore import LastUpdateOption

from functions.activity.domain import EMPTY, Entry, Head, entry_hash
from shared import store
from shared.clients import firestore_client
from shared.pages import page
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.cloud.firestore import CollectionReference, DocumentReference, DocumentSnapshot

    from shared.store import Batch

_LINKS_PER_PAGE = 500


def _chain(chain_id: str) -> DocumentReference:
    return firestore_client().collection("activity").document(chain_id)


def _links(chain_id: str) -> CollectionReference:
    links: CollectionReference = _chain(chain_id).collection("entries")
    return links


def _link(chain_id: str, n: int) -> DocumentReference:
    return _links(chain_id).document(f"{n:012d}")


def read_head(chain_id: str) -> tuple[Head, Any]:
    """The chain's end, and the version it was read at: None when there is no chain yet."""
    with store.translated_errors():
        snapshot = _chain(chain_id).get(**READING)
    if not snapshot.exists:
        return EMPTY, None
    return Head(n=snapshot.get("n"), hash=snapshot.get("hash")), snapshot.update_time


def append(batch: Batch, chain_id: str, entry: Entry, version: Any) -> None:
    """Add the entry behind the head that was read at `version`; the batch fails if the chain has grown since."""
    digest = entry_hash(entry)
    head = {"n": entry.n, "hash": digest}
    if version is None:
        batch.create(_chain(chain_id), head)
    else:
        batch.update(_chain(chain_id), head, option=LastUpdateOption(version))
    batch.create(_link(chain_id, entry.n), {**asdict(entry), "hash": digest})


def list_entries(chain_id: str, limit: int, cursor: str | None) -> tuple[list[DocumentSnapshot[Any]], str | None]:
    """Newest first."""
    return page(_links(chain_id), "occurred_at", newest_first=True, limit=limit, cursor=cursor)


def first_links(chain_id: str, limit: int) -> list[tuple[Entry, str]]:
    """The oldest entries that are stored under this chain, each with its stored hash."""
    with store.translated_errors():
        found = _links(chain_id).order_by("n").limit(limit).get(**READING)
    return [_stored(snapshot) for snapshot in found]


def all_links(chain_id: str) -> Iterator[tuple[Entry, str]]:
    """The whole chain from its beginning, read page by page."""
    after = 0
    while True:
        query = _links(chain_id).order_by("n").start_after({"n": after}).limit(_LINKS_PER_PAGE)
        with store.translated_errors():
            found = query.get(**READING)
        for snapshot in found:
            yield _stored(snapshot)
        if len(found) < _LINKS_PER_PAGE:
            return
        after = found[-1].get("n")


def put(batch: Batch, chain_id: str, links: Iterable[tuple[Entry, str]]) -> None:
    """Store entries as they are given, each with its hash; the chain's end stays where it is."""
    for entry, digest in links:
        batch.set(_link(chain_id, entry.n), {**asdict(entry), "hash": digest})


def take_away(batch: Batch, chain_id: str, numbers: Iterable[int]) -> None:
    for n in numbers:
        batch.delete(_link(chain_id, n))


def end_chain(batch: Batch, chain_id: str, version: Any) -> None:
    """Remove the chain's end; the batch fails if the chain has grown since `version`."""
    batch.delete(_chain(chain_id), option=LastUpdateOption(version))


def _stored(snapshot: DocumentSnapshot[Any]) -> tuple[Entry, str]:
    document = snapshot.to_dict()
    assert document is not None, "queries return documents that exist"
    stored: dict[str, Any] = {each.name: document[each.name] for each in fields(Entry)}
    return Entry(**stored), document["hash"]
