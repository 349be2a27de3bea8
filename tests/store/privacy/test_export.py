"""The archive holds everything the product holds about its user, and nothing that would open a door."""

import hashlib
import io
import json
import zipfile
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from functions.privacy import repository, service
from functions.privacy.domain import ARCHIVE_KEPT, EXPORT_TRIES, LEASE
from shared import storage
from shared.clients import firestore_client, storage_bucket
from shared.errors import Unavailable
from tests.store.privacy.support import AVATAR, START, add_job, files_of, fill, job, put

SECRETS = ("digest-of-key", "digest-of-cookie", "sealed")


@pytest.fixture
def full(uid, world):
    fill(uid)
    world.auth.add(uid)
    for name in files_of(uid):
        storage.delete(name)
    return uid


def archive_of(world, uid: str) -> zipfile.ZipFile:
    job_id = add_job(uid, "export")
    assert world.run(job_id)
    return zipfile.ZipFile(io.BytesIO(storage_bucket().blob(job(job_id)["result"]["file"]).download_as_bytes()))


def read(archive: zipfile.ZipFile, name: str):
    return json.loads(archive.read(name))


def test_the_archive_holds_a_file_for_everything(full, world):
    archive = archive_of(world, full)
    assert archive.testzip() is None
    assert set(archive.namelist()) == {
        "README.txt",
        "activity.json",
        "api_keys.json",
        "attachments.json",
        "attachments/upl_2",
        "avatar/a1",
        "conversations/c1-and-more.json",
        "conversations/c1.json",
        "conversations/c2.json",
        "conversations/deleted.json",
        "credits.json",
        "events.json",
        "folders.json",
        "generations.json",
        "key_usage.json",
        "profile.json",
        "requests.json",
        "sessions.json",
        "shares.json",
        "sign_in.json",
        "subscription.json",
        "usage.json",
    }


def test_a_conversation_comes_with_its_messages(full, world):
    conversation = read(archive_of(world, full), "conversations/c1.json")
    assert conversation["id"] == "c1"
    assert conversation["title"] == "About me"
    assert [message["id"] for message in conversation["messages"]] == ["m0", "m1", "m2"]
    assert conversation["messages"][0]["parts"] == [{"type": "text", "text": f"I am {full}"}]


def test_messages_whose_conversation_is_gone_are_in_it_too(full, world):
    conversation = read(archive_of(world, full), "conversations/deleted.json")
    assert conversation["id"] == "deleted"
    assert [message["id"] for message in conversation["messages"]] == ["orphan"]


def test_what_nobody_has_declared_is_in_the_profile(full, world):
    profile = read(archive_of(world, full), "profile.json")
    assert profile["username"] == "ada"
    assert profile["devices"] == [{"id": "d1", "token": "t", "platform": "ios"}]
    assert profile["diaries"][0]["pages"] == [{"id": "y", "text": "a collection that nobody has declared"}]
    assert "conversations" not in profile


def test_the_ledger_and_the_log_are_whole(full, world):
    archive = archive_of(world, full)
    ledger, log = read(archive, "credits.json"), read(archive, "activity.json")
    assert {name: len(ledger[name]) for name in ("grants", "holds", "entries", "checkpoints")} == {
        "grants": 1,
        "holds": 1,
        "entries": 1,
        "checkpoints": 1,
    }
    assert [entry["n"] for entry in log["entries"]] == [1, 2, 3]
    assert log["entries"][-1]["hash"] == log["hash"]


def test_times_say_their_zone_and_money_its_unit(full, world):
    [usage] = read(archive_of(world, full), "usage.json")
    assert datetime.fromisoformat(usage["at"]) == START
    assert (usage["charged_micro"], usage["cost_pico_usd"]) == (5, 7)


def test_the_avatar_is_the_one_that_was_uploaded(full, world):
    assert archive_of(world, full).read("avatar/a1") == AVATAR


def test_how_the_user_signs_in_is_told(full, world):
    sign_in = read(archive_of(world, full), "sign_in.json")
    assert sign_in["email"] == f"{full}@example.com"
    assert sign_in["providers"][0]["provider"] == "password"
    assert sign_in["created_at"].endswith("+00:00")


def test_no_secret_leaves_in_the_archive(full, world):
    archive = archive_of(world, full)
    content = b"\n".join(archive.read(name) for name in archive.namelist()).decode(errors="replace")
    assert [secret for secret in SECRETS if secret in content] == []
    assert read(archive, "api_keys.json")[0]["id"] == "key_1"
    assert read(archive, "sessions.json")[0]["address"] == "192.0.2.7"


def test_nothing_of_others_is_in_the_archive(full, world):
    other = f"{full}0"
    fill(other)
    archive = archive_of(world, full)
    assert not [name for name in archive.namelist() if other in archive.read(name).decode(errors="replace")]


def test_the_readme_says_what_is_there_in_plain_words(full, world):
    text = archive_of(world, full).read("README.txt").decode()
    assert full in text
    assert "conversations/….json: 4 files, 13 entries" in text
    assert "usage.json: 1 entry" in text


def test_the_job_says_where_the_archive_is_and_how_it_can_be_checked(full, world):
    job_id = add_job(full, "export")
    assert world.run(job_id)
    done = job(job_id)
    content = storage_bucket().blob(f"exports/{full}/{job_id}.zip").download_as_bytes()
    assert done["state"] == "done"
    assert done["result"]["size_bytes"] == len(content)
    assert done["result"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert done["result"]["expires_at"] == START + ARCHIVE_KEPT
    assert done["progress"]["done"] == done["progress"]["total"] > 20


def test_a_user_without_any_data_gets_an_archive_too(uid, world):
    archive = archive_of(world, uid)
    assert read(archive, "profile.json") is None
    assert read(archive, "usage.json") == []
    assert read(archive, "sign_in.json") is None


def test_many_documents_come_in_pages(full, world, monkeypatch):
    monkeypatch.setattr(repository, "DOCUMENTS_PER_PAGE", 2)
    fill(full, messages=7)
    archive = archive_of(world, full)
    assert len(read(archive, "conversations/c1.json")["messages"]) == 7
    assert len(read(archive, "events.json")) == 6


def test_progress_is_told_once_a_second_at_most(full, world, monkeypatch):
    told = []
    change = repository.change_job

    def note(a_job, changes):
        told.append((world.clock.now, changes["progress"]))
        return change(a_job, changes)

    walk = repository.walk

    def slowly(*args, **options):
        for found in walk(*args, **options):
            world.clock.sleep(0.4)
            yield found

    monkeypatch.setattr(repository, "change_job", note)
    monkeypatch.setattr(repository, "walk", slowly)
    archive_of(world, full)
    writing = [(at, progress["done"]) for at, progress in told if progress["step"] == "archive"][1:-1]
    assert len(writing) > 5
    assert all(later[0] - earlier[0] >= timedelta(seconds=1) for earlier, later in pairwise(writing))
    assert [done for _, done in writing] == sorted({done for _, done in writing})


class Killed(BaseException):
    """The process died: nothing catches this."""


@pytest.mark.parametrize("at", [0, 1, 10])
def test_an_export_that_is_killed_leaves_no_file_and_is_made_anew(full, world, monkeypatch, at):
    walk = repository.walk
    left = [at]

    def deadly(*args, **options):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return walk(*args, **options)

    job_id = add_job(full, "export")
    with monkeypatch.context() as patch:
        patch.setattr(repository, "walk", deadly)
        with pytest.raises(Killed):
            world.run(job_id)
    assert files_of(full) == []
    assert not world.run(job_id)
    world.clock.go_on(LEASE)
    assert world.run(job_id)
    assert files_of(full) == [f"exports/{full}/{job_id}.zip"]


def test_an_export_that_was_taken_away_meanwhile_leaves_no_file(full, world, monkeypatch):
    job_id = add_job(full, "export")
    find = repository.walk_files

    def meanwhile(*args):
        firestore_client().document(f"privacy_jobs/{job_id}").delete()
        return find(*args)

    monkeypatch.setattr(repository, "walk_files", meanwhile)
    assert not world.run(job_id)
    assert files_of(full) == []


def test_an_export_that_is_taken_away_while_its_file_appears_deletes_it(full, world, monkeypatch):
    job_id = add_job(full, "export")
    add_change = repository.add_change

    def meanwhile(batch, a_job, changes):
        if changes.get("state") == "done":
            firestore_client().document(f"privacy_jobs/{job_id}").delete()
        add_change(batch, a_job, changes)

    monkeypatch.setattr(repository, "add_change", meanwhile)
    assert not world.run(job_id)
    assert files_of(full) == []


def test_an_export_that_keeps_failing_is_given_up_and_says_why(full, world):
    world.auth.down = True
    job_id = add_job(full, "export")
    for _ in range(EXPORT_TRIES):
        with pytest.raises(Unavailable):
            world.run(job_id)
        world.clock.go_on(timedelta(hours=1))
    assert job(job_id)["state"] == "failed"
    assert job(job_id)["last_error"] == "unavailable"
    assert not world.run(job_id)
    assert files_of(full) == []


def test_an_export_that_takes_too_long_counts_as_failed(full, world, monkeypatch):
    monkeypatch.setattr(service, "EXPORT_TIME", timedelta(0))
    job_id = add_job(full, "export")
    assert not world.run(job_id)
    assert job(job_id)["failures"] == 1
    assert files_of(full) == []


def test_a_user_has_one_archive_made_at_a_time(full, world):
    running = add_job(full, "export", state="running", lease_until=START + LEASE)
    second = add_job(full, "export")
    assert not world.run(second)
    assert job(second)["state"] == "queued"
    firestore_client().document(f"privacy_jobs/{running}").delete()
    assert world.run(second)


def test_an_old_archive_is_deleted_with_its_job(full, world):
    job_id = add_job(full, "export")
    assert world.run(job_id)
    world.clock.now = START + ARCHIVE_KEPT - timedelta(seconds=1)
    world.sweep()
    assert files_of(full) == [f"exports/{full}/{job_id}.zip"]
    world.clock.now = START + ARCHIVE_KEPT
    assert world.sweep()["archives_deleted"] == 1
    assert files_of(full) == []
    assert not firestore_client().document(f"privacy_jobs/{job_id}").get().exists


def test_a_field_beside_a_collection_of_the_same_name_hides_nothing(uid, world):
    put(f"users/{uid}", username="ada", devices="none")
    put(f"users/{uid}/devices/d1", token="t")
    profile = read(archive_of(world, uid), "profile.json")
    assert profile["devices"] == "none"
    assert profile["devices/"] == [{"id": "d1", "token": "t"}]
