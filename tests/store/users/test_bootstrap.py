"""`account_bootstrap`, in the protocol of callables."""

import json

from functions.users.callable import routes
from functions.users.schemas import Preferences
from shared.http.dialects import Callable
from tests.store.chat.support import id_token, wsgi_client


def call(uid=None):
    headers = {"Authorization": f"Bearer {id_token(uid)}"} if uid else {}
    return wsgi_client(routes, Callable()).post("/", data=json.dumps({"data": None}), headers=headers)


def test_the_first_call_opens_the_account_and_brings_everything_an_app_needs(auth, uid):
    first, second = call(uid), call(uid)

    assert first.status_code == 200
    assert first.json["result"]["profile"]["uid"] == uid
    assert first.json["result"]["preferences"] == Preferences().model_dump(mode="json")
    assert second.json == first.json


def test_an_anonymous_call_is_turned_away_in_its_own_words(auth):
    answer = call()

    assert (answer.status_code, answer.json["error"]["status"]) == (401, "UNAUTHENTICATED")
