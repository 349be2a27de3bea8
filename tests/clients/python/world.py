"""Where the scenarios run, from their environment, and what they say of errors. Nothing of the product is imported."""

import json
import os
import urllib.request
from collections.abc import Callable
from typing import Any

BASE_URL = os.environ["OPENAI_BASE_URL"]
POOR_KEY = os.environ["CRAFTPILOT_POOR_KEY"]
PROVIDER = os.environ["CRAFTPILOT_OPENROUTER_URL"]
MODEL = "openai/gpt-4o-mini"
FAULTY_MODEL = os.environ["CRAFTPILOT_FAULTY_MODEL"]
"""Asked by nobody else, so that nobody else gets the faults that were queued for it."""
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASK_WEATHER = [{"role": "user", "content": '/tool get_weather {"city": "İzmir"}'}]
CITY = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
            "required": ["name", "people"],
            "additionalProperties": False,
        },
    },
}


def say(text: str) -> list[dict[str, str]]:
    """A conversation whose answer is this text."""
    return [{"role": "user", "content": f"/say {text}"}]


def fault(faults: str, times: int = 1) -> None:
    """Make the provider behave in this way for the next requests for the faulty model."""
    match = {"path": "/chat/completions", "model": FAULTY_MODEL}
    _ask("POST", "/_standin/faults", {"times": times, "match": match, "faults": faults})


def no_more_faults() -> None:
    _ask("DELETE", "/_standin/faults")


def asked_for(model: str) -> int:
    """How many chat completions the provider was asked for by this model."""
    found = _ask("GET", f"/_standin/requests?model={model}&limit=1000")["requests"]
    return sum(1 for request in found if request["path"].endswith("/chat/completions"))


def error_of(call: Callable[[], Any]) -> dict[str, Any]:
    """What the SDK raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever it is, the test judges it
        names = ("status_code", "code", "type", "param", "message")
        return {"class": type(error).__name__, **{name: getattr(error, name, None) for name in names}}
    return {"class": None}


def _ask(method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(PROVIDER + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")
