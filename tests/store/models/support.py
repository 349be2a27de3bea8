"""Requests to the models function, and what was decided and told about models."""

from functools import cache
from typing import Any

from werkzeug.test import Client

from functions.models.http import routes
from shared.clients import firestore_client
from tests.store.chat.support import id_token, wsgi_client
from tests.store.users.support import Somebody

ADMIN_MODELS = "/api/v1/admin/models"
DEFAULTS = f"{ADMIN_MODELS}/defaults"
MINI, FLASH, SONNET, SPARE = (
    "openai/gpt-4o-mini",
    "google/gemini-2.5-flash",
    "anthropic/claude-sonnet-4.5",
    "mistralai/mistral-small",
)


@cache
def models_client() -> Client:
    return wsgi_client(routes)


def headers_of(somebody: Somebody) -> dict[str, str]:
    return {"Authorization": f"Bearer {id_token(somebody.uid)}"}


def item(answer: Any, slug: str) -> dict[str, Any]:
    (found,) = [each for each in answer.json["items"] if each["id"] == slug]
    return found


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [each["id"] for each in answer.json["items"]]


def stored_policy(policy_id: str) -> Any:
    """The document, None when nothing was decided."""
    return firestore_client().collection("model_policies").document(policy_id).get().to_dict()
