"""Users, their tokens and their requests to the chat function; the controls of the model provider's stand-in."""

import base64
import json
import time
import urllib.request
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

from flask import Request
from werkzeug.test import Client
from werkzeug.wrappers import Response

from functions.chat.domain import Question, Settings
from functions.credits import service as credits
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.http.pipeline import serve

PROJECT = "demo-craftpilot"
MICRO = 1_000_000


def id_token(uid: str, **claims) -> str:
    """An unsigned ID token, as the Auth emulator makes them."""
    now = int(time.time())
    payload = {
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "aud": PROJECT,
        "sub": uid,
        "user_id": uid,
        "auth_time": now,
        "iat": now,
        "exp": now + 3600,
        **claims,
    }
    parts = [{"alg": "none", "typ": "JWT"}, payload]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return f"{'.'.join(encoded)}."


class Standin:
    """The control surface of the OpenRouter stand-in."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fault(self, *, times: int = 1, match: dict | None = None, **faults) -> None:
        """Have the next `times` chat completions fail in this way."""
        self._post(
            "/_standin/faults", {"times": times, "match": match or {"path": "/chat/completions"}, "faults": faults}
        )

    def reset(self) -> None:
        self._post("/_standin/reset", {})

    def requests(self) -> list[dict]:
        with urllib.request.urlopen(f"{self.url}/_standin/requests", timeout=5) as answer:
            return json.load(answer)["requests"]

    def asked(self) -> list[dict]:
        """The chat completions that were asked for, oldest first."""
        return [request for request in self.requests() if request["path"].endswith("/chat/completions")]

    def _post(self, path: str, body: dict) -> None:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            answer.read()


def usage_record(generation_id: str) -> dict[str, Any]:
    record = firestore_client().collection("usage_records").document(generation_id).get().to_dict()
    assert record is not None, "every ended generation has a usage record"
    return record


def question(text: str, model: str | None = None, **options: Any) -> Question:
    """A question as the routes make it."""
    return Question(parts=({"type": "text", "text": text},), settings=Settings(model=model), **options)


@dataclass
class User:
    """A user with credits, and their requests to the chat function."""

    uid: str
    client: Client

    def request(self, method: str, path: str, body=None, **options) -> Any:
        headers = {"Authorization": f"Bearer {id_token(self.uid)}", **options.pop("headers", {})}
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.open(path, method=method, headers=headers, **options)

    def conversation(self) -> str:
        return self.request("POST", "/api/v1/conversations", {}).json["id"]

    def ask(self, conversation_id: str, content: str, **body) -> Any:
        path = f"/api/v1/conversations/{conversation_id}/messages"
        return self.request("POST", path, {"content": content, "stream": False, **body})

    def messages(self, conversation_id: str) -> list[dict]:
        return self.request("GET", f"/api/v1/conversations/{conversation_id}/messages?limit=100").json["items"]

    def balance(self):
        return credits.get_balance(self.uid, utc_now())

    def assert_money_is_in_order(self) -> None:
        """Nothing stays held, and every number agrees with a replay of the ledger."""
        assert self.balance().held_micro == 0
        assert credits.verify_account(self.uid) == []


def wsgi_client(routes, dialect=None) -> Client:
    handle = serve(routes, dialect=dialect)

    def application(environ, start_response):
        return handle(Request(environ))(environ, start_response)

    return Client(application, Response, use_cookies=False)


class NoLimits:
    """An admission that takes nothing and lets everybody in."""

    headers: ClassVar[dict[str, str]] = {}

    def charge_tokens(self, tokens: int) -> None:
        """Cost nothing."""

    def release(self) -> None:
        """Nothing was taken."""


def give(uid: str, credits_amount: float, **options) -> None:
    amount_micro = round(credits_amount * MICRO)
    credits.grant(uid, f"grant-{uuid.uuid4().hex}", amount_micro, source="test", now=utc_now(), **options)


def events_of(response: Response) -> list:
    """The frames of an event stream: JSON where they are, the text otherwise."""
    frames = [frame.removeprefix("data: ") for frame in response.get_data(as_text=True).split("\n\n") if frame]
    return [json.loads(frame) if frame.startswith("{") else frame for frame in frames]
