"""What goes over the wire is what the client library would send, byte for byte, and is understood as by the library."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1 import _helpers, bson, transforms, types
from google.cloud.firestore_v1.field_path import FieldPath
from google.cloud.firestore_v1.vector import Vector
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given
from hypothesis import strategies as st
from proto import datetime_helpers as proto_times  # type: ignore[import-untyped]  # it ships no types

from shared import firestore_wire as wire

DATABASE = "projects/demo-craftpilot/databases/(default)"
PATH = f"{DATABASE}/documents/things/one"
LIBRARY = {
    "Timestamp": Timestamp,
    "Value": types.Value.pb(),
    "ArrayValue": types.ArrayValue.pb(),
    "MapValue": types.MapValue.pb(),
    "Document": types.Document.pb(),
    "DocumentMask": types.DocumentMask.pb(),
    "Precondition": types.Precondition.pb(),
    "FieldTransform": types.DocumentTransform.FieldTransform.pb(),
    "Write": types.Write.pb(),
    "WriteResult": types.WriteResult.pb(),
    "CommitRequest": types.CommitRequest.pb(),
    "CommitResponse": types.CommitResponse.pb(),
    "BatchGetDocumentsRequest": types.BatchGetDocumentsRequest.pb(),
    "BatchGetDocumentsResponse": types.BatchGetDocumentsResponse.pb(),
}


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


# --- what tests write ------------------------------------------------------------------------------------------------

zones = st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=30))])
# Beyond these years the library's own arithmetic, which goes through floats, is off by microseconds.
moments = st.integers(0, 8_000_000_000_000_000).flatmap(
    lambda us: zones.map((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).astimezone)
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    moments,
    st.sampled_from([Colour.RED, Level.LOW, b"", "", wire.Reference(DATABASE, "users", "ada")]),
)
names = st.one_of(st.sampled_from(["a", "b", "c_1", "a.b", "`", "\\", "ä", "1"]), st.text(min_size=1, max_size=4))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ),
    max_leaves=8,
)
numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats())
some_values = st.lists(values, min_size=1, max_size=3)
both_transforms = st.one_of(
    st.just((wire.SERVER_TIMESTAMP, transforms.SERVER_TIMESTAMP)),
    numbers.map(lambda number: (wire.Increment(number), transforms.Increment(number))),
    numbers.map(lambda number: (wire.Minimum(number), transforms.Minimum(number))),
    numbers.map(lambda number: (wire.Maximum(number), transforms.Maximum(number))),
    some_values.map(lambda items: (wire.ArrayUnion(items), transforms.ArrayUnion(items))),
    some_values.map(lambda items: (wire.ArrayRemove(items), transforms.ArrayRemove(items))),
)
deletions = st.just((wire.DELETE_FIELD, transforms.DELETE_FIELD))


def documents(special: st.SearchStrategy[Any], keys: st.SearchStrategy[str] = names) -> st.SearchStrategy[Any]:
    """Pairs of the same fields, with our transforms and with the library's."""
    leaves = st.one_of(values.map(lambda value: (value, value)), special)
    trees = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6)
    return st.dictionaries(keys, trees, max_size=4).map(lambda tree: (side(tree, 0), side(tree, 1)))


def side(tree: Any, which: int) -> Any:
    if isinstance(tree, dict):
        return {name: side(value, which) for name, value in tree.items()}
    return tree[which]


def sent(put, *arguments: Any) -> bytes | type[Exception]:
    """What our encoding sends, or that it refuses."""
    write = wire.MESSAGES["Write"]()
    try:
        put(write, PATH, *arguments)
    except (ValueError, TypeError) as refusal:
        return kind_of(refusal)
    return write.SerializeToString(deterministic=True)


def sent_by_library(make, *arguments: Any) -> bytes | type[Exception]:
    try:
        [write] = make(PATH, *arguments)
    except (ValueError, TypeError) as refusal:
        return kind_of(refusal)
    return write._pb.SerializeToString(deterministic=True)


def updated_by_library(fields: dict[str, Any]) -> bytes | type[Exception]:
    """What the library sends for a change. Where one path leads into another it stumbles rather than refuses."""
    return ValueError if one_leads_into_another(fields) else sent_by_library(_helpers.pbs_for_update, fields, None)


def one_leads_into_another(fields: dict[str, Any]) -> bool:
    paths = []
    for name in fields:
        with suppress(ValueError):
            paths.append(FieldPath.from_api_repr(name).parts)
    return any(path != other and other[: len(path)] == path for path in paths for other in paths)


def kind_of(refusal: Exception) -> type[Exception]:
    return TypeError if isinstance(refusal, TypeError) else ValueError


# --- writes ----------------------------------------------------------------------------------------------------------


def test_every_field_is_declared_as_firestore_declares_it():
    for name, theirs in LIBRARY.items():
        for field in wire.MESSAGES[name].DESCRIPTOR.fields:
            found = theirs.DESCRIPTOR.fields_by_name[field.name]
            kind = field.TYPE_INT32 if found.type == found.TYPE_ENUM else found.type
            assert (field.number, field.type, field.is_repeated) == (found.number, kind, found.is_repeated)
            oneof = found.containing_oneof and found.containing_oneof.name
            assert (field.containing_oneof and field.containing_oneof.name) == oneof


@given(documents(both_transforms))
def test_a_creation_is_what_the_library_sends(fields):
    assert sent(wire.put_creation, fields[0]) == sent_by_library(_helpers.pbs_for_create, fields[1])


@given(documents(both_transforms))
def test_a_replacement_is_what_the_library_sends(fields):
    assert sent(wire.put_replacement, fields[0]) == sent_by_library(_helpers.pbs_for_set_no_merge, fields[1])


@given(documents(st.one_of(both_transforms, deletions)))
def test_a_merge_is_what_the_library_sends(fields):
    merge_all = True
    assert sent(wire.put_merge, fields[0]) == sent_by_library(_helpers.pbs_for_set_with_merge, fields[1], merge_all)


paths = st.one_of(
    st.lists(st.sampled_from(["a", "b", "c_1", "`1`", "`x.y`"]), min_size=1, max_size=3).map(".".join),
    st.text(max_size=6),
)


@given(documents(st.one_of(both_transforms, deletions), paths))
def test_an_update_is_what_the_library_sends(fields):
    assert sent(wire.put_update, fields[0], None) == updated_by_library(fields[1])


@given(documents(st.one_of(both_transforms, deletions), paths))
def test_the_librarys_own_transforms_serve_as_well(fields):
    assert sent(wire.put_update, fields[1], None) == updated_by_library(fields[1])


@given(moments)
def test_a_precondition_is_what_the_library_sends(moment):
    ours, theirs = wire.LastUpdateOption(moment), firestore.LastUpdateOption(moment)
    expected = sent_by_library(_helpers.pbs_for_update, {"a": 1}, theirs)
    assert sent(wire.put_update, {"a": 1}, ours) == sent(wire.put_update, {"a": 1}, theirs) == expected


@given(moments, st.integers(0, 999_999_999))
def test_a_precondition_keeps_the_nanoseconds_that_a_document_had(moment, nanos):
    stamp = Timestamp(seconds=int(moment.timestamp()), nanos=nanos)
    read = wire.time_of(wire.MESSAGES["Timestamp"].FromString(stamp.SerializeToString()))
    theirs = firestore.LastUpdateOption(proto_times.DatetimeWithNanoseconds.from_timestamp_pb(stamp))
    expected = sent_by_library(_helpers.pbs_for_update, {"a": 1}, theirs)
    assert sent(wire.put_update, {"a": 1}, wire.LastUpdateOption(read)) == expected
    assert sent(wire.put_update, {"a": 1}, wire.LastUpdateOption(stamp)) == expected


def test_a_deletion_is_what_the_library_sends():
    option = firestore.LastUpdateOption(datetime(2026, 3, 1, tzinfo=UTC))
    for condition in (None, option):
        theirs = _helpers.pb_for_delete(PATH, condition)._pb.SerializeToString(deterministic=True)
        assert sent(wire.put_deletion, condition) == theirs


def test_deletions_of_fields_belong_to_changes():
    for put in (wire.put_creation, wire.put_replacement):
        with pytest.raises(ValueError, match="DELETE_FIELD"):
            put(wire.MESSAGES["Write"](), PATH, {"a": wire.DELETE_FIELD})
    with pytest.raises(ValueError, match="within a map"):
        wire.put_update(wire.MESSAGES["Write"](), PATH, {"a": {"b": wire.DELETE_FIELD}}, None)


def test_two_changes_of_the_same_place_are_refused():
    with pytest.raises(ValueError, match="Conflicting"):
        wire.put_update(wire.MESSAGES["Write"](), PATH, {"a": 1, "a.b": 2}, None)


@pytest.mark.parametrize(
    "value", [object(), 2**63, "\ud800", [wire.Increment(1)], {"a": [wire.SERVER_TIMESTAMP]}, {1: "a"}, {"": 1}]
)
def test_what_cannot_be_stored_is_refused_when_it_is_added(value):
    with pytest.raises((TypeError, ValueError)):
        wire.put_creation(wire.MESSAGES["Write"](), PATH, {"a": value})


def test_times_far_away_are_exact():
    """The library counts microseconds in floats: it would store these a little off."""
    for moment in (datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC), datetime(1, 1, 1, 0, 0, 0, 1, UTC)):
        target = wire.MESSAGES["Value"]()
        wire.put_value(target, moment)
        assert wire.value_of(target) == moment


def test_a_time_without_a_zone_is_utc():
    target = wire.MESSAGES["Value"]()
    wire.put_value(target, datetime(2026, 3, 1, 12, tzinfo=UTC).replace(tzinfo=None))
    assert wire.value_of(target) == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("fields", [None, ["b", "a", "c.d"], []])
def test_a_read_is_asked_for_as_the_library_asks(fields):
    client = firestore.Client(project="demo-craftpilot", credentials=AnonymousCredentials())
    asked, _ = client.document("things/one")._prep_batch_get(fields)
    theirs = types.BatchGetDocumentsRequest(asked)._pb.SerializeToString(deterministic=True)
    assert wire.read_request(DATABASE, [PATH], fields).SerializeToString(deterministic=True) == theirs


# --- reads -----------------------------------------------------------------------------------------------------------


def understood(fields: dict[str, Any]) -> tuple[Any, Any]:
    """The fields of a stored document as we and as the library understand them."""
    stored = types.Document(fields=_helpers.encode_dict(fields))._pb
    ours = wire.MESSAGES["Document"].FromString(stored.SerializeToString())
    client = firestore.Client(project="demo-craftpilot", credentials=AnonymousCredentials())
    return wire.fields_of(ours.fields), _helpers.decode_dict(stored.fields, client)


def alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return type(theirs) is dict and ours.keys() == theirs.keys() and all(alike(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    if isinstance(ours, wire.Reference):
        return ours == theirs and ours.path == theirs.path and ours.id == theirs.id
    if isinstance(ours, datetime):
        return ours == theirs and ours.tzinfo is UTC
    return type(ours) is type(theirs) and (ours == theirs or ours != ours)  # noqa: PLR0124  # not a number


@given(st.dictionaries(names, values, max_size=4))
def test_a_document_is_understood_as_by_the_library(fields):
    assert alike(*understood(fields))


@pytest.mark.parametrize(
    "value",
    [
        firestore.GeoPoint(1.5, -2.5),
        Vector([1.0, 2.0]),
        bson.BSONObjectId("507f191e810c19729de860ea"),
        bson.BSONInt32(7),
        {"__type__": "mine"},
        {"__name__": 1},
        {"__oid__": "not one"},
    ],
)
def test_what_only_the_library_knows_is_asked_of_the_library(value):
    ours, theirs = understood({"a": value, "list": [value]})
    assert ours == theirs
    assert sent(wire.put_creation, {"a": value}) == sent_by_library(_helpers.pbs_for_create, {"a": value})


@given(st.integers(0, 8_000_000_000), st.integers(0, 999_999_999))
def test_a_time_is_understood_as_by_the_library(seconds, nanos):
    stamp = Timestamp(seconds=seconds, nanos=nanos)
    ours = wire.time_of(wire.MESSAGES["Timestamp"].FromString(stamp.SerializeToString()))
    theirs = DatetimeWithNanoseconds.from_timestamp_pb(stamp)
    assert ours == theirs
    assert getattr(ours, "nanosecond", ours.microsecond * 1000) == theirs.nanosecond


# --- references ------------------------------------------------------------------------------------------------------


def test_a_reference_is_the_librarys_of_the_same_place():
    client = firestore.Client(project="demo-craftpilot", credentials=AnonymousCredentials())
    ours, theirs = wire.Reference(DATABASE, "users", "ada", "things", "1"), client.document("users/ada/things/1")
    assert (ours.path, ours.id, ours._document_path) == (theirs.path, theirs.id, theirs._document_path)
    assert ours == theirs
    assert ours == wire.reference_of(theirs._document_path)
    assert {ours: 1}[wire.reference_of(theirs._document_path)] == 1
    assert ours != wire.Reference(DATABASE, "users", "ada")


@pytest.mark.parametrize("segments", [(), ("users",), ("users", ""), ("users", "ada/things/1"), ("users", "a", "b")])
def test_what_names_no_document_is_no_reference(segments):
    with pytest.raises(ValueError, match="Not the path of a document"):
        wire.Reference(DATABASE, *segments)
