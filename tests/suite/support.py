"""The running suite as its users reach it: Hosting, function URLs, the Auth emulator, Firestore under the rules."""

import json
import os
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from functions.credits import service as credits
from functions.credits.domain import MICRO_PER_CREDIT
from shared.clock import utc_now

PATIENCE_S = 60
PASSWORD = "craftpilot"
FAULTY_MODEL = "mistralai/mistral-small"
"""Asked only by tests that want faults: the title of another test's conversation would take them away."""


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Suite:
    def __init__(self) -> None:
        self.hosting = os.environ["CRAFTPILOT_HOSTING_URL"]
        self.functions = os.environ["CRAFTPILOT_FUNCTIONS_URL"]
        self.standin = os.environ["CRAFTPILOT_OPENROUTER_URL"]
        self.auth = f"http://{os.environ['FIREBASE_AUTH_EMULATOR_HOST']}/identitytoolkit.googleapis.com/v1"
        project = os.environ["GCLOUD_PROJECT"]
        self.project = project
        self.firestore = (
            f"http://{os.environ['FIRESTORE_EMULATOR_HOST']}/v1/projects/{project}/databases/(default)/documents"
        )
        self.logs = Path(os.environ["CRAFTPILOT_SUITE_LOGS"])

    def scheduled(self, name: str) -> None:
        """Fire a scheduled function, as Cloud Scheduler would."""
        root = self.functions.removesuffix(f"/{self.project}/us-central1")
        url = f"{root}/functions/projects/{self.project}/triggers/us-central1-{name}-0"
        answer = request("POST", url, {})
        assert answer.status == 200, answer

    def fault(self, **faults) -> None:
        """For the next turn with the faulty model."""
        match = {"path": "/chat/completions", "model": FAULTY_MODEL}
        request("POST", f"{self.standin}/_standin/faults", {"times": 1, "match": match, "faults": faults})


@dataclass
class User:
    """Somebody signed in at the Auth emulator, with the token it really issued."""

    suite: Suite
    uid: str
    token: str
    email: str

    def api(self, method: str, path: str, body=None, **headers) -> Answer:
        """Through Hosting."""
        return self.open(method, f"{self.suite.hosting}{path}", body, **headers)

    def direct(self, function: str, method: str, path: str, body=None, **headers) -> Answer:
        """At the function's own URL."""
        return self.open(method, f"{self.suite.functions}/{function}{path}", body, **headers)

    def open(self, method: str, url: str, body=None, **headers) -> Answer:
        return request(method, url, body, Authorization=f"Bearer {self.token}", **headers)

    def stream(self, path: str, body: dict):
        """Times and lines of an event stream, as they arrive."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        url = f"{self.suite.functions}/chat{path}"
        sent = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers, method="POST")
        with urllib.request.urlopen(sent, timeout=PATIENCE_S) as answer:
            for line in answer:
                if line.strip():
                    yield time.monotonic(), line.decode().strip()

    def document(self, path: str) -> Answer:
        return self.open("GET", f"{self.suite.firestore}/{path}")

    def conversation(self) -> str:
        return self.api("POST", "/api/v1/conversations", {}).json["id"]

    def ask(self, conversation: str, content: str, **body) -> Answer:
        path = f"/api/v1/conversations/{conversation}/messages"
        return self.api("POST", path, {"content": content, "stream": False, **body})

    def credits(self) -> dict:
        return self.api("GET", "/api/v1/credits").json


def sign_in(suite: Suite, email: str) -> User:
    answer = try_to_sign_in(suite, email).json
    return User(suite, answer["localId"], answer["idToken"], email)


def try_to_sign_in(suite: Suite, email: str) -> Answer:
    """What Firebase Auth says to somebody who knows the password."""
    body = {"email": email, "password": PASSWORD, "returnSecureToken": True}
    return request("POST", f"{suite.auth}/accounts:signInWithPassword?key=local", body)


def sign_up(suite: Suite) -> User:
    """Somebody nobody knows yet."""
    email = f"{uuid.uuid4().hex}@example.com"
    body = {"email": email, "password": PASSWORD, "returnSecureToken": True}
    answer = request("POST", f"{suite.auth}/accounts:signUp?key=local", body).json
    return User(suite, answer["localId"], answer["idToken"], email)


def give_credits(user: User, count: int) -> None:
    """What only the ledger can do, done in this process with the suite's settings."""
    credits.grant(user.uid, "gift", count * MICRO_PER_CREDIT, source="tests", note="For a test", now=utc_now())


def set_account(user: User, **fields: str) -> None:
    """Change fields of an account as only the server may; it exists once its user has asked for anything."""
    user.api("GET", "/api/v1/users/me")
    mask = "&".join(f"updateMask.fieldPaths={name}" for name in fields)
    body = {"fields": {name: {"stringValue": value} for name, value in fields.items()}}
    answer = request("PATCH", f"{user.suite.firestore}/users/{user.uid}?{mask}", body, Authorization="Bearer owner")
    assert answer.status == 200, answer


def request(method: str, url: str, body=None, **headers) -> Answer:
    """A body is sent as JSON, bytes as they are."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = urllib.request.Request(
        url, data=data, headers={"Content-Type": "application/json", **headers}, method=method
    )
    try:
        with urllib.request.urlopen(sent, timeout=PATIENCE_S) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def eventually(find, what: str):
    """What `find` gives once it gives something; triggers take seconds."""
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at:
        if found := find():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {PATIENCE_S} s for {what} in vain")
