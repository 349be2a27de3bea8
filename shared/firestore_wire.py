"""Firestore's messages below its client library: how documents, writes and values look on the wire.

The library wraps every value in a message of proto-plus, which costs more than all the rest of a commit and takes half
a second to import. Here are the same messages
(https://github.com/googleapis/googleapis/tree/master/google/firestore/v1) as far as they are used, in a pool of their
own, so that they never meet the library's. What is encoded is what the library's `WriteBatch` would send, and what is
decoded is what its `DocumentSnapshot` would hold; for kinds of values that this product does not store (points,
vectors, BSON) the library itself is asked. Nothing here talks to anybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, Protocol

from google.protobuf import (  # type: ignore[import-untyped]  # it ships no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

Message = Any
"""A protobuf message: its class is made at run time."""
Path = tuple[str, ...]
"""The names that lead to a field."""

# name → fields: (name, number, type, name of the oneof). `*` is repeated, `map` a map from text to Value.
# Enumerations are declared as the numbers they are on the wire.
_SCHEMA: dict[str, tuple[tuple[str, int, str, str], ...]] = {
    "Timestamp": (("seconds", 1, "int64", ""), ("nanos", 2, "int32", "")),
    "LatLng": (("latitude", 1, "double", ""), ("longitude", 2, "double", "")),
    "Value": (
        ("null_value", 11, "int32", "value_type"),
        ("boolean_value", 1, "bool", "value_type"),
        ("integer_value", 2, "int64", "value_type"),
        ("double_value", 3, "double", "value_type"),
        ("timestamp_value", 10, "Timestamp", "value_type"),
        ("string_value", 17, "string", "value_type"),
        ("bytes_value", 18, "bytes", "value_type"),
        ("reference_value", 5, "string", "value_type"),
        ("geo_point_value", 8, "LatLng", "value_type"),
        ("array_value", 9, "ArrayValue", "value_type"),
        ("map_value", 6, "MapValue", "value_type"),
    ),
    "ArrayValue": (("values", 1, "*Value", ""),),
    "MapValue": (("fields", 1, "map", ""),),
    "Document": (
        ("name", 1, "string", ""),
        ("fields", 2, "map", ""),
        ("create_time", 3, "Timestamp", ""),
        ("update_time", 4, "Timestamp", ""),
    ),
    "DocumentMask": (("field_paths", 1, "*string", ""),),
    "Precondition": (("exists", 1, "bool", "condition_type"), ("update_time", 2, "Timestamp", "condition_type")),
    "FieldTransform": (
        ("field_path", 1, "string", ""),
        ("set_to_server_value", 2, "int32", "transform_type"),
        ("increment", 3, "Value", "transform_type"),
        ("maximum", 4, "Value", "transform_type"),
        ("minimum", 5, "Value", "transform_type"),
        ("append_missing_elements", 6, "ArrayValue", "transform_type"),
        ("remove_all_from_array", 7, "ArrayValue", "transform_type"),
    ),
    "Write": (
        ("update", 1, "Document", "operation"),
        ("delete", 2, "string", "operation"),
        ("update_mask", 3, "DocumentMask", ""),
        ("update_transforms", 7, "*FieldTransform", ""),
        ("current_document", 4, "Precondition", ""),
    ),
    "WriteResult": (("update_time", 1, "Timestamp", ""), ("transform_results", 2, "*Value", "")),
    "CommitRequest": (("database", 1, "string", ""), ("writes", 2, "*Write", "")),
    "CommitResponse": (("write_results", 1, "*WriteResult", ""), ("commit_time", 2, "Timestamp", "")),
    "BatchGetDocumentsRequest": (
        ("database", 1, "string", ""),
        ("documents", 2, "*string", ""),
        ("mask", 3, "DocumentMask", ""),
    ),
    "BatchGetDocumentsResponse": (
        ("found", 1, "Document", "result"),
        ("missing", 2, "string", "result"),
        ("read_time", 4, "Timestamp", ""),
    ),
}
_PACKAGE = "craftpilot.firestore"
_REQUEST_TIME = 1
"""google.firestore.v1.DocumentTransform.FieldTransform.ServerValue.REQUEST_TIME"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_PER_DAY = 86_400
_SIMPLE_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_SIMPLE_PATH = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*(?:\.[_a-zA-Z][_a-zA-Z0-9]*)*")


def _message_classes() -> dict[str, Any]:
    proto = descriptor_pb2.FieldDescriptorProto
    scalars = {name: getattr(proto, f"TYPE_{name.upper()}") for name in ("int32", "int64", "double", "bool")}
    scalars |= {"string": proto.TYPE_STRING, "bytes": proto.TYPE_BYTES}
    file = descriptor_pb2.FileDescriptorProto(name="craftpilot/firestore.proto", package=_PACKAGE, syntax="proto3")

    def add_field(message: Message, name: str, number: int, kind: str, *, repeated: bool = False) -> Message:
        label = proto.LABEL_REPEATED if repeated else proto.LABEL_OPTIONAL
        field = message.field.add(name=name, number=number, label=label)
        if kind in scalars:
            field.type = scalars[kind]
        else:
            field.type, field.type_name = proto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
        return field

    for message_name, fields in _SCHEMA.items():
        message = file.message_type.add(name=message_name)
        oneofs: list[str] = []
        for name, number, kind, oneof in fields:
            if kind == "map":
                entry = message.nested_type.add(name="FieldsEntry")
                entry.options.map_entry = True
                add_field(entry, "key", 1, "string")
                add_field(entry, "value", 2, "Value")
                add_field(message, name, number, f"{message_name}.FieldsEntry", repeated=True)
                continue
            field = add_field(message, name, number, kind.removeprefix("*"), repeated=kind.startswith("*"))
            if oneof:
                if oneof not in oneofs:
                    oneofs.append(oneof)
                    message.oneof_decl.add(name=oneof)
                field.oneof_index = oneofs.index(oneof)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _SCHEMA}


MESSAGES = _message_classes()
_VALUE, _MAP_VALUE = MESSAGES["Value"], MESSAGES["MapValue"]


class Reference:
    """Where a document is. The library's DocumentReference does as well wherever one is taken."""

    __slots__ = ("_document_path", "path")

    def __init__(self, database: str, *segments: str) -> None:
        """The database is `projects/{project}/databases/{database}`. Raises ValueError for what names no document.

        A segment with a slash would name another document than the one that was meant.
        """
        if not segments or len(segments) % 2 or not all(segments) or any("/" in segment for segment in segments):
            raise ValueError(f"Not the path of a document: {segments}")
        self.path = "/".join(segments)
        self._document_path = f"{database}/documents/{self.path}"

    @property
    def id(self) -> str:
        return self.path.rpartition("/")[2]

    def __eq__(self, other: object) -> bool:
        return self._document_path == getattr(other, "_document_path", None)

    def __hash__(self) -> int:
        return hash(self._document_path)

    def __repr__(self) -> str:
        return f"Reference({self.path!r})"


class AnyReference(Protocol):
    """Ours or the library's."""

    @property
    def id(self) -> str: ...

    @property
    def _document_path(self) -> str: ...


class Transform:
    """What Firestore does to a field by itself when it writes."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == getattr(other, "value", None)

    def __hash__(self) -> int:
        return hash((type(self), repr(self.value)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class Increment(Transform):
    """Add a number to the field; a missing field counts as nought."""


class Minimum(Transform):
    """Keep the smaller of the field and a number; a missing field becomes the number."""


class Maximum(Transform):
    """Keep the larger of the field and a number; a missing field becomes the number."""


class ArrayUnion(Transform):
    """Append those of the values that the list does not hold."""


class ArrayRemove(Transform):
    """Take the values out of the list."""


class Sentinel:
    """A field's value that is no value."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


DELETE_FIELD = Sentinel("DELETE_FIELD")
SERVER_TIMESTAMP = Sentinel("SERVER_TIMESTAMP")

_TRANSFORM_FIELDS = {
    "Increment": "increment",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "ArrayUnion": "append_missing_elements",
    "ArrayRemove": "remove_all_from_array",
}
_LIBRARY_TRANSFORMS = "google.cloud.firestore_v1.transforms"


@dataclass(frozen=True)
class LastUpdateOption:
    """Write only if the document has not changed since."""

    _last_update_time: Any
    """As the library names it, so that its option serves as well."""


# --- values to messages ----------------------------------------------------------------------------------------------


def put_value(target: Message, value: Any) -> None:
    """Make the Value hold what the Python value says. Raises TypeError or ValueError for what cannot be stored."""
    put = _PUTTERS.get(type(value))
    if put is None:
        put = next((_PUTTERS[kind] for kind in _PUTTERS if isinstance(value, kind)), _put_unusual)
    put(target, value)


def _put_none(target: Message, _: None) -> None:
    target.null_value = 0


def _put_bool(target: Message, value: bool) -> None:  # noqa: FBT001  # it is the value
    target.boolean_value = value


def _put_int(target: Message, value: int) -> None:
    target.integer_value = value


def _put_float(target: Message, value: float) -> None:
    target.double_value = value


def _put_datetime(target: Message, value: datetime) -> None:
    put_time(target.timestamp_value, value)


def _put_str(target: Message, value: str) -> None:
    target.string_value = value


def _put_bytes(target: Message, value: bytes) -> None:
    if getattr(value, "subtype", None) is None:
        target.bytes_value = value
    else:
        _put_unusual(target, value)


def _put_list(target: Message, values: Iterable[Any]) -> None:
    array = target.array_value
    array.SetInParent()  # an empty list is a value, too
    put_values(array, values)


def put_values(array: Message, values: Iterable[Any]) -> None:
    add = array.values.add
    for value in values:
        put_value(add(), value)


def _put_dict(target: Message, value: Mapping[str, Any]) -> None:
    map_value = target.map_value
    map_value.SetInParent()  # an empty map is a value, too
    put_fields(map_value.fields, value)


def put_fields(target: Message, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        put = _PUTTERS.get(type(value), put_value)
        put(target[name], value)


def _put_unusual(target: Message, value: Any) -> None:
    """What the library knows beside what this product stores. Raises TypeError when it does not know it either."""
    path = getattr(value, "_document_path", None)
    if path is not None:
        target.reference_value = path
        return
    from google.cloud.firestore_v1 import _helpers

    target.MergeFromString(_helpers.encode_value(value)._pb.SerializeToString())  # noqa: SLF001  # proto-plus inside


# The order is that of the library: a bool is an int as well.
_PUTTERS: dict[type, Callable[[Message, Any], None]] = {
    type(None): _put_none,
    bool: _put_bool,
    int: _put_int,
    float: _put_float,
    datetime: _put_datetime,
    str: _put_str,
    bytes: _put_bytes,
    list: _put_list,
    tuple: _put_list,
    set: _put_list,
    frozenset: _put_list,
    dict: _put_dict,
}


_FLAT = frozenset(_PUTTERS) - {dict}


def put_time(target: Message, moment: Any) -> None:
    """A datetime (one without a zone is UTC) or a timestamp message. Nanoseconds are kept where there are any."""
    if not isinstance(moment, datetime):
        target.seconds, target.nanos = moment.seconds, moment.nanos
        return
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    target.seconds = since.days * _SECONDS_PER_DAY + since.seconds
    target.nanos = getattr(moment, "nanosecond", 0) or since.microseconds * 1000


# --- messages to values ----------------------------------------------------------------------------------------------


def value_of(message: Message) -> Any:
    """What a Value says, as the library would put it; a reference to a document becomes a `Reference`."""
    take = _TAKERS.get(message.WhichOneof("value_type"), _unusual)
    return take(message)


def fields_of(fields: Message) -> Any:
    """A map of Values as a dict; where the library takes such a map for something else, that."""
    decoded = {name: value_of(value) for name, value in fields.items()}
    if "__type__" in decoded or (len(decoded) == 1 and next(iter(decoded)).startswith("__")):
        return _unusual(_VALUE(map_value=_MAP_VALUE(fields=fields)))
    return decoded


def time_of(message: Message) -> datetime:
    moment = _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    if message.nanos % 1000 == 0:
        return moment
    # Firestore itself counts microseconds. Should more ever come, a precondition must give it back unchanged.
    from google.api_core.datetime_helpers import DatetimeWithNanoseconds

    whole = moment.replace(microsecond=0)
    return DatetimeWithNanoseconds(*whole.timetuple()[:6], nanosecond=message.nanos, tzinfo=UTC)  # type: ignore[no-untyped-call]  # the library leaves it untyped


def reference_of(document_path: str) -> Reference:
    database, _, path = document_path.partition("/documents/")
    return Reference(database, *path.split("/"))


def _unusual(message: Message) -> Any:
    from google.cloud.firestore_v1 import _helpers
    from google.cloud.firestore_v1.types import Value

    return _helpers.decode_value(Value.pb().FromString(message.SerializeToString()), None)


_TAKERS: dict[str, Callable[[Message], Any]] = {
    "null_value": lambda _: None,
    "boolean_value": attrgetter("boolean_value"),
    "integer_value": attrgetter("integer_value"),
    "double_value": attrgetter("double_value"),
    "string_value": attrgetter("string_value"),
    "bytes_value": attrgetter("bytes_value"),
    "timestamp_value": lambda message: time_of(message.timestamp_value),
    "reference_value": lambda message: reference_of(message.reference_value),
    "array_value": lambda message: [value_of(each) for each in message.array_value.values],
    "map_value": lambda message: fields_of(message.map_value.fields),
}


# --- writes ----------------------------------------------------------------------------------------------------------


def put_creation(write: Message, document_path: str, fields: Mapping[str, Any]) -> None:
    """Have the Write make a document which is not there."""
    _put_document(write, document_path, fields, "create")
    write.current_document.exists = False


def put_replacement(write: Message, document_path: str, fields: Mapping[str, Any]) -> None:
    """Have the Write make a document or replace it."""
    _put_document(write, document_path, fields, "set")


def put_merge(write: Message, document_path: str, fields: Mapping[str, Any]) -> None:
    """Have the Write make a document or change the fields that are named, to any depth."""
    found = _Extracted()
    plain = found.plain_of(fields)
    _put_extracted(write, document_path, plain, found)
    _put_mask(write, [*_leaves(plain), *found.deleted])


def put_update(write: Message, document_path: str, changes: Mapping[str, Any], option: Any) -> None:
    """Have the Write change fields of a document that is there; `changes` names them by their paths (`a.b`)."""
    if not changes:
        raise ValueError("Cannot update with an empty document.")
    by_path = {_parsed(name): value for name, value in changes.items()}
    _require_apart(by_path)
    found, plain = _Extracted(), dict[str, Any]()
    for path, value in by_path.items():
        if isinstance(value, dict) and value:
            if nested := found.plain_of(value, path):
                _place(plain, path, nested)
        elif not found.notes(value, path):
            _place(plain, path, value)
    if unnamed := [path for path in found.deleted if path not in by_path]:
        raise ValueError(f"Cannot delete a field within a map that is replaced: {_rendered(unnamed[0])}")
    _put_extracted(write, document_path, plain, found)
    _put_condition(write, option)
    _put_mask(write, [path for path in by_path if path not in found.transforms])


def put_deletion(write: Message, document_path: str, option: Any) -> None:
    """Have the Write remove a document, if it is there."""
    write.delete = document_path
    if option is not None:
        _put_condition(write, option)


class _Extracted:
    """What is to be written, taken apart: plain fields, what Firestore does itself, and what shall go."""

    def __init__(self) -> None:
        self.transforms: dict[Path, Any] = {}
        self.deleted: list[Path] = []

    def plain_of(self, fields: Mapping[str, Any], at: Path = ()) -> dict[str, Any]:
        """The plain fields, to any depth; a map that holds others only is none of them. Notes the others."""
        plain: dict[str, Any] = {}
        for name, value in fields.items():
            if not isinstance(name, str) or not name:
                raise ValueError("The name of a field is a text that is not empty.")
            if type(value) in _FLAT:
                plain[name] = value
            elif isinstance(value, dict) and value:
                if nested := self.plain_of(value, (*at, name)):
                    plain[name] = nested
            elif not self.notes(value, (*at, name)):
                plain[name] = value
        return plain

    def notes(self, value: Any, path: Path) -> bool:
        """Whether it is something for Firestore to do; then it is noted."""
        kind = type(value)
        if kind is not Sentinel and not isinstance(value, Transform) and kind.__module__ != _LIBRARY_TRANSFORMS:
            return False
        if _is_sentinel(value, DELETE_FIELD):
            self.deleted.append(path)
        else:
            self.transforms[path] = value
        return True


def _leaves(plain: Mapping[str, Any], at: Path = ()) -> Iterator[Path]:
    """The paths of fields, down to where no map is."""
    for name, value in plain.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*at, name))
        else:
            yield (*at, name)


def _place(plain: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        plain = plain.setdefault(name, {})
    plain[path[-1]] = value


def _put_document(write: Message, document_path: str, fields: Mapping[str, Any], how: str) -> None:
    found = _Extracted()
    plain = found.plain_of(fields)
    if found.deleted:
        raise ValueError(f"Cannot apply DELETE_FIELD in a {how} request.")
    _put_extracted(write, document_path, plain, found)


def _put_extracted(write: Message, document_path: str, plain: Mapping[str, Any], found: _Extracted) -> None:
    document = write.update
    document.name = document_path
    put_fields(document.fields, plain)
    for path in sorted(found.transforms):
        _put_transform(write.update_transforms.add(), path, found.transforms[path])


def _put_mask(write: Message, paths: Iterable[Path]) -> None:
    mask = write.update_mask
    mask.SetInParent()  # an empty mask is one, too
    mask.field_paths.extend(_rendered(path) for path in sorted(paths))


def _put_transform(target: Message, path: Path, value: Any) -> None:
    target.field_path = _rendered(path)
    if _is_sentinel(value, SERVER_TIMESTAMP):
        target.set_to_server_value = _REQUEST_TIME
        return
    field = _TRANSFORM_FIELDS.get(type(value).__name__)
    if field is None:
        raise TypeError(f"Cannot be stored: {value!r}")
    if field in ("append_missing_elements", "remove_all_from_array"):
        if not isinstance(value.value if isinstance(value, Transform) else value.values, list | tuple):
            raise ValueError("Pass a list or a tuple of values.")
        array = getattr(target, field)
        array.SetInParent()
        put_values(array, value.value if isinstance(value, Transform) else value.values)
    else:
        put_value(getattr(target, field), value.value)


def _is_sentinel(value: Any, ours: Sentinel) -> bool:
    """Whether it is this one, ours or the library's."""
    if value is ours:
        return True
    if type(value).__module__ != _LIBRARY_TRANSFORMS:
        return False
    from google.cloud.firestore_v1 import transforms

    return value is getattr(transforms, repr(ours))


def _put_condition(write: Message, option: Any) -> None:
    """Without an option, that the document is there."""
    if option is None:
        write.current_document.exists = True
    else:
        put_time(write.current_document.update_time, option._last_update_time)  # noqa: SLF001  # the library's name


def _require_apart(paths: Iterable[Path]) -> None:
    """Raises ValueError when one of the paths leads into another."""
    for path in paths:
        for length in range(1, len(path)):
            if path[:length] in paths:
                raise ValueError(f"Conflicting field path: {_rendered(path)}, {_rendered(path[:length])}")


@lru_cache(maxsize=1024)
def _parsed(name: str) -> Path:
    """The path that the name of a changed field stands for. Raises ValueError."""
    if _SIMPLE_PATH.fullmatch(name):
        return tuple(name.split("."))
    from google.cloud.firestore_v1.field_path import FieldPath

    return FieldPath.from_string(name).parts


@lru_cache(maxsize=1024)
def _rendered(path: Path) -> str:
    """A path as text: names that are no identifiers stand in backticks."""
    return ".".join(
        name if _SIMPLE_NAME.fullmatch(name) else "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
        for name in path
    )


# --- reads -----------------------------------------------------------------------------------------------------------


def read_request(database: str, document_paths: Sequence[str], fields: Iterable[str] | None) -> Message:
    """`fields` are the only ones to be read; None for all."""
    request = MESSAGES["BatchGetDocumentsRequest"](database=database, documents=document_paths)
    if fields is not None:
        request.mask.SetInParent()
        request.mask.field_paths.extend(sorted(fields))
    return request
