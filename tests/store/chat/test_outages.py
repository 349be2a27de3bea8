"""A database that goes away in the middle of a turn: nothing is lost, nothing stays held, nothing is paid twice."""

from collections.abc import Callable
from typing import Any

import pytest

from functions.chat import beginning, service
from functions.chat.domain import Question, Role
from shared import store
from shared.clients import redis_client
from shared.clock import utc_now
from shared.errors import Unavailable
from shared.ids import new_id
from tests.store.chat.support import User, question, usage_record
from tests.store.chat.test_generations import sweep_until_nothing_is_held

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

pytestmark = pytest.mark.usefixtures("past_lease")


def asked(user: User, conversation: str, what: Question, generation_id: str) -> Any:
    return service.ask(user.uid, conversation, what, clock=utc_now, keep_partial=True, generation_id=generation_id)


def away_from(step: int, *, applied: bool) -> Callable[[Any], Any]:
    """A commit that fails from the n-th on; `applied`: only its answer gets lost."""
    commit, done = store.commit, []

    def failing(batch: Any) -> Any:
        done.append(batch)
        if len(done) <= step:
            return commit(batch)
        if applied:
            commit(batch)
        raise Unavailable("Firestore is away.")

    return failing


@pytest.mark.parametrize("applied", [False, True], ids=["not applied", "its answer lost"])
@pytest.mark.parametrize("step", [0, 1], ids=["at the hold", "at the end"])
def test_a_turn_survives_a_database_that_goes_away(user, standin, monkeypatch, step, applied):
    monkeypatch.setattr(store, "PATIENT_PAUSES_S", (0.01,))
    conversation, generation_id = user.conversation(), new_id("gen")
    with monkeypatch.context() as outage:
        outage.setattr(store, "commit", away_from(step, applied=applied))
        try:
            running = asked(user, conversation, question("/say kept"), generation_id)
        except Unavailable:
            assert step == 0
        else:
            last = [event for batch in running for event in batch][-1]
            assert last["status"] == ("completed" if applied else "interrupted")
    redis_client().delete(f"gen:{{{generation_id}}}:alive")
    sweep_until_nothing_is_held(user)
    for _ in range(2):
        answer = asked(user, conversation, question("/say kept"), generation_id).answer()
        assert answer.message.parts[0].text == "kept"
    assert len(standin.asked()) == 1
    assert len(user.messages(conversation)) == 2
    view = user.request("GET", f"/api/v1/conversations/{conversation}").json
    assert (view["message_count"], view["tip"]) == (2, answer.message.id)
    record = usage_record(answer.generation_id)
    assert 1000 * 10**6 - user.balance().available_micro == record["charged_micro"] > 0
    user.assert_money_is_in_order()


VERBS: dict[str, Callable[[dict[str, Any]], Question]] = {
    "ask": lambda _: question("/say more"),
    "edit": lambda first: question("/say more", replaces=first["user_message"]["id"]),
    "regenerate": lambda first: Question(regenerates=first["message"]["id"]),
    "continue": lambda first: Question(continues=first["message"]["id"]),
    "tool results": lambda first: Question(
        role=Role.TOOL,
        parts=tuple(
            {"type": "tool_result", "tool_call_id": part["id"], "text": "a heron"}
            for part in first["message"]["parts"]
            if part["type"] == "tool_call"
        ),
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_whatever_was_asked_is_asked_anew_when_it_died_before_and_told_again_when_it_died_after(user, standin, verb):
    conversation, generation_id = user.conversation(), new_id("gen")
    first = user.ask(conversation, "/tool look" if verb == "tool results" else "/say one", tools=[LOOK]).json
    what = VERBS[verb](first)
    adds = 2 if what.adds_message else 1
    beginning.begin(
        beginning.Key(user.uid, generation_id), conversation, what, clock=utc_now, keep_partial=True
    )  # and the process died
    sweep_until_nothing_is_held(user)
    assert len(standin.asked()) == 1
    anew = asked(user, conversation, what, generation_id).answer()
    again = asked(user, conversation, what, generation_id).answer()
    assert again == anew
    assert len(standin.asked()) == 2
    view = user.request("GET", f"/api/v1/conversations/{conversation}").json
    assert (view["message_count"], view["tip"]) == (2 + adds, anew.message.id)
    parents = {message["id"]: message["parent_id"] for message in user.messages(conversation)}
    above = {
        "ask": first["message"]["id"],
        "edit": None,
        "regenerate": first["user_message"]["id"],
        "continue": first["message"]["id"],
        "tool results": first["message"]["id"],
    }
    newest = anew.user_message.id if anew.user_message else anew.message.id
    assert parents[newest] == above[verb]
    user.ask(conversation, "/say after")
    sent = standin.asked()[-1]["body"]["messages"]
    assert (sent[0]["role"], sent[-1]["content"]) == ("user", "/say after")
    user.assert_money_is_in_order()


@pytest.mark.parametrize("verb", ["regenerate", "continue", "edit"])
def test_a_branch_that_is_removed_while_it_is_answered_is_paid_and_stays_removed(user, standin, verb):
    conversation, generation_id = user.conversation(), new_id("gen")
    user.ask(conversation, "/say root")
    first = user.ask(conversation, "/say one").json
    standin.fault(chunk_delay_ms=20)
    running = asked(user, conversation, VERBS[verb](first), generation_id)
    next(running)
    # An edit stands beside the question, so what it follows is what has to go.
    gone = first["user_message"]["id"] if verb != "edit" else user.messages(conversation)[0]["id"]
    removed = user.request("DELETE", f"/api/v1/conversations/{conversation}/messages/{gone}")
    assert removed.status_code == 204
    running.close()
    left = {message["id"]: message["parent_id"] for message in user.messages(conversation)}
    assert all(parent is None or parent in left for parent in left.values())
    view = user.request("GET", f"/api/v1/conversations/{conversation}").json
    assert view["tip"] is None or view["tip"] in left
    assert usage_record(generation_id)["charged_micro"] > 0
    assert user.ask(conversation, "/say after").status_code == 200
    user.assert_money_is_in_order()
