"""A user about whom everything is known, a clock that obeys, Firebase Auth in memory, and a search without mercy."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from firebase_admin import auth, exceptions
from redis.client import Pipeline

from functions.activity import service as activity
from functions.chat.events import ConversationCreated
from functions.privacy import service
from shared import events, storage, store
from shared.clients import firestore_client, redis_client, storage_bucket
from shared.events import Event

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
AVATAR = b"\x89PNG not much of a picture"


class Clock:
    """Stands still until somebody sleeps or it is told to go on."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def go_on(self, by: timedelta) -> None:
        self.now += by


@dataclass
class FakeAuth:
    """Firebase Auth as far as privacy needs it."""

    users: dict[str, Any] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    down: bool = False

    def install(self, monkeypatch) -> None:
        for name in ("get_user", "delete_user", "revoke_refresh_tokens"):
            monkeypatch.setattr(auth, name, getattr(self, name))

    def add(self, uid: str) -> None:
        self.users[uid] = SimpleNamespace(
            uid=uid,
            email=f"{uid}@example.com",
            email_verified=True,
            phone_number=None,
            display_name="Ada",
            photo_url=None,
            disabled=False,
            user_metadata=SimpleNamespace(creation_timestamp=1_772_000_000_000, last_sign_in_timestamp=None),
            custom_claims=None,
            provider_data=[
                SimpleNamespace(
                    provider_id="password",
                    uid=f"{uid}@example.com",
                    email=f"{uid}@example.com",
                    phone_number=None,
                    display_name=None,
                    photo_url=None,
                )
            ],
        )

    def get_user(self, uid, **_):
        if self.down:
            raise exceptions.UnavailableError("Firebase Auth is away")
        if uid not in self.users:
            raise auth.UserNotFoundError("no such user")
        return self.users[uid]

    def delete_user(self, uid, **_) -> None:
        self.get_user(uid)
        del self.users[uid]

    def revoke_refresh_tokens(self, uid, **_) -> None:
        self.get_user(uid)
        self.revoked.append(uid)


@dataclass
class World:
    """What a test acts with."""

    clock: Clock
    auth: FakeAuth

    def run(self, job_id: str) -> bool:
        return service.run(job_id, clock=self.clock, sleep=self.clock.sleep)

    def sweep(self) -> dict[str, int]:
        return service.sweep(now=self.clock.now, clock=self.clock)


def put(path: str, **fields: Any) -> None:
    firestore_client().document(path).set(fields)


def add_job(uid: str, kind: str, *, at: datetime = START, **fields: Any) -> str:
    """A job as the users capability begins it."""
    reference = firestore_client().collection("privacy_jobs").document()
    reference.set(
        {
            "kind": kind,
            "uid": uid,
            "state": "queued",
            "created_at": at,
            "updated_at": at,
            "attempts": 0,
            "lease_until": None,
            "progress": {"step": "queued", "done": 0, "total": 0},
            "result": None,
            **fields,
        }
    )
    job_id: str = reference.id
    return job_id


def job(job_id: str) -> dict[str, Any]:
    found = firestore_client().collection("privacy_jobs").document(job_id).get().to_dict()
    assert found is not None, "the job is there"
    return found


def happened(uid: str, n: int) -> Event:
    """An event of the user, as a capability records it; what the trigger makes of it is another matter."""
    batch = store.new_batch()
    payload = ConversationCreated(conversation_id=f"c{n}")
    event = events.record(batch, payload, uid=uid, subject=f"conversations/c{n}", at=START + timedelta(seconds=n))
    store.commit(batch)
    return event


def fill(uid: str, *, messages: int = 3) -> None:
    """Something of the user in every place that the product has, and in one that it does not have yet."""
    batch = firestore_client().batch()

    def keep(path: str, **fields: Any) -> None:
        batch.set(firestore_client().document(path), fields)

    keep(f"users/{uid}", username="ada", email=f"{uid}@example.com", status="erasing", role="user", created_at=START)
    keep(f"usernames/ada-{uid}", uid=uid, created_at=START)
    for conversation in ("c1", "c1-and-more", "c2"):
        keep(f"users/{uid}/conversations/{conversation}", title="About me", created_at=START)
        for n in range(messages):
            path = f"users/{uid}/conversations/{conversation}/messages/m{n}"
            keep(path, role="user", parts=[{"type": "text", "text": f"I am {uid}"}], created_at=START)
    keep(f"users/{uid}/conversations/deleted/messages/orphan", role="user", parts=[], created_at=START)
    keep(f"users/{uid}/generations/g1-{uid}", uid=uid, status="completed", started_at=START)
    keep(f"users/{uid}/contexts/c1", tip="m1", messages="[]", summary=f"{uid} asked", updated_at=START)
    keep(f"users/{uid}/folders/f1", name="Birds", position=0, created_at=START, updated_at=START)
    keep(f"users/{uid}/folder_names/all", names={"birds": "f1"})
    keep(
        f"users/{uid}/search_entries/m1", conversation_id="c1", message_id="m1", terms=["word"], words="word", at=START
    )
    keep(f"users/{uid}/removals/c9", at=START, reason="user")
    keep(f"shares/{uid}-hash", uid=uid, conversation_id="c1", revisions=[], created_at=START, updated_at=START)
    keep(f"share_pages/{uid}-1", uid=uid, conversation_id="c1", snapshot="s", content="[]", stored_at=START)
    keep(f"users/{uid}/attachments/upl_2", name=f"{uid}.png", state="kept", conversation_id="c1", created_at=START)
    keep(f"users/{uid}/devices/d1", token="t", platform="ios")
    keep(f"users/{uid}/diaries/x/pages/y", text="a collection that nobody has declared")
    keep(f"usage_records/g1-{uid}", uid=uid, charged_micro=5, cost_pico_usd=7, at=START)
    keep(f"credit_accounts/{uid}", available_micro=1, updated_at=START)
    for below in ("grants/g", "holds/h", "entries/e.end", "checkpoints/latest"):
        keep(f"credit_accounts/{uid}/{below}", uid=uid, at=START)
    keep(f"subscriptions/{uid}", plan="pro", status="active")
    keep(f"api_keys/digest-of-key-{uid}", uid=uid, id="key_1", name="laptop", hint="abcd")
    keep(f"sessions/digest-of-cookie-{uid}", uid=uid, id="sess_1", address="192.0.2.7")
    keep(f"key_usage/key_1-{uid}:2026-03", uid=uid, spent_micro=3)
    keep(f"idempotency/digest-{uid}", uid=uid, answer=b"sealed")
    batch.commit()
    add_job(uid, "export", state="failed")
    for n in range(3):
        activity.record(happened(uid, n), now=START)
    redis_client().set(f"session:digest-of-cookie-{uid}", json.dumps({"uid": uid}))
    redis_client().set(f"limits:{{all}}:requests:{uid}", 1)
    redis_client().set(f"preferences:{uid}", json.dumps({"uid": uid}))
    redis_client().hset(f"gen:{{g1-{uid}}}:meta", mapping={"uid": uid, "fence": "f"})
    redis_client().rpush(f"gen:{{g1-{uid}}}:events", json.dumps({"text": f"I am {uid}"}))
    names = (f"avatars/{uid}/a1", f"attachments/{uid}/upl_2", f"uploads/{uid}/upl_1", f"exports/{uid}/earlier.zip")
    for name in names:
        storage_bucket().blob(name).upload_from_string(AVATAR, content_type="image/png")


def traces(uid: str) -> list[str]:
    """Every document, Redis key and object whose name or content holds the user's id. Looks at all there is."""
    found = [path for path, fields in _all_documents() if uid in path or uid in repr(fields)]
    found += [f"redis {key}" for key, content in _all_keys() if uid in key or uid in content]
    names = [blob.name for blob in storage_bucket().list_blobs()]
    return found + [f"file {name}" for name in names if uid in name]


def _all_documents() -> Iterator[tuple[str, Any]]:
    for snapshot in firestore_client().collection_group("").get():
        yield snapshot.reference.path, snapshot.to_dict()


def _all_keys() -> list[tuple[str, str]]:
    """Every key in Redis and what it holds; asked together, for other tests leave thousands."""
    keys = sorted(redis_client().scan_iter(count=1000))
    with redis_client().pipeline(transaction=False) as asked:
        for key in keys:
            asked.type(key)
        kinds = asked.execute()
        for key, kind in zip(keys, kinds, strict=True):
            _ask_for_content(asked, key, kind)
        return [(key, repr(content)) for key, content in zip(keys, asked.execute(), strict=True)]


def _ask_for_content(asked: Pipeline, key: str, kind: str) -> None:
    readers: dict[str, Callable[[], Any]] = {
        "hash": lambda: asked.hgetall(key),
        "list": lambda: asked.lrange(key, 0, -1),
        "zset": lambda: asked.zrange(key, 0, -1),
        "set": lambda: asked.smembers(key),
    }
    readers.get(kind, lambda: asked.get(key))()


def files_of(uid: str) -> list[str]:
    return [file.name for file in storage.list_files(f"exports/{uid}/", limit=10)]
