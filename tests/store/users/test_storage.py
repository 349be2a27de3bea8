"""Files in the bucket, against the storage emulator; and what happens when it is away."""

import io
import urllib.request
from datetime import timedelta

import pytest

from shared import clients, storage
from shared.errors import Unavailable
from shared.settings import settings
from tests.store.users.support import fresh_name


def put(name: str, content: bytes = b"content", content_type: str = "text/plain") -> None:
    storage.upload(name, io.BytesIO(content), content_type=content_type)


def test_a_file_is_found_as_it_was_put():
    name = f"test/{fresh_name()}/a file.txt"
    put(name, b"0123456789")

    found = storage.find(name)

    assert found is not None
    assert (found.name, found.size_bytes, found.content_type) == (name, 10, "text/plain")
    assert storage.read_start(found, 4) == b"0123"
    assert storage.read_start(found, 100) == b"0123456789"


def test_what_is_not_there_is_none_and_deleting_it_is_fine():
    name = f"test/{fresh_name()}"

    assert storage.find(name) is None
    storage.delete(name)


def test_a_copy_outlives_its_source():
    source, target = f"test/{fresh_name()}", f"test/{fresh_name()}"
    put(source)
    found = storage.find(source)
    assert found is not None

    storage.copy(found, target)
    storage.delete(source)

    assert storage.find(source) is None
    copied = storage.find(target)
    assert copied is not None
    assert copied.content_type == "text/plain"


def test_files_are_listed_by_the_beginning_of_their_names():
    folder = f"test/{fresh_name()}"
    for name in ("b", "a", "c/d"):
        put(f"{folder}/{name}")
    put(f"{folder}-not-this")

    assert [file.name for file in storage.list_files(f"{folder}/", limit=10)] == [
        f"{folder}/{n}" for n in ("a", "b", "c/d")
    ]
    assert len(storage.list_files(f"{folder}/", limit=2)) == 2


def test_a_file_is_saved_under_the_name_that_was_signed():
    name = f"test/{fresh_name()}"
    put(name)

    url = storage.sign_download(name, lifetime=timedelta(minutes=1), save_as="export.zip")

    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="export.zip"'


def test_a_browser_may_put_files_from_another_origin():
    upload = storage.sign_upload("test/x", content_type="image/png", size_bytes=1, lifetime=timedelta(minutes=1))
    preflight = urllib.request.Request(upload.url, method="OPTIONS")

    with urllib.request.urlopen(preflight, timeout=5) as answer:
        allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")

    assert {name.lower() for name in upload.headers} <= set(allowed)


def test_a_bucket_that_is_away_is_said_by_name(monkeypatch):
    monkeypatch.setattr(storage, "PATIENCE_S", 0.5)
    monkeypatch.setattr(storage, "storage_bucket", _bucket_of_nobody)

    with pytest.raises(Unavailable, match="Files"):
        storage.find("test/x")


def _bucket_of_nobody():
    from google.cloud.storage import Client

    client = Client(project="demo-craftpilot", client_options={"api_endpoint": "http://127.0.0.1:9"})
    return client.bucket(settings().storage_bucket)


def test_there_is_one_bucket_client_per_process():
    assert clients.storage_bucket() is clients.storage_bucket()
