"""What takes half a minute to be felt by every process, because processes believe for that long what they have read: a
revoked key, a suspended user, one who takes everything along and leaves. All of it is begun together and watched while
tests look at something else.
"""

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from shared import storage
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.ids import new_id
from tests.suite.support import (
    Answer,
    Suite,
    User,
    eventually,
    give_credits,
    request,
    sign_in,
    sign_up,
    try_to_sign_in,
)

ME = "/api/v1/users/me"
CONVERSATIONS = "/api/v1/conversations"
CREDITS = "/api/v1/credits"
USERS = "/api/v1/admin/users"
REASON = {"reason": "Because a test wants it"}
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + bytes(100)
LOOK_EVERY_S = 1.5
FELT_WITHIN_S = 30
"""How long a process believes what it has read."""
ERASED_WITHIN_S = 90


@dataclass
class Refused:
    """What somebody was told in the end, and when they asked the last time that they were let in."""

    answer: Answer
    last_let_in_s: float


@dataclass
class Leaver:
    """Somebody with something in every place, who took it along and left."""

    user: User
    key: str
    csrf_token: str
    cookie: str
    conversation: str
    export: dict
    download: Answer
    resumed: dict
    accepted: dict


@dataclass
class Endings:
    """What was begun at the same time."""

    revoked_key: Future[Refused]
    suspended: User
    suspended_at_credits: Future[Refused]
    rules_after_suspension: Answer
    sign_in_after_suspension: Answer
    leaver: Leaver
    leaver_at_chat: Future[Refused]
    erasure: Future[dict]


def until_refused(ask: Callable[[], Answer]) -> Refused:
    """Ask on until it is refused. How slow the machine is makes no difference to what is measured."""
    began = time.monotonic()
    last_let_in_s = 0.0
    while True:
        asked_s = time.monotonic() - began
        answer = ask()
        if answer.status != 200:
            return Refused(answer, last_let_in_s)
        last_let_in_s = asked_s
        assert asked_s < 2 * FELT_WITHIN_S, "still let in"
        time.sleep(LOOK_EVERY_S)


def until_erased(suite: Suite, status_url: str) -> dict:
    began = time.monotonic()
    while (job := request("GET", suite.hosting + status_url).json)["state"] != "done":
        assert time.monotonic() - began < ERASED_WITHIN_S, job
        time.sleep(LOOK_EVERY_S)
    return job


def exported(user: User) -> dict:
    def done():
        job = user.api("GET", f"{ME}/export").json
        return job if job["state"] == "done" else None

    return eventually(done, "the archive")


def settled_user(suite: Suite) -> tuple[User, str, Answer, str]:
    """Somebody with a profile, a picture, a conversation that was paid for, a key and a session.

    The picture comes there without a link, for as long as a link is good an erasure waits for what may come by it.
    """
    user = sign_up(suite)
    assert user.api("PATCH", ME, {"display_name": "Grace", "bio": "Soon gone."}).status == 200
    storage.upload(f"avatars/{user.uid}/{new_id('upl')}", io.BytesIO(PNG), content_type="image/png")
    give_credits(user, 100)
    conversation = user.conversation()
    assert user.ask(conversation, "/say Herons stand very still.").status == 200
    key = user.api("POST", "/api/v1/api-keys", {"name": "A program", "scopes": ["chat:read"]}).json["key"]
    return user, conversation, user.api("POST", "/api/v1/sessions", {}), key


def resume_a_broken_export(user: User, job_id: str) -> dict:
    """As if the process that makes the archive had died: the clock's function takes the job up again."""
    over = {"state": "running", "lease_until": utc_now() - timedelta(seconds=1)}
    firestore_client().document(f"privacy_jobs/{job_id}").update(over)
    assert user.api("GET", f"{ME}/export").json["state"] == "running"
    user.suite.scheduled("resume_privacy_jobs")
    return exported(user)


def leave(suite: Suite) -> Leaver:
    user, conversation, session, key = settled_user(suite)
    asked = user.api("POST", f"{ME}/export", {})
    assert (asked.status, asked.json["download_url"]) == (202, None)
    export = exported(user)
    download = request("GET", export["download_url"])
    resumed = resume_a_broken_export(user, export["job_id"])
    assert user.api("GET", CONVERSATIONS).status == 200
    accepted = user.api("DELETE", ME)
    assert accepted.status == 202, accepted.body
    cookie = session.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
    return Leaver(user, key, session.json["csrf_token"], cookie, conversation, export, download, resumed, accepted.json)


@contextmanager
def begin_endings(suite: Suite) -> Iterator[Endings]:
    admin = sign_in(suite, "admin@craftpilot.dev")
    with ThreadPoolExecutor(4) as pool:
        leaver = leave(suite)
        leaver_at_chat = pool.submit(until_refused, lambda: leaver.user.api("GET", CONVERSATIONS))
        erasure = pool.submit(until_erased, suite, leaver.accepted["status_url"])

        owner = sign_up(suite)
        key = owner.api("POST", "/api/v1/api-keys", {"name": "Lost", "scopes": ["chat:read"]}).json
        header = {"X-API-Key": key["key"]}
        assert request("GET", suite.hosting + CONVERSATIONS, **header).status == 200
        assert owner.api("DELETE", f"/api/v1/api-keys/{key['id']}").status == 204
        revoked_key = pool.submit(until_refused, lambda: request("GET", suite.hosting + CONVERSATIONS, **header))

        suspended = sign_up(suite)
        assert suspended.api("GET", CREDITS).status == 200
        assert suspended.document(f"users/{suspended.uid}").status == 200
        assert admin.api("POST", f"{USERS}/{suspended.uid}/suspend", REASON).json["status"] == "suspended"
        yield Endings(
            revoked_key=revoked_key,
            suspended=suspended,
            suspended_at_credits=pool.submit(until_refused, lambda: suspended.api("GET", CREDITS)),
            rules_after_suspension=suspended.document(f"users/{suspended.uid}"),
            sign_in_after_suspension=try_to_sign_in(suite, suspended.email),
            leaver=leaver,
            leaver_at_chat=leaver_at_chat,
            erasure=erasure,
        )
