"""Batches and reads against the real database, beside its own client library as the witness."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud.firestore_v1 import transforms

from shared import store
from shared.clients import firestore_client
from shared.errors import Unavailable
from shared.firestore_channel import FirestoreChannel
from tests.store.documents import there

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, UTC)


@pytest.fixture
def one(uid):
    return store.document("test_notes", uid)


@pytest.fixture
def other(uid):
    return store.document("test_notes", uid, "parts", "other")


def put(reference, fields, **options):
    batch = store.new_batch()
    batch.set(reference, fields, **options)
    return store.commit(batch)[0]


def change(reference, changes, option=None):
    batch = store.new_batch()
    batch.update(reference, changes, option=option)
    return store.commit(batch)[0]


EVERYTHING: dict[str, Any] = {
    "none": None,
    "true": True,
    "integer": -(2**63),
    "float": 0.1,
    "text": "ünï\u0000 \U0001f600",
    "bytes": b"\x00\xff",
    "time": NOW,
    "list": [1, "a", None, {"b": []}],
    "map": {"empty": {}, "with.dot": 1, "`tick`": {"deep": [b""]}},
    "empty list": [],
}


def test_what_was_written_is_read_and_the_library_sees_the_same(one):
    put(one, {**EVERYTHING, "reference": one})
    found = store.read(one)
    assert found is not None
    assert found.fields == {**EVERYTHING, "reference": one}
    witness = there(one).get()
    assert {**witness.to_dict(), "reference": None} == {**EVERYTHING, "reference": None}
    assert witness.get("reference").path == one.path
    assert (found.id, found.reference.path) == (witness.id, one.path)
    assert (found.create_time, found.update_time) == (witness.create_time, witness.update_time)


def test_what_the_library_wrote_is_read(one):
    there(one).set(EVERYTHING)
    found = store.read(one)
    assert found is not None
    assert found.to_dict() == EVERYTHING


def test_what_is_not_there_is_none(one):
    assert store.read(one) is None


def test_only_what_is_asked_for_is_read(one):
    put(one, {"a": 1, "b": {"c": 2, "d": 3}, "e": 4})
    found = store.read(one, fields=["a", "b.c"])
    assert found is not None
    assert found.fields == {"a": 1, "b": {"c": 2}}


def test_documents_come_in_the_order_they_were_asked_for_also_twice(one, other):
    put(one, {"n": 1})
    put(other, {"n": 2})
    missing = store.document("test_notes", f"{one.id}-missing")
    found = store.start_reading([other, missing, one, other]).result()
    assert [each and each.fields["n"] for each in found] == [2, None, 1, 2]


# --- transforms ------------------------------------------------------------------------------------------------------


def test_every_transform_does_to_a_field_what_the_librarys_does(one, other):
    before = {
        "sum": 5,
        "low": 5,
        "high": 5,
        "more": [1, 2],
        "less": [1, 2, 1],
        "map": {"sum": 1.5, "kept": 1},
        "gone": 1,
    }
    changes = {
        "sum": store.Increment(2),
        "new": store.Increment(3),
        "low": store.Minimum(4),
        "high": store.Maximum(6),
        "more": store.ArrayUnion([2, 3]),
        "less": store.ArrayRemove([1]),
        "map.sum": store.Increment(1),
        "gone": store.DELETE_FIELD,
        "plain": "text",
    }
    theirs = {
        "sum": transforms.Increment(2),
        "new": transforms.Increment(3),
        "low": transforms.Minimum(4),
        "high": transforms.Maximum(6),
        "more": transforms.ArrayUnion([2, 3]),
        "less": transforms.ArrayRemove([1]),
        "map.sum": transforms.Increment(1),
        "gone": transforms.DELETE_FIELD,
        "plain": "text",
    }
    put(one, before)
    put(other, before)
    result = change(one, changes)
    there(other).update(theirs)
    found = store.read(one)
    assert found is not None
    assert found.fields == there(other).get().to_dict()
    assert found.fields == {
        "sum": 7,
        "new": 3,
        "low": 4,
        "high": 6,
        "more": [1, 2, 3],
        "less": [2],
        "map": {"sum": 2.5, "kept": 1},
        "plain": "text",
    }
    # In the order of the paths: high, less, low, map.sum, more, new, sum.
    assert result.transform_results == (6, None, 4, 2.5, None, 3, 7)
    assert result.update_time == found.update_time


def test_the_servers_time_is_the_servers(one):
    result = put(one, {"at": store.SERVER_TIMESTAMP, "deep": {"at": store.SERVER_TIMESTAMP}})
    found = store.read(one)
    assert found is not None
    assert found.fields["at"] == found.fields["deep"]["at"] == result.transform_results[0]
    assert abs(found.fields["at"] - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_merge_changes_only_what_it_names_to_any_depth(one):
    put(one, {"a": {"b": 1, "c": 2}, "d": 3, "gone": 1}, merge=True)
    put(one, {"a": {"b": 10, "n": store.Increment(1)}, "gone": store.DELETE_FIELD}, merge=True)
    assert there(one).get().to_dict() == {"a": {"b": 10, "c": 2, "n": 1}, "d": 3}


def test_a_replacement_leaves_nothing_of_what_was(one):
    put(one, {"a": 1})
    put(one, {"b": store.Increment(2)})
    assert there(one).get().to_dict() == {"b": 2}


def test_a_map_in_a_change_replaces_the_map_and_a_path_changes_within_it(one):
    put(one, {"a": {"b": 1, "c": 2}, "x": {"y": 1, "z": 2}})
    change(one, {"a": {"b": 10}, "x.y": 10, "`1`.`odd name`": True})
    assert there(one).get().to_dict() == {"a": {"b": 10}, "x": {"y": 10, "z": 2}, "1": {"odd name": True}}


# --- preconditions, errors -------------------------------------------------------------------------------------------


def test_a_document_is_created_once(one, other):
    def batch():
        made = store.new_batch()
        made.set(other, {"n": 1})
        made.create(one, {"n": 1})
        return made

    store.commit(batch())
    there(other).delete()
    with pytest.raises(store.AlreadyExists):
        store.commit(batch())
    assert store.read(other) is None, "a batch that is refused does nothing"


def test_what_is_not_there_cannot_be_updated(one):
    with pytest.raises(store.StaleWrite):
        change(one, {"a": 1})


def test_a_change_of_something_older_is_refused(one):
    first = put(one, {"a": 1})
    second = change(one, {"a": 2}, store.LastUpdateOption(first.update_time))
    with pytest.raises(store.StaleWrite):
        change(one, {"a": 3}, store.LastUpdateOption(first.update_time))
    with pytest.raises(store.StaleWrite):
        change(one, {"a": 3}, firestore_client().write_option(last_update_time=first.update_time))
    found = store.read(one)
    assert found is not None
    assert found.update_time == second.update_time
    change(one, {"a": 3}, store.LastUpdateOption(found.update_time))


def test_what_changed_meanwhile_is_not_deleted(one):
    first = put(one, {"a": 1})
    put(one, {"a": 2})
    batch = store.new_batch()
    batch.delete(one, option=store.LastUpdateOption(first.update_time))
    with pytest.raises(store.StaleWrite):
        store.commit(batch)
    batch = store.new_batch()
    batch.delete(one)
    batch.delete(store.document("test_notes", f"{one.id}-missing"))
    store.commit(batch)
    assert store.read(one) is None


def test_what_firestore_never_takes_is_refused_by_name(one):
    with pytest.raises(store.WriteRefused):
        put(one, {"a": "x" * 1_100_000})


def test_what_cannot_be_stored_leaves_the_batch_as_it_was(one):
    batch = store.new_batch()
    with pytest.raises(TypeError):
        batch.create(one, {"a": object()})
    assert len(batch) == 0
    batch.create(one, {"a": 1})
    assert len(store.commit(batch)) == 1


def test_an_empty_batch_does_nothing(uid):
    assert store.commit(store.new_batch()) == []


# --- several at once -------------------------------------------------------------------------------------------------


def test_a_commit_and_a_read_are_under_way_together(one, other):
    put(other, {"n": 1})
    batch = store.new_batch()
    batch.create(one, {"n": store.Increment(1)})
    committing = store.start_committing(batch)
    reading = store.start_reading([other])
    [found] = reading.result()
    assert found is not None
    assert found.fields == {"n": 1}
    assert committing.result()[0].transform_results == (1,)


def test_a_commit_that_nobody_waits_for_happens_all_the_same(one):
    batch = store.new_batch()
    batch.create(one, {"n": 1})
    committing = store.start_committing(batch)
    for _ in range(100):
        if store.read(one) is not None:
            break
        time.sleep(0.02)
    assert there(one).get().exists
    assert len(committing.result()) == 1


def test_a_commit_that_was_begun_is_refused_like_any_other(one):
    put(one, {"n": 1})
    batch = store.new_batch()
    batch.create(one, {"n": 1})
    committing = store.start_committing(batch)
    with pytest.raises(store.AlreadyExists):
        committing.result()


def test_many_threads_add_to_one_document_and_nothing_is_lost(one):
    put(one, {"n": 0})
    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(lambda _: change(one, {"n": store.Increment(1)}), range(100)))
    found = store.read(one)
    assert found is not None
    assert found.fields["n"] == 100


def test_many_reads_at_once_are_each_answered_with_their_own(uid):
    references = [store.document("test_notes", f"{uid}-{n}") for n in range(30)]
    for n, reference in enumerate(references):
        put(reference, {"n": n})
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = list(pool.map(store.read, references * 5))
    assert [each and each.fields["n"] for each in found] == list(range(30)) * 5


def test_without_the_database_it_is_said_so_soon(one, monkeypatch):
    from shared import clients

    channel = FirestoreChannel("127.0.0.1:9")
    monkeypatch.setitem(clients._made, "firestore_channel", channel)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        store.read(one, patience_s=1)
    assert time.monotonic() - began < 5
    channel.close()
