"""Users with credits and API keys, made by the product's own services; conversations to ask in."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from functions.access import service as access
from functions.access.service import KeyWish
from functions.chat import service as chat
from functions.chat.schemas import CreateConversation
from functions.credits import service as credits
from functions.credits.domain import MICRO_PER_CREDIT
from functions.models import service as models
from functions.users import service as users
from shared import store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.identity import accounts
from shared.identity.caller import Caller
from shared.identity.permissions import Permission
from shared.identity.tokens import Person
from shared.ids import new_id

PLAN = "enterprise"
_CREDITS = 1_000_000
_AT_ONCE = 8
_MESSAGES_PER_BATCH = 400


@dataclass(frozen=True)
class User:
    """Somebody who asks, with an API key and from an address of their own: each has a limit."""

    uid: str
    key: str
    address: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "X_Forwarded_For": self.address}


def seed_catalogue() -> None:
    # The first write of a cold emulator takes seconds.
    firestore_client().document("benchmarks/turns").set({"at": utc_now()}, timeout=60)
    assert models.sync() > 0, "there is something to ask"


def make_users(number: int, *, monthly_limit: bool = False) -> list[User]:
    """`monthly_limit`: their keys have one, so high that nobody meets it."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(partial(_make_user, monthly_limit=monthly_limit), range(number)))


def make_conversations(owners: list[User]) -> list[str]:
    """A new conversation for each, in the order of the owners."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda owner: make_conversation(owner.uid), owners))


def make_conversation(uid: str) -> str:
    return chat.create_conversation(uid, new_id("conv"), CreateConversation(), plan=PLAN, now=utc_now()).id


def make_long_conversation(uid: str, messages: int) -> str:
    """A conversation that goes back and forth `messages` times, written as turns would have left it."""
    conversation_id = make_conversation(uid)
    conversation = firestore_client().collection("users").document(uid).collection("conversations")
    reference = conversation.document(conversation_id)
    began_at = utc_now() - timedelta(days=30)
    ids = [new_id("msg") for _ in range(messages)]
    for start in range(0, messages, _MESSAGES_PER_BATCH):
        batch = store.new_batch()
        for place in range(start, min(start + _MESSAGES_PER_BATCH, messages)):
            document = {
                "parent_id": ids[place - 1] if place else None,
                "role": "assistant" if place % 2 else "user",
                "parts": [{"type": "text", "text": f"Message {place} of a long conversation. " * 10}],
                "status": "completed",
                "created_at": began_at + timedelta(seconds=place),
            }
            batch.create(reference.collection("messages").document(ids[place]), document)
        store.commit(batch)
    batch = store.new_batch()
    batch.update(reference, {"tip": ids[-1], "message_count": messages})
    store.commit(batch)
    return conversation_id


def _make_user(number: int, *, monthly_limit: bool) -> User:
    now = utc_now()
    uid = f"bench-{secrets.token_hex(6)}"
    accounts.get_or_open(Person(uid, f"{uid}@example.com", email_verified=True, display_name="Benchmark"), now=now)
    users.set_plan(uid, PLAN, now=now)
    credits.grant(uid, "benchmark", _CREDITS * MICRO_PER_CREDIT, source="benchmark", now=now)
    wish = KeyWish(
        name="benchmark",
        scopes=[Permission.CHAT_READ, Permission.CHAT_WRITE, Permission.MODELS_READ],
        expires_at=None,
        monthly_limit_micro=_CREDITS * MICRO_PER_CREDIT if monthly_limit else None,
        allowed_models=None,
    )
    _, secret = access.make_key(Caller(uid=uid, plan=PLAN), wish, key_id=new_id("key"), seed=None, now=now)
    return User(uid, secret, f"198.51.{number // 250}.{number % 250 + 1}")
