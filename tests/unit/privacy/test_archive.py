"""The archive's files, made from documents in the order of their paths."""

import io
import json
import zipfile
from datetime import UTC, datetime

import pytest
from google.cloud.firestore import GeoPoint
from google.cloud.firestore_v1.vector import Vector
from hypothesis import given
from hypothesis import strategies as st

from functions.privacy.archive import ArchiveWriter
from shared.holdings import Documents

TREE = Documents("users/{uid}", archive="profile.json")
ROWS = Documents("things", archive="things.json")
EACH = Documents("users/{uid}/things", archive="things/{id}.json")
SECRET = Documents("keys", archive="keys.json", secret_id=True, secret_fields=frozenset({"salt"}))

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=8).filter(
    lambda name: name not in {".", ".."}
)
FIELDS = st.dictionaries(NAMES.filter(lambda name: name != "id"), st.integers() | NAMES | st.none(), max_size=3)


def made(holding, documents):
    """The archive of these documents, and how many were counted."""
    out, counted = io.BytesIO(), []
    with ArchiveWriter(out, on_document=lambda: counted.append(1)) as archive:
        archive.add_documents(holding, documents)
    return zipfile.ZipFile(io.BytesIO(out.getvalue())), len(counted)


def one(holding, documents):
    archive, _ = made(holding, documents)
    [name] = archive.namelist()
    return json.loads(archive.read(name))


def test_what_is_below_a_document_is_inside_it():
    documents = [
        (("u",), {"name": "Ada"}),
        (("u", "a", "1"), {"x": 1}),
        (("u", "a", "1", "b", "2"), {"y": 2}),
        (("u", "a", "3"), {}),
        (("u", "c", "4"), {"z": None}),
    ]
    assert one(TREE, documents) == {
        "id": "u",
        "name": "Ada",
        "a": [{"id": "1", "x": 1, "b": [{"id": "2", "y": 2}]}, {"id": "3"}],
        "c": [{"id": "4", "z": None}],
    }


def test_a_document_that_is_not_there_holds_what_is_below_it():
    assert one(TREE, [(("u", "a", "1", "b", "2"), {"y": 2})]) == {
        "id": "u",
        "a": [{"id": "1", "b": [{"id": "2", "y": 2}]}],
    }


def test_a_list_has_one_document_a_line():
    archive, counted = made(ROWS, [(("1",), {"x": 1}), (("2",), {"x": 2})])
    assert archive.read("things.json").decode() == '[\n{"id": "1", "x": 1},\n{"id": "2", "x": 2}]'
    assert counted == 2


def test_nothing_is_an_empty_list_or_null_or_no_file():
    assert one(ROWS, []) == []
    assert one(TREE, []) is None
    assert made(EACH, [])[0].namelist() == []


def test_secrets_stay():
    assert one(SECRET, [(("digest",), {"salt": "s", "name": "laptop"}), (("digest",), {"salt": "s"})]) == [
        {"name": "laptop"},
        {},
    ]


def test_a_documents_own_id_field_is_the_one_that_is_shown():
    assert one(SECRET, [(("digest",), {"id": "key_1"})]) == [{"id": "key_1"}]


def test_a_secret_documents_collections_are_in_it():
    assert one(SECRET, [(("digest",), {}), (("digest", "uses", "1"), {"x": 1})]) == [{"uses": [{"x": 1}]}]


def test_what_json_does_not_know_is_written_in_a_way_to_read():
    fields = {
        "at": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "bytes": b"\x00\xff",
        "vector": Vector([1.0, 2.5]),
        "place": GeoPoint(1, 2),
        "text": "ä\u2028",
    }
    [found] = one(ROWS, [(("1",), fields)])
    assert found == {
        "id": "1",
        "at": "2026-03-01T12:00:00+00:00",
        "bytes": "AP8=",
        "vector": [1.0, 2.5],
        "place": "GeoPoint(latitude=1, longitude=2)",
        "text": "ä\u2028",
    }


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a/b", "C:\\x"])
def test_no_id_names_a_file_outside_its_folder(name):
    [file] = made(EACH, [((name,), {})])[0].namelist()
    assert file.startswith("things/")
    assert file.count("/") == 1
    assert "\\" not in file


@given(st.dictionaries(NAMES, st.tuples(FIELDS, st.dictionaries(NAMES, FIELDS, max_size=3)), max_size=4))
def test_every_document_is_found_again(tree):
    documents: list[tuple[tuple[str, ...], dict]] = []
    for name in sorted(tree):
        fields, below = tree[name]
        documents.append(((name,), fields))
        documents += [((name, "below it", each), below[each]) for each in sorted(below)]
    found = one(ROWS, documents)
    assert len(found) == len(tree)
    for document in found:
        fields, below = tree[document["id"]]
        parts = {part["id"]: {k: v for k, v in part.items() if k != "id"} for part in document.pop("below it", [])}
        assert parts == below
        assert {k: v for k, v in document.items() if k != "id"} == fields


def test_the_archive_needs_a_stream_that_can_only_be_written_to():
    class Pipe:
        def __init__(self):
            self.content = b""

        def write(self, data):
            self.content += bytes(data)
            return len(data)

    pipe = Pipe()
    with ArchiveWriter(pipe, on_document=lambda: None) as archive:  # type: ignore[arg-type]  # no more than it needs
        archive.add_object("a.json", {"x": 1})
        archive.add_file("b", io.BytesIO(b"content"))
    found = zipfile.ZipFile(io.BytesIO(pipe.content))
    assert found.testzip() is None
    assert found.read("b") == b"content"
    assert archive.size_bytes == len(pipe.content)


def test_an_archive_that_fails_is_left_unfinished():
    out = io.BytesIO()

    def broken():
        yield ("1",), {}
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), ArchiveWriter(out, on_document=lambda: None) as archive:
        archive.add_documents(ROWS, broken())
    assert out.getvalue()
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(out.getvalue()))
