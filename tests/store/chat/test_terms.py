"""On which terms a turn begins: those of the conversation as it is stored, whatever was thought of it before."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from functions.chat import beginning, service
from functions.chat.beginning import Facts
from functions.chat.domain import Settings
from functions.models.domain import FOR_ANYONE
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.ids import derived_id, new_id
from tests.store.chat.support import User, give, question, usage_record
from tests.store.chat.test_generations import abandon, sweep_until_nothing_is_held

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def conversation_with(user: User, **settings: Any) -> str:
    created = user.request("POST", "/api/v1/conversations", {"settings": settings})
    return str(created.json["id"])


def change(user: User, conversation: str, **settings: Any) -> None:
    path = f"/api/v1/conversations/{conversation}"
    assert user.request("PATCH", path, {"settings": settings}).status_code == 200


def sent_bytes(asked: dict[str, Any]) -> int:
    return sum(len(str(message["content"]).encode()) for message in asked["body"]["messages"])


def holds(user: User) -> dict[str, dict[str, Any]]:
    found = firestore_client().collection(f"credit_accounts/{user.uid}/holds").stream()
    return {hold.id: hold.to_dict() or {} for hold in found}


def test_a_model_that_is_only_remembered_is_no_reason_to_refuse(user, standin):
    """Another process set the conversation to another model because the first one was gone."""
    conversation = conversation_with(user, model=FOR_ANYONE[1])
    gone = Facts(settings=Settings(model="nobody/gone"))
    beginning._remembered.put(f"{user.uid}/{conversation}", gone, utc_now())
    answer = user.ask(conversation, "/say here")
    assert (answer.status_code, answer.json["message"]["model"]) == (200, FOR_ANYONE[1])
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_a_model_that_the_conversation_names_and_nobody_offers_is_refused(user, standin):
    conversation = user.conversation()
    firestore_client().document(f"users/{user.uid}/conversations/{conversation}").update(
        {"settings": {"model": "nobody/gone"}}
    )
    for _ in range(2):
        refused = user.ask(conversation, "/say here")
        assert (refused.status_code, refused.json["errors"][0]["field"]) == (400, "model")
    assert standin.asked() == []
    user.assert_money_is_in_order()


def test_less_context_goes_along_from_the_moment_that_the_conversation_says_so(user, standin):
    """The process still remembers the larger one, for which enough would be held."""
    conversation = conversation_with(user, context_tokens=32_000)
    for place in range(4):
        user.ask(conversation, f"/say {place} " + "x" * 2_000)
    assert sent_bytes(standin.asked()[-1]) > 8_000
    change(user, conversation, context_tokens=1_000)
    user.ask(conversation, "/say last")
    assert sent_bytes(standin.asked()[-1]) <= 1_000 + len("/say last")
    user.assert_money_is_in_order()


def test_more_context_is_held_for_also_when_the_answer_is_shorter(user, standin):
    """What costs less in all may still be another bound: the right one is held."""
    conversation = conversation_with(user, context_tokens=1_000, max_tokens=16_000)
    user.ask(conversation, "/say " + "x" * 3_000)
    change(user, conversation, context_tokens=64_000, max_tokens=10)
    user.ask(conversation, "/say last")
    assert sent_bytes(standin.asked()[-1]) > 6_000
    assert standin.asked()[-1]["body"]["max_tokens"] == 10
    user.assert_money_is_in_order()


def test_a_question_that_wants_less_context_takes_none_from_those_after_it(user, standin):
    conversation = user.conversation()
    user.ask(conversation, "/say " + "x" * 5_000)
    user.ask(conversation, "/say short", context_tokens=1_000)
    assert sent_bytes(standin.asked()[-1]) <= 1_000 + len("/say short")
    user.ask(conversation, "/say last")
    assert sent_bytes(standin.asked()[-1]) > 10_000
    user.assert_money_is_in_order()


@pytest.mark.parametrize("of", ["user_message", "message"])
def test_a_long_question_is_answered_once_more_as_it_was_asked(user, standin, of):
    """It is longer than what may go along of a conversation, and held for beside that."""
    conversation = user.conversation()
    user.ask(conversation, "/say before")
    long = "/say ok " + " ".join(f"ж{number}" for number in range(12_000))
    first = user.ask(conversation, long).json
    assert standin.asked()[-1]["body"]["messages"][-1]["content"] == long
    path = f"/api/v1/conversations/{conversation}/messages/{first[of]['id']}/regenerate"
    again = user.request("POST", path, {"stream": False})
    assert again.status_code == 200, again.json
    assert standin.asked()[-1]["body"]["messages"][-1]["content"] == long
    tokens = usage_record(again.json["generation_id"])["prompt_tokens"]
    settled = holds(user)[again.json["generation_id"]]
    assert tokens > 12_000
    assert settled["amount_micro"] >= settled["cost_micro"]
    user.ask(conversation, "/say after")
    assert sent_bytes(standin.asked()[-1]) <= 32_000 + len("/say after")
    user.assert_money_is_in_order()


def test_of_a_question_that_was_judged_wrongly_a_repetition_finds_the_answer(user, standin):
    """The first attempt took its hold back and asked under another id; the second process judges as wrongly."""
    conversation = conversation_with(user, max_tokens=16_000, system_prompt="x" * 8_000)
    generation_id = new_id("gen")
    told = []
    for _ in range(3):
        beginning._remembered.drop(f"{user.uid}/{conversation}")
        asked = question("/say once")
        running = service.ask(
            user.uid, conversation, asked, clock=utc_now, keep_partial=True, generation_id=generation_id
        )
        told.append(running.answer())
    assert told[0] == told[1] == told[2]
    assert told[0].generation_id == derived_id("gen", generation_id)
    assert len(standin.asked()) == 1
    assert {hold_id: hold["state"] for hold_id, hold in holds(user).items()} == {
        generation_id: "released",
        told[0].generation_id: "settled",
    }
    user.assert_money_is_in_order()


def test_a_process_that_dies_between_its_two_holds_leaves_nothing_held(user, standin, monkeypatch):
    conversation = conversation_with(user, max_tokens=16_000, system_prompt="x" * 8_000)
    generation_id = new_id("gen")
    original = beginning._let_go

    class Dies(BaseException):
        """The process is gone."""

    def let_go_and_die(*args: Any) -> None:
        original(*args)
        raise Dies

    def ask() -> Any:
        asked = question("/say once")
        return service.ask(user.uid, conversation, asked, clock=utc_now, keep_partial=True, generation_id=generation_id)

    with monkeypatch.context() as patch:
        patch.setattr(beginning, "_let_go", let_go_and_die)
        with pytest.raises(Dies):
            ask()
    assert user.balance().held_micro == 0
    assert ask().answer().message.parts[0].text == "once"
    assert ask().answer().message.parts[0].text == "once"
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_results_of_calls_that_do_not_fit_the_context_are_refused_by_name(user, standin):
    """A model refuses results without their calls; nothing is held and nothing is asked."""
    conversation = user.conversation()
    first = user.ask(conversation, "/tool look", tools=[LOOK]).json
    calls = [part for part in first["message"]["parts"] if part["type"] == "tool_call"]
    path = f"users/{user.uid}/conversations/{conversation}/messages/{first['message']['id']}"
    long = [{**call, "arguments": json.dumps({"a": "x" * 2_000})} for call in calls]
    firestore_client().document(path).update({"parts": long})
    firestore_client().document(f"users/{user.uid}/contexts/{conversation}").delete()
    results = [{"tool_call_id": call["id"], "content": "a heron"} for call in calls]
    body = {"tool_results": results, "tools": [LOOK], "stream": False}
    messages = f"/api/v1/conversations/{conversation}/messages"
    refused = user.request("POST", messages, {**body, "context_tokens": 1_000})
    assert (refused.status_code, refused.json["errors"][0]["field"]) == (400, "context_tokens")
    assert len(standin.asked()) == 1
    assert user.request("POST", messages, body).status_code == 200
    user.assert_money_is_in_order()


def test_a_long_result_of_a_tool_does_not_take_the_question_from_the_next_call(user, standin):
    conversation = user.conversation()
    answer = user.ask(conversation, "/tool look", tools=[LOOK]).json
    path = f"/api/v1/conversations/{conversation}/messages"
    for _ in range(3):
        calls = [part for part in answer["message"]["parts"] if part["type"] == "tool_call"]
        results = [{"tool_call_id": call["id"], "content": "z" * 40_000} for call in calls]
        answered = user.request("POST", path, {"tool_results": results, "tools": [LOOK], "stream": False})
        assert answered.status_code == 200, answered.json
        sent = standin.asked()[-1]["body"]["messages"]
        assert [message["role"] for message in sent[:2]] == ["user", "assistant"]
        answer = user.ask(conversation, "/tool look", tools=[LOOK]).json
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_a_process_that_dies_while_a_second_model_answers_is_paid_at_its_cost(user, standin):
    """What the first said of itself is worth nothing: it broke off, and another was asked."""
    first, second = FOR_ANYONE
    model = {"path": "/chat/completions", "model": first}
    standin.fault(times=10, match=model, stream_error_c=0)
    standin.fault(match={"path": "/chat/completions", "model": second}, chunk_delay_ms=400)
    conversation = user.conversation()
    asked = question("/repeat 30 word", first)
    asked = replace(asked, settings=Settings(model=first, fallbacks=(second,)))
    running = service.ask(user.uid, conversation, asked, clock=utc_now, keep_partial=True)
    for events in running:
        if any(event["type"] == "text" for event in events):
            break
    assert [request["body"]["model"] for request in standin.asked()][-1] == second
    abandon(running)
    sweep_until_nothing_is_held(user)
    record = usage_record(running.generation.id)
    assert record["cost_pico_usd"] == round(standin.asked()[-1]["cost"] * 10**12) > 0
    assert user.messages(conversation)[-1]["status"] == "interrupted"
    user.assert_money_is_in_order()


def test_a_burst_in_one_conversation_never_spends_more_than_there_was(poor_user):
    """Each question changes what the next one costs, and processes judge by what they remember."""
    conversation = poor_user.conversation()
    give(poor_user.uid, 3)

    def ask(place: int) -> int:
        body = {"max_tokens": 40 + place % 3, "context_tokens": 1_000 + 500 * (place % 5)}
        answer = poor_user.ask(conversation, f"/repeat {place % 25} wörter 🦘 {'ж' * 200}", **body)
        if place % 9 == 0:
            change(poor_user, conversation, context_tokens=1_000 + 100 * place, system_prompt="é" * place)
        return int(answer.json["credits"]["charged_micro"]) if answer.status_code == 200 else 0

    with ThreadPoolExecutor(12) as pool:
        charged = list(pool.map(ask, range(60)))
    assert any(charged)
    sweep_until_nothing_is_held(poor_user)
    balance = poor_user.balance()
    assert (balance.debt_micro, balance.available_micro >= 0) == (0, True)
    poor_user.assert_money_is_in_order()
