"""The OpenAI-compatible function in this process: Firestore and Redis emulated, the provider its stand-in."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from werkzeug.test import Client

from functions.access import service as access
from functions.credits import service as credits
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.http.dialects import OpenAI
from shared.identity.caller import Caller
from shared.identity.permissions import KEY_SCOPES
from tests.store.chat.support import Standin, events_of, give, id_token, usage_record, wsgi_client

MODEL = "openai/gpt-4o-mini"
EMBEDDING_MODEL = "openai/text-embedding-3-small"


@dataclass
class Program:
    """A program that asks with a user's token, or with their API key."""

    uid: str
    client: Client
    standin: Standin
    key: str | None = None

    def post(self, path: str, body: Any, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.open(path, method="POST", data=data, headers=self._headers(headers))

    def get(self, path: str) -> Any:
        return self.client.open(path, method="GET", headers=self._headers({}))

    def chat(self, text: str = "/say Hello there.", *, headers: dict[str, str] | None = None, **body: Any) -> Any:
        asked = {"model": MODEL, "messages": [{"role": "user", "content": text}], **body}
        return self.post("/v1/chat/completions", asked, **(headers or {}))

    def stream(self, text: str = "/say Hello there.", **body: Any) -> list[Any]:
        answer = self.chat(text, stream=True, **body)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return events_of(answer)

    def embed(self, given: Any = "Hello", *, headers: dict[str, str] | None = None, **body: Any) -> Any:
        return self.post("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": given, **body}, **(headers or {}))

    def sent(self) -> dict[str, Any]:
        """The body of the newest request to the provider."""
        body: dict[str, Any] = self.standin.requests()[-1]["body"]
        return body

    def held_micro(self) -> int:
        return credits.get_balance(self.uid, utc_now()).held_micro

    def spent_micro(self, before: int = 1_000_000_000) -> int:
        return before - credits.get_balance(self.uid, utc_now()).available_micro

    def usage(self, completion_id: str) -> dict[str, Any]:
        return usage_record(completion_id.replace("chatcmpl-", "gen_"))

    def generations(self) -> list[dict[str, Any]]:
        collection = firestore_client().collection("users").document(self.uid).collection("generations")
        return [snapshot.to_dict() or {} for snapshot in collection.get()]

    def assert_money_is_in_order(self) -> None:
        assert self.held_micro() == 0
        assert credits.verify_account(self.uid) == []

    def with_key(self, **limits: Any) -> "Program":
        """The same user by an API key."""
        wish = access.KeyWish(
            name="program",
            scopes=sorted(KEY_SCOPES),
            expires_at=None,
            monthly_limit_micro=limits.get("monthly_limit_micro"),
            allowed_models=limits.get("allowed_models"),
        )
        key_id = f"key_{uuid.uuid4().hex}"
        _, secret = access.make_key(Caller(uid=self.uid), wish, key_id=key_id, seed=None, now=utc_now())
        return Program(self.uid, self.client, self.standin, secret)

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key or id_token(self.uid)}", **more}


@pytest.fixture(scope="session")
def openai_client(catalogue):
    from functions.openai_api.http import routes

    return wsgi_client(routes, OpenAI())


@pytest.fixture
def poor_program(standin, openai_client, uid, no_limits):
    """Of a user without any credits."""
    program = Program(uid, openai_client, standin)
    assert program.get("/v1/models").status_code == 200, "the first request opens the account"
    return program


@pytest.fixture
def program(poor_program):
    """Of a user with a thousand credits."""
    give(poor_program.uid, 1000)
    return poor_program
