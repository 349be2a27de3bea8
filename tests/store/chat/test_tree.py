"""The message tree: edits, other answers, more of an answer, branches; and what of a long talk goes along."""

import pytest

from functions.chat import repository
from functions.models.domain import FOR_ANYONE
from shared import store
from shared.clients import firestore_client
from tests.store.chat.support import events_of, give

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def act(user, conversation, message_id, verb, **body):
    path = f"/api/v1/conversations/{conversation}/messages/{message_id}/{verb}"
    return user.request("POST", path, {"stream": False, **body})


def change(user, conversation, **body):
    return user.request("PATCH", f"/api/v1/conversations/{conversation}", body)


def view(user, conversation):
    return user.request("GET", f"/api/v1/conversations/{conversation}").json


def branch(user, conversation, end="tip", limit=100):
    """The ids of a branch, oldest first, read page by page."""
    seen, cursor = [], ""
    while cursor is not None:
        path = f"/api/v1/conversations/{conversation}/messages?branch={end}&limit={limit}"
        page = user.request("GET", f"{path}{cursor and '&cursor=' + cursor}").json
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    return seen[::-1]


def told(standin):
    """What the model was asked with last."""
    return [(message["role"], message["content"]) for message in standin.asked()[-1]["body"]["messages"]]


# Edits and other answers


def test_an_edit_stands_beside_the_first_version_and_becomes_the_branch_in_use(user, standin):
    conversation = user.conversation()
    first = user.ask(conversation, "/say one").json
    second = user.ask(conversation, "/say two").json
    edited = act(user, conversation, second["user_message"]["id"], "edit", content="/say three").json
    assert edited["user_message"]["parent_id"] == first["message"]["id"]
    assert told(standin) == [("user", "/say one"), ("assistant", "one"), ("user", "/say three")]
    assert view(user, conversation)["tip"] == edited["message"]["id"]
    assert view(user, conversation)["message_count"] == len(user.messages(conversation)) == 6
    user.assert_money_is_in_order()


def test_the_first_question_can_be_edited_too(user, standin):
    conversation = user.conversation()
    first = user.ask(conversation, "/say one").json
    edited = act(user, conversation, first["user_message"]["id"], "edit", content="/say other").json
    assert edited["user_message"]["parent_id"] is None
    assert told(standin) == [("user", "/say other")]


def test_another_answer_stands_beside_the_first_and_asks_no_new_question(user, standin):
    conversation = user.conversation()
    first = user.ask(conversation, "/say one").json
    again = act(user, conversation, first["message"]["id"], "regenerate", temperature=0.3).json
    assert again["user_message"] is None
    assert again["message"]["parent_id"] == first["user_message"]["id"]
    assert told(standin) == [("user", "/say one")]
    assert standin.asked()[-1]["body"]["temperature"] == 0.3
    assert view(user, conversation)["message_count"] == len(user.messages(conversation)) == 3
    user.assert_money_is_in_order()


def test_a_question_whose_answer_failed_can_be_answered_again(user, standin):
    conversation = user.conversation()
    standin.fault(stream_error_a=2)
    user.ask(conversation, "/repeat 20 word", stream=True).get_data()
    question = user.messages(conversation)[0]
    again = act(user, conversation, question["id"], "regenerate").json
    assert again["message"]["parent_id"] == question["id"]
    assert again["message"]["status"] == "completed"


def test_more_of_an_answer_goes_on_with_it(user, standin):
    conversation = user.conversation()
    cut = user.ask(conversation, "/repeat 50 word", max_tokens=5).json
    assert cut["message"]["finish_reason"] == "length"
    more = act(user, conversation, cut["message"]["id"], "continue").json
    assert more["message"]["parent_id"] == more["message"]["continues"] == cut["message"]["id"]
    assert [role for role, _ in told(standin)] == ["user", "assistant", "user"]
    user.ask(conversation, "/say then")
    asked = told(standin)
    assert [role for role, _ in asked] == ["user", "assistant", "user"]
    assert asked[1][1] == cut["message"]["parts"][-1]["text"] + more["message"]["parts"][-1]["text"]


@pytest.mark.parametrize(
    ("verb", "of"),
    [("edit", "message"), ("continue", "user_message"), ("edit", None), ("regenerate", None), ("continue", None)],
)
def test_what_cannot_be_done_with_a_message_is_refused_and_costs_nothing(user, standin, verb, of):
    conversation = user.conversation()
    first = user.ask(conversation, "/say one").json
    before = user.balance().available_micro
    body = {"content": "/say x"} if verb == "edit" else {}
    response = act(user, conversation, first[of]["id"] if of else "msg_nowhere", verb, **body)
    assert response.status_code == (400 if of else 404)
    assert [error["field"] for error in response.json.get("errors", [])] == (["message_id"] if of else [])
    assert user.balance().available_micro == before
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_a_stream_of_another_answer_is_a_stream_like_any_other(user):
    conversation = user.conversation()
    first = user.ask(conversation, "/say one").json
    frames = events_of(act(user, conversation, first["message"]["id"], "regenerate", stream=True))
    assert frames[0]["messageMetadata"]["user_message_id"] is None
    assert frames[-1] == "[DONE]"


# Branches


def test_a_conversation_goes_on_where_its_user_switched_to(user, standin):
    conversation = user.conversation()
    first = user.ask(conversation, "/say one").json
    user.ask(conversation, "/say two")
    assert change(user, conversation, tip=first["message"]["id"]).status_code == 200
    third = user.ask(conversation, "/say three").json
    assert third["user_message"]["parent_id"] == first["message"]["id"]
    assert told(standin) == [("user", "/say one"), ("assistant", "one"), ("user", "/say three")]
    fourth = user.ask(conversation, "/say four").json
    expected = [first["user_message"], first["message"], third["user_message"], third["message"]]
    expected += [fourth["user_message"], fourth["message"]]
    assert branch(user, conversation) == [message["id"] for message in expected]


def test_a_branch_comes_in_pages_from_its_end(user):
    conversation = user.conversation()
    ids = []
    for place in range(4):
        answer = user.ask(conversation, f"/say {place}").json
        ids += [answer["user_message"]["id"], answer["message"]["id"]]
    assert branch(user, conversation, limit=3) == ids
    assert branch(user, conversation, end=ids[3], limit=1) == ids[:4]


@pytest.mark.parametrize("tip", ["msg_nowhere", None])
def test_a_branch_that_is_none_cannot_be_switched_to(user, tip):
    response = change(user, user.conversation(), tip=tip)
    assert (response.status_code, response.json["errors"][0]["field"]) == (400, "tip")


def test_a_question_to_a_branch_that_is_gone_is_refused(user, standin):
    conversation = user.conversation()
    first = user.ask(conversation, "/say one").json
    second = user.ask(conversation, "/say two").json
    path = f"/api/v1/conversations/{conversation}/messages/{second['user_message']['id']}"
    assert user.request("DELETE", path).status_code == 204
    refused = user.ask(conversation, "/say x", parent_id=second["message"]["id"])
    assert (refused.status_code, refused.json["errors"][0]["field"]) == (400, "parent_id")
    assert view(user, conversation)["tip"] == first["message"]["id"]
    assert user.ask(conversation, "/say y").json["user_message"]["parent_id"] == first["message"]["id"]
    user.assert_money_is_in_order()


# Settings


def test_a_conversation_answers_as_it_was_set(user, standin):
    settings = {"system_prompt": "Be brief.", "model": FOR_ANYONE[1], "temperature": 0.1, "max_tokens": 9}
    conversation = user.request("POST", "/api/v1/conversations", {"settings": settings}).json["id"]
    user.ask(conversation, "/say one")
    body = standin.asked()[-1]["body"]
    assert body["model"] == FOR_ANYONE[1]
    assert (body["temperature"], body["max_tokens"]) == (0.1, 9)
    assert told(standin) == [("system", "Be brief."), ("user", "/say one")]
    user.ask(conversation, "/say two", model=FOR_ANYONE[0], temperature=0.9)
    body = standin.asked()[-1]["body"]
    assert (body["model"], body["temperature"], body["max_tokens"]) == (FOR_ANYONE[0], 0.9, 9)
    change(user, conversation, settings=None)
    user.ask(conversation, "/say three")
    body = standin.asked()[-1]["body"]
    assert "temperature" not in body
    assert told(standin)[0] == ("user", "/say one")
    user.assert_money_is_in_order()


def test_a_setting_that_makes_turns_dearer_is_held_for_also_by_a_process_that_does_not_know_it(user, standin):
    """The usual is assumed; when that was too little nothing is asked before enough is held."""
    settings = {"max_tokens": 16_000, "system_prompt": "x" * 8_000}
    conversation = user.request("POST", "/api/v1/conversations", {"settings": settings}).json["id"]
    standin.fault(chunk_delay_ms=20)
    answer = user.ask(conversation, "/say one").json
    assert standin.asked()[-1]["body"]["max_tokens"] == 16_000
    holds = list(firestore_client().collection(f"credit_accounts/{user.uid}/holds").stream())
    amounts = {hold.get("state"): hold.get("amount_micro") for hold in holds}
    assert set(amounts) == {"released", "settled"}
    assert amounts["settled"] > amounts["released"]
    assert answer["message"]["status"] == "completed"
    user.assert_money_is_in_order()


def test_who_can_pay_for_the_model_of_a_conversation_is_not_refused_for_the_usual_one(poor_user):
    """What is assumed of a conversation that was not read yet is no reason to refuse."""
    free = "google/gemini-2.0-flash-exp:free"
    conversation = poor_user.request("POST", "/api/v1/conversations", {"settings": {"model": free}}).json["id"]
    give(poor_user.uid, 0.000001)
    answer = poor_user.ask(conversation, "/say free")
    assert (answer.status_code, answer.json["message"]["model"]) == (200, free)
    poor_user.assert_money_is_in_order()


@pytest.mark.parametrize("field", ["model", "fallbacks"])
def test_a_conversation_cannot_be_set_to_a_model_that_is_not_offered(user, field):
    value = "nobody/nothing" if field == "model" else ["nobody/nothing"]
    response = user.request("POST", "/api/v1/conversations", {"settings": {field: value}})
    assert (response.status_code, response.json["errors"][0]["field"]) == (400, f"settings.{field}")


def test_only_what_is_given_changes(user):
    conversation = user.request(
        "POST", "/api/v1/conversations", {"title": "Birds", "tags": ["nature"], "settings": {"temperature": 1}}
    ).json["id"]
    changed = change(user, conversation, pinned=True, archived=True).json
    assert (changed["title"], changed["tags"], changed["settings"]["temperature"]) == ("Birds", ["nature"], 1)
    assert (changed["pinned"], changed["state"]) == (True, "archived")
    assert view(user, conversation) == changed
    assert change(user, conversation, title=None, tags=None).json["title_source"] == "default"


def test_lists_show_what_they_were_asked_for(user):
    made = {}
    for name, body in {
        "plain": {},
        "tagged": {"tags": ["work"]},
        "temporary": {"temporary": True},
        "archived": {},
        "pinned": {},
    }.items():
        made[name] = user.request("POST", "/api/v1/conversations", body).json["id"]
    change(user, made["archived"], archived=True)
    change(user, made["pinned"], pinned=True)

    def listed(query):
        items = user.request("GET", f"/api/v1/conversations{query}").json["items"]
        return {name for name, made_id in made.items() if made_id in {item["id"] for item in items}}

    assert listed("") == {"plain", "tagged", "pinned"}
    assert listed("?archived=true") == {"archived"}
    assert listed("?tag=work") == {"tagged"}
    assert listed("?pinned=true") == {"pinned"}


# Tools


def test_tools_are_called_and_answered(user, standin):
    conversation = user.conversation()
    first = user.ask(conversation, "/tool look", tools=[LOOK]).json
    calls = [part for part in first["message"]["parts"] if part["type"] == "tool_call"]
    assert calls, first
    assert first["message"]["finish_reason"] == "tool_calls"
    results = [{"tool_call_id": call["id"], "content": "a heron"} for call in calls]
    path = f"/api/v1/conversations/{conversation}/messages"
    second = user.request("POST", path, {"tool_results": results, "tools": [LOOK], "stream": False}).json
    assert second["user_message"]["role"] == "tool"
    roles = [role for role, _ in told(standin)]
    assert roles == ["user", "assistant", *["tool"] * len(calls)]
    assert standin.asked()[-1]["body"]["messages"][1]["tool_calls"][0]["id"] == calls[0]["id"]
    user.assert_money_is_in_order()


def test_results_that_answer_no_call_are_refused_before_anything_is_held(user, standin):
    conversation = user.conversation()
    user.ask(conversation, "/say one")
    path = f"/api/v1/conversations/{conversation}/messages"
    body = {"tool_results": [{"tool_call_id": "nowhere", "content": "x"}], "stream": False}
    response = user.request("POST", path, body)
    assert (response.status_code, response.json["errors"][0]["field"]) == (400, "tool_results[0].tool_call_id")
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


# Fallbacks


def test_another_model_answers_when_the_first_fails_before_its_first_word(user, standin):
    first, second = FOR_ANYONE
    standin.fault(times=10, match={"path": "/chat/completions", "model": first}, status="503", retry_after=1)
    conversation = user.conversation()
    answer = user.ask(conversation, "/say here", model=first, fallbacks=[second]).json
    assert answer["message"]["model"] == second
    assert standin.asked()[-1]["body"]["model"] == second
    user.assert_money_is_in_order()


def test_another_model_answers_when_the_first_breaks_off_before_its_first_word(user, standin):
    first, second = FOR_ANYONE
    standin.fault(times=10, match={"path": "/chat/completions", "model": first}, stream_error_c=0)
    conversation = user.conversation()
    answer = user.ask(conversation, "/say here", model=first, fallbacks=[second])
    assert answer.status_code == 200, answer.json
    assert answer.json["message"]["model"] == second
    user.assert_money_is_in_order()


def test_no_other_model_answers_once_something_was_said(user, standin):
    first, second = FOR_ANYONE
    standin.fault(times=10, match={"path": "/chat/completions", "model": first}, stream_error_a=3)
    conversation = user.conversation()
    frames = events_of(user.ask(conversation, "/repeat 20 word", model=first, fallbacks=[second], stream=True))
    assert [request["body"]["model"] for request in standin.asked()] == [first]
    assert any(frame != "[DONE]" and frame["type"] == "error" for frame in frames)
    user.assert_money_is_in_order()


# Long conversations


def test_what_goes_along_is_bounded_and_the_newest(user, standin):
    conversation = user.conversation()
    for place in range(6):
        user.ask(conversation, f"/say {place} " + "x" * 400, context_tokens=1_000)
    user.ask(conversation, "/say last", context_tokens=1_000)
    asked = standin.asked()[-1]["body"]["messages"]
    assert sum(len(message["content"]) for message in asked) <= 1_000 + len("/say last")
    assert asked[0]["role"] == "user"
    assert asked[-2]["content"].startswith("5 ")


def test_a_turn_reads_the_same_little_of_a_long_conversation(user, monkeypatch):
    conversation = user.conversation()
    for place in range(3):
        user.ask(conversation, f"/say {place}")
    monkeypatch.setattr(repository, "_run", lambda _: pytest.fail("a query was made"))
    monkeypatch.setattr(repository, "_get", lambda _: pytest.fail("a message was read"))
    assert user.ask(conversation, "/say once more").status_code == 200


def test_a_context_that_was_lost_is_made_anew(user, standin):
    conversation = user.conversation()
    user.ask(conversation, "/say one")
    batch = store.new_batch()
    batch.delete(store.document("users", user.uid, "contexts", conversation))
    store.commit(batch)
    user.ask(conversation, "/say two")
    assert told(standin) == [("user", "/say one"), ("assistant", "one"), ("user", "/say two")]


def test_two_turns_at_once_leave_a_context_that_fits_the_tip(user, standin):
    from concurrent.futures import ThreadPoolExecutor

    conversation = user.conversation()
    user.ask(conversation, "/say start")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda place: user.ask(conversation, f"/say {place}"), range(4)))
    path = branch(user, conversation)
    texts = {message["id"]: message["parts"][-1]["text"] for message in user.messages(conversation)}
    user.ask(conversation, "/say after")
    assert [content for _, content in told(standin)] == [*[texts[each] for each in path], "/say after"]
