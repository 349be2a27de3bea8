"""`make demo`: one chat turn through the running suite, seen from where its users see it.

Signs in with a real token of the Auth emulator, streams from the function's own URL, and reads everything else back
through Hosting or, as the admin panel does, from Firestore under the security rules.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from emulator.seed import PASSWORD
from functions.analytics.domain import total

QUESTION = "Explain in a few sentences how a heron catches a fish."
EMAIL, ADMIN = "pro@craftpilot.dev", "admin@craftpilot.dev"
PATIENCE_S = 60.0


def main() -> None:
    question = " ".join(sys.argv[1:]) or QUESTION
    hosting, functions = os.environ["CRAFTPILOT_HOSTING_URL"], os.environ["CRAFTPILOT_FUNCTIONS_URL"]
    user = Session(EMAIL)
    print(f"Signed in as {EMAIL} ({user.uid}).")

    counters_before = _todays_counters()
    before = user.call("GET", f"{hosting}/api/v1/credits")
    conversation = user.call("POST", f"{hosting}/api/v1/conversations", {})
    print(f"Balance: {before['available']} credits. Conversation: {conversation['id']}.\n\n> {question}\n")

    ended = _ask(user, f"{functions}/chat/api/v1/conversations/{conversation['id']}/messages", question)
    after = user.call("GET", f"{hosting}/api/v1/credits")
    spent = Decimal(before["available"]) - Decimal(after["available"])
    usage = ended["usage"]
    print(
        f"\n\nCost: {ended['credits']['credits']} credits for {usage['prompt_tokens']} tokens in and "
        f"{usage['completion_tokens']} out.\nBalance: {before['available']} → {after['available']} ({spent:f} less)."
    )
    entries = user.call("GET", f"{hosting}/api/v1/credits/entries?limit=2")["items"]
    print(f"Ledger: {' ← '.join(entry['kind'] for entry in entries)} (newest first).")

    question_stored, answer_stored = user.call("GET", f"{hosting}/api/v1/conversations/{conversation['id']}/messages")[
        "items"
    ]
    print(
        f"Stored: {question_stored['id']} (user) ← {answer_stored['id']} ({answer_stored['model']}, "
        f"{answer_stored['status']}, {len(answer_stored['parts'][-1]['text'])} characters)."
    )
    entry = _wait_for(lambda: _activity_of(user, hosting, answer_stored["id"]), "the activity log")
    print(f"Activity: #{entry['n']} {entry['action']}, hash {entry['hash'][:12]}…, trace {entry['trace_id'][:12]}….")
    counters = _wait_for(lambda: _counted_since(counters_before), "the day's counters")
    print(f"Analytics today: turns {counters['turns']}, tokens of answers {counters['completion_tokens']}.")
    title = _wait_for(lambda: _title(user, hosting, conversation["id"]), "the title")
    print(f"Title, made by a Pub/Sub consumer: {title!r}.")


class Session:
    """A signed-in user."""

    def __init__(self, email: str) -> None:
        host = os.environ["FIREBASE_AUTH_EMULATOR_HOST"]
        url = f"http://{host}/identitytoolkit.googleapis.com/v1/accounts:signInWithPassword?key=local"
        answer = _json(url, {"email": email, "password": PASSWORD, "returnSecureToken": True})
        self.uid: str = answer["localId"]
        self._token: str = answer["idToken"]

    def call(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        with self.open(method, url, body) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def open(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310  # our own suite
        try:
            return urllib.request.urlopen(request, timeout=PATIENCE_S)  # noqa: S310  # our own suite
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {url} answered {error.code}: {error.read().decode()}")


def _ask(user: Session, url: str, question: str) -> dict[str, Any]:
    """Print the answer as it arrives; gives what the last frame says about it."""
    with user.open("POST", url, {"content": question}) as stream:
        for frame in _frames(stream):
            if frame["type"] == "text-delta":
                print(frame["delta"], end="", flush=True)
            elif frame["type"] == "finish":
                ended: dict[str, Any] = frame["messageMetadata"]
                return ended
            elif frame["type"] == "error":
                sys.exit(f"\nThe answer failed: {frame['errorText']}")
    sys.exit("\nThe stream ended without a finish.")


def _frames(stream: Any) -> Iterator[dict[str, Any]]:
    for line in stream:
        if line.startswith(b"data: {"):
            yield json.loads(line.removeprefix(b"data: "))


def _activity_of(user: Session, hosting: str, message_id: str) -> dict[str, Any] | None:
    entries = user.call("GET", f"{hosting}/api/v1/activity?limit=10")["items"]
    found: list[dict[str, Any]] = [entry for entry in entries if entry["details"].get("message_id") == message_id]
    return found[0] if found else None


def _title(user: Session, hosting: str, conversation_id: str) -> str | None:
    title: str = user.call("GET", f"{hosting}/api/v1/conversations/{conversation_id}")["title"]
    return title if title != "New conversation" else None


def _todays_counters() -> dict[str, Any]:
    """The sum of today's shards, read as an admin under the security rules."""
    host, project = os.environ["FIRESTORE_EMULATOR_HOST"], os.environ["GCLOUD_PROJECT"]
    day = datetime.now(UTC).date().isoformat()
    url = f"http://{host}/v1/projects/{project}/databases/(default)/documents/analytics_daily/{day}/shards"
    documents = Session(ADMIN).call("GET", url).get("documents", [])
    return total(_plain({"mapValue": {"fields": document["fields"]}}) for document in documents)


def _counted_since(before: dict[str, Any]) -> dict[str, Any] | None:
    now = _todays_counters()
    return now if now.get("turns", 0) > before.get("turns", 0) else None


def _plain(value: dict[str, Any]) -> Any:
    """A value of Firestore's REST API as Python has it."""
    if "mapValue" in value:
        return {name: _plain(item) for name, item in value["mapValue"].get("fields", {}).items()}
    if "integerValue" in value:
        return int(value["integerValue"])
    return next(iter(value.values()))


def _wait_for(find: Any, what: str) -> Any:
    """Events arrive seconds after the answer."""
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at:
        if found := find():
            return found
        time.sleep(0.5)
    sys.exit(f"Waited {PATIENCE_S:.0f} s for {what} in vain.")


def _json(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310  # our own suite
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310  # our own suite
        found: dict[str, Any] = json.load(answer)
        return found


if __name__ == "__main__":
    main()
