"""How things end: a key that is revoked, a user who is suspended, one who takes everything along and leaves.

What these tests look at was begun together when the first test of the run began: `tests/suite/endings.py`.
"""

import hashlib
import io
import json
import zipfile

import pytest

from functions.activity import service as activity
from functions.activity.domain import ACCOUNT_ERASED
from shared.clients import firestore_client
from shared.identity.accounts import tombstone_id
from tests.store.privacy.support import traces
from tests.suite.endings import CONVERSATIONS, CREDITS, FELT_WITHIN_S, ME, PNG, REASON, USERS
from tests.suite.support import request, sign_in, sign_up, try_to_sign_in


@pytest.fixture
def archive(endings) -> dict[str, bytes]:
    """The leaver's files, by name."""
    with zipfile.ZipFile(io.BytesIO(endings.leaver.download.body)) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


# A key, a suspension


def test_a_revoked_key_is_dead_in_other_functions_within_half_a_minute(endings):
    refused = endings.revoked_key.result()
    assert (refused.answer.status, refused.answer.json["reason"]) == (401, "revoked_key")
    assert refused.last_let_in_s < FELT_WITHIN_S


def test_a_suspended_user_is_cut_off_by_the_rules_and_by_firebase_auth_at_once(endings):
    assert endings.rules_after_suspension.status == 403
    refused = endings.sign_in_after_suspension
    assert (refused.status, refused.json["error"]["message"]) == (400, "USER_DISABLED")


def test_a_suspended_user_is_refused_by_another_function_within_half_a_minute(endings):
    refused = endings.suspended_at_credits.result()
    assert (refused.answer.status, refused.answer.json["code"]) == (403, "account_suspended")
    assert refused.last_let_in_s < FELT_WITHIN_S


def test_a_reinstated_user_is_back(suite, admin):
    somebody = sign_up(suite)
    assert somebody.api("GET", ME).status == 200
    for action, status in (("suspend", "suspended"), ("reinstate", "active")):
        assert admin.api("POST", f"{USERS}/{somebody.uid}/{action}", REASON).json["status"] == status
    assert somebody.document(f"users/{somebody.uid}").status == 200
    assert sign_in(suite, somebody.email).api("GET", CREDITS).status == 200


# The archive


def test_the_archive_is_what_its_job_says_and_opens_only_by_its_link(endings):
    export, download = endings.leaver.export, endings.leaver.download
    assert (download.status, len(download.body)) == (200, export["size_bytes"])
    assert hashlib.sha256(download.body).hexdigest() == export["sha256"]
    assert download.headers["Content-Disposition"].startswith('attachment; filename="craftpilot-export-')
    assert request("GET", export["download_url"].replace("Signature=", "Signature=0")).status == 403


def test_the_archive_holds_what_there_is_about_somebody(endings, archive):
    leaver = endings.leaver
    profile = json.loads(archive["profile.json"])
    assert (profile["id"], profile["email"], profile["bio"]) == (leaver.user.uid, leaver.user.email, "Soon gone.")
    conversation = json.loads(archive[f"conversations/{leaver.conversation}.json"])
    texts = [message["parts"][0]["text"] for message in conversation["messages"]]
    assert sorted(texts) == ["/say Herons stand very still.", "Herons stand very still."]
    kinds = {entry["kind"] for entry in json.loads(archive["credits.json"])["entries"]}
    assert kinds == {"grant", "hold", "settle"}
    assert json.loads(archive["sign_in.json"])["email"] == leaver.user.email
    assert [key["name"] for key in json.loads(archive["api_keys.json"])] == ["A program"]
    assert [content for name, content in archive.items() if name.startswith("avatar/")] == [PNG]
    assert {"activity.json", "usage.json", "sessions.json", "README.txt"} <= archive.keys()


def test_the_archive_holds_no_secret(endings, archive):
    leaver = endings.leaver
    secrets = [leaver.key, leaver.cookie, leaver.csrf_token, leaver.user.token]
    secrets += [hashlib.sha256(secret.encode()).hexdigest() for secret in secrets]
    everything = b"".join(archive.values())
    assert [secret for secret in secrets if secret.encode() in everything] == []


def test_an_archive_whose_process_died_is_finished_by_the_clock(endings):
    resumed = endings.leaver.resumed
    assert (resumed["state"], resumed["job_id"]) == ("done", endings.leaver.export["job_id"])
    assert resumed["updated_at"] > endings.leaver.export["updated_at"]


# The erasure


def test_an_erased_account_lets_nobody_in_by_whatever_they_still_hold(suite, endings):
    refused = endings.leaver_at_chat.result()
    assert (refused.answer.status, refused.answer.json["reason"]) == (401, "account_deleted")
    assert refused.last_let_in_s < FELT_WITHIN_S
    endings.erasure.result()
    leaver = endings.leaver
    assert leaver.user.api("GET", ME).json["reason"] == "account_deleted"
    assert leaver.user.direct("account_bootstrap", "POST", "", {"data": {}}).status == 401
    key = request("GET", suite.hosting + CONVERSATIONS, **{"X-API-Key": leaver.key})
    assert (key.status, key.json["reason"]) == (401, "invalid_key")
    session = request("GET", suite.hosting + ME, Cookie=f"__session={leaver.cookie}")
    assert (session.status, session.json["reason"]) == (401, "invalid_session")
    assert try_to_sign_in(suite, leaver.user.email).json["error"]["message"] == "EMAIL_NOT_FOUND"


def test_an_erasure_ends_with_the_proof_that_nothing_is_left(endings):
    job = endings.erasure.result()
    assert job["proof"], "it says what it counted"
    assert set(job["proof"].values()) == {0}
    assert {"users/{uid}", "credit_accounts/{uid}", "activity/{uid}", "firebase_auth"} <= job["proof"].keys()
    assert job["checked_at"] > job["requested_at"]
    assert endings.leaver.user.uid not in json.dumps(job)


def test_no_document_no_key_in_redis_and_no_file_names_an_erased_user(endings):
    endings.erasure.result()
    assert traces(endings.leaver.user.uid) == []
    assert request("GET", endings.leaver.export["download_url"]).status == 404


def test_the_log_of_an_erased_user_still_proves_that_nobody_changed_it(endings):
    endings.erasure.result()
    pseudonym = tombstone_id(endings.leaver.user.uid)
    assert activity.find_break(pseudonym) is None
    links = firestore_client().collection(f"activity/{pseudonym}/entries").order_by("n").get()
    entries = [link.to_dict() or {} for link in links]
    actions = [entry["action"] for entry in entries]
    assert actions[-1] == ACCOUNT_ERASED
    assert actions.count("user.registered") == 1
    assert {"chat.message.completed", "user.erasure.requested"} <= set(actions)
    assert all(entry["details"] is None for entry in entries[:-1])
