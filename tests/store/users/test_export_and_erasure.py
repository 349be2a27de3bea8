"""The right to take everything along and to be forgotten: what a request begins, and what nobody else may begin."""

import io
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from functions.users import service
from shared import storage
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.errors import Conflict
from shared.identity import accounts
from shared.identity.permissions import Role
from shared.ids import new_id
from tests.store.users.support import ME, Somebody

EXPORT = f"{ME}/export"


def job(job_id: str):
    return firestore_client().collection("privacy_jobs").document(job_id)


def jobs_of(somebody) -> list[str]:
    found = firestore_client().collection("privacy_jobs").get()
    return [one.id for one in found if one.get("uid") == somebody.uid]


def test_an_export_is_queued_and_asked_about(someone):
    begun = someone.request("POST", EXPORT)

    assert begun.status_code == 202
    assert begun.json["state"] == "queued"
    assert begun.json["download_url"] is None
    assert someone.request("GET", EXPORT).json == begun.json
    document = job(begun.json["job_id"]).get().to_dict()
    assert (document["kind"], document["uid"], document["state"]) == ("export", someone.uid, "queued")
    assert someone.event_types() == ["user.export.requested"]


def test_while_an_export_is_made_asking_again_gives_the_same_one(someone):
    first = someone.request("POST", EXPORT).json["job_id"]
    job(first).update({"state": "running", "progress": {"step": "documents", "done": 3, "total": 9}})

    again = someone.request("POST", EXPORT).json

    assert (again["job_id"], again["progress"]) == (first, {"step": "documents", "done": 3, "total": 9})
    assert jobs_of(someone) == [first]


def test_many_requests_at_once_begin_one_export(someone):
    with ThreadPoolExecutor(4) as pool:
        begun = list(
            pool.map(lambda _: service.request_export(someone.uid, job_id=new_id("job"), now=utc_now()).id, range(4))
        )

    assert len(set(begun)) == 1
    assert jobs_of(someone) == begun[:1]


@pytest.mark.parametrize("state", ["done", "failed"])
def test_after_an_export_ended_another_can_be_begun(someone, state):
    first = someone.request("POST", EXPORT).json["job_id"]
    job(first).update({"state": state})

    second = someone.request("POST", EXPORT).json

    assert second["job_id"] != first
    assert second["state"] == "queued"


def test_a_repeated_request_gives_the_export_it_began_even_when_it_is_done(someone):
    job_id = new_id("job")
    service.request_export(someone.uid, job_id=job_id, now=utc_now())
    job(job_id).update({"state": "done"})

    assert service.request_export(someone.uid, job_id=job_id, now=utc_now()).state == "done"
    assert jobs_of(someone) == [job_id]


def test_a_finished_archive_has_a_link_that_works_until_it_is_deleted(someone):
    job_id = someone.request("POST", EXPORT).json["job_id"]
    file = f"exports/{someone.uid}/{job_id}.zip"
    storage.upload(file, io.BytesIO(b"PK"), content_type="application/zip")
    result = {"file": file, "size_bytes": 2, "sha256": "0" * 64, "expires_at": utc_now() + timedelta(days=7)}
    job(job_id).update({"state": "done", "result": result})

    answer = someone.request("GET", EXPORT).json

    assert (answer["size_bytes"], answer["sha256"]) == (2, "0" * 64)
    with urllib.request.urlopen(answer["download_url"], timeout=5) as archive:
        assert archive.read() == b"PK"
    job(job_id).update({"result": {**result, "expires_at": utc_now() - timedelta(seconds=1)}})
    assert someone.request("GET", EXPORT).json["download_url"] is None


def test_without_an_export_there_is_nothing_to_ask_about(someone):
    assert someone.request("GET", EXPORT).status_code == 404


def test_an_erasure_closes_the_account_at_once_and_can_be_followed_without_it(someone):
    someone.request("GET", ME)

    answer = someone.request("DELETE", ME)

    assert answer.status_code == 202
    assert someone.document()["status"] == "erasing"
    refused = someone.request("GET", ME)
    assert (refused.status_code, refused.json["reason"]) == (401, "account_deleted")
    followed = Somebody("nobody").request("GET", answer.json["status_url"])
    assert (followed.status_code, followed.json["state"]) == (200, "queued")
    assert someone.uid not in followed.get_data(as_text=True)
    document = job(answer.json["job_id"]).get().to_dict()
    assert (document["kind"], document["uid"], document["state"]) == ("erasure", someone.uid, "queued")
    assert someone.event_types() == ["user.erasure.requested"]


def test_a_finished_erasure_shows_its_proof(someone):
    status_url = someone.request("DELETE", ME).json["status_url"]
    result = {"proof": {"users/{uid}": 0}, "checked_at": utc_now(), "activity_chain": "holds"}
    job(status_url.rpartition("/")[2]).update({"state": "done", "result": result})

    shown = Somebody("nobody").request("GET", status_url).json

    assert (shown["state"], shown["proof"]) == ("done", {"users/{uid}": 0})
    assert shown["checked_at"] is not None


def test_an_old_sign_in_erases_nothing(someone):
    someone.signed_in_at = time.time() - 301

    answer = someone.request("DELETE", ME)

    assert (answer.status_code, answer.json["reason"]) == (401, "recent_sign_in_required")
    assert someone.document()["status"] == "active"


def test_a_revoked_sign_in_erases_nothing(someone, auth):
    auth.records[someone.uid].tokens_valid_after_timestamp = int(time.time() + 60) * 1000

    answer = someone.request("DELETE", ME)

    assert (answer.status_code, answer.json["reason"]) == (401, "revoked_token")
    assert someone.document()["status"] == "active"


def test_two_erasures_at_once_are_one_job(someone):
    with ThreadPoolExecutor(3) as pool:
        begun = list(
            pool.map(lambda _: service.request_erasure(someone.uid, job_id=new_id("job"), now=utc_now()).id, range(3))
        )

    assert len(set(begun)) == 1
    assert jobs_of(someone) == begun[:1]


def test_an_export_cannot_be_followed_as_if_it_were_an_erasure(someone):
    job_id = someone.request("POST", EXPORT).json["job_id"]

    assert someone.request("GET", f"/api/v1/users/erasures/{job_id}").status_code == 404
    assert someone.request("GET", f"/api/v1/users/erasures/{new_id('job')}").status_code == 404


def test_the_last_admin_cannot_vanish(someone, only_admins):
    only_admins(someone)

    with pytest.raises(Conflict, match="last admin"):
        service.request_erasure(someone.uid, job_id=new_id("job"), now=utc_now())

    assert someone.document()["status"] == "active"
    assert jobs_of(someone) == []


def test_an_admin_with_a_colleague_may_go(someone, operator, only_admins):
    only_admins(someone, operator(Role.ADMIN))

    service.request_erasure(someone.uid, job_id=new_id("job"), now=utc_now())

    assert accounts.get_standing(someone.uid, now=utc_now()).status is accounts.Status.ERASING
