"""The Firebase JS SDK: a new user's app, its first call and its listener on the account."""

import pytest

from tests.clients.conftest import INSTALLING_TAKES_ITS_TIME

pytestmark = INSTALLING_TAKES_ITS_TIME


@pytest.fixture(scope="module")
def seen(script):
    """What an app saw from its user's first moment on."""
    return script("account.mjs")


def test_the_first_call_opens_the_account_and_gives_what_an_app_needs(seen):
    profile = seen["first"]["profile"]
    assert (profile["uid"], profile["email"]) == (seen["uid"], seen["email"])
    assert (profile["role"], profile["status"], profile["plan"]) == ("user", "active", "free")
    assert seen["first"]["preferences"]["theme"] == "system"


def test_a_listener_that_was_there_first_sees_the_account_appear_and_then_each_change_once(seen):
    opened = {"username": seen["first"]["profile"]["username"], "display_name": None, "role": "user", "plan": "free"}
    assert seen["status"] == 200
    assert seen["seen"] == [None, opened, {**opened, "display_name": "Ada"}]


def test_the_next_call_gives_the_same_account_with_the_change(seen):
    first, again = seen["first"]["profile"], seen["again"]["profile"]
    assert again == {**first, "display_name": "Ada", "updated_at": again["updated_at"]}
    assert seen["again"]["preferences"] == seen["first"]["preferences"]


def test_an_app_cannot_write_the_account_itself(seen):
    assert seen["refused"]["code"] == "permission-denied"
