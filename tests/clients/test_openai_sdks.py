"""Programs that were written for OpenAI's API run unchanged: its official SDKs, and LangChain's client of it."""

import re

import pytest

from tests.clients.conftest import INSTALLING_TAKES_ITS_TIME

pytestmark = INSTALLING_TAKES_ITS_TIME

SDKS = {"python 3": "openai", "python 2": "openai-2", "javascript": "openai.mjs"}
WEATHER = {"name": "get_weather", "arguments": {"city": "İzmir"}, "finish_reason": "tool_calls"}
REFUSALS = {
    "bad_key": ("AuthenticationError", 401, "invalid_api_key", None),
    "no_model": ("NotFoundError", 404, "model_not_found", "model"),
    "no_such_model": ("NotFoundError", 404, "model_not_found", "model"),
    "bad_parameter": ("BadRequestError", 400, "invalid_value", "temperature"),
    "unknown_parameter": ("BadRequestError", 400, "unknown_parameter", "shape"),
    "several_answers": ("BadRequestError", 400, "unsupported_value", "n"),
    "orphan": ("BadRequestError", 400, "invalid_value", "messages[0].tool_call_id"),
    "no_images": ("NotFoundError", 404, "unknown_url", None),
    "limited": ("RateLimitError", 429, "rate_limit_exceeded", None),
}


@pytest.fixture(
    scope="module",
    params=[(sdk, door) for sdk in SDKS for door in ("function",)]
    + [("python 3", "hosting"), ("javascript", "hosting")],
    ids=lambda param: f"{param[0]} by {param[1]}",
)
def seen(request, openai_program):
    """What a program of this SDK saw, which came to the function's own address or through Hosting."""
    sdk, door = request.param
    return openai_program(SDKS[sdk], door)


def test_it_is_the_sdk_that_was_meant(seen, request):
    major = {"python 3": "3.", "python 2": "2.", "javascript": "7."}
    wanted = next(version for sdk, version in major.items() if f"[{sdk} by" in request.node.name)
    assert seen["version"].startswith(wanted)


def test_an_answer_in_one_piece(seen):
    answer = seen["plain"]
    assert re.fullmatch(r"chatcmpl-[A-Za-z0-9]{22}", answer["id"])
    assert (answer["object"], answer["model"], answer["role"]) == ("chat.completion", "openai/gpt-4o-mini", "assistant")
    assert (answer["text"], answer["finish_reason"]) == ("Merhaba dünya 👋", "stop")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert answer["cached_tokens"] == 0


def test_a_streamed_answer_with_its_usage(seen):
    answer = seen["stream"]
    assert len(answer["ids"]) == 1
    assert answer["first_role"] == "assistant"
    assert answer["text"] == "one two three four five six"
    assert answer["finish_reasons"] == ["stop"]
    assert len(answer["usages"]) == 1
    assert not answer["last_has_choices"]


def test_answers_of_an_asynchronous_client(seen):
    if "asynchronous" not in seen:  # JavaScript knows no other clients
        assert seen["version"].startswith("7.")
        return
    answer = seen["asynchronous"]
    assert (answer["text"], answer["finish_reasons"], answer["usages"]) == ("a b c d", ["stop"], [])
    assert answer["together"] == ["number 1", "number 2"]


def test_a_tool_is_called_and_its_result_taken(seen):
    assert seen["tools"] == {**WEATHER, "answer": "31 degrees."}


def test_the_pieces_of_a_streamed_tool_call_are_put_together(seen):
    assert seen["streamed_tools"] == WEATHER


def test_an_answer_has_the_shape_that_was_asked_for(seen):
    assert set(seen["schema"]) == {"name", "people"}


def test_the_headers_are_those_that_programs_look_at(seen):
    headers = seen["headers"]
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    assert int(headers["openai-processing-ms"]) >= 0
    for what in ("requests", "tokens"):
        assert int(headers[f"x-ratelimit-limit-{what}"]) >= int(headers[f"x-ratelimit-remaining-{what}"]) > 0
        assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s", headers[f"x-ratelimit-reset-{what}"])


def test_the_models_are_listed_and_found_by_names_with_a_slash(seen):
    assert {"openai/gpt-4o-mini", "openai/text-embedding-3-small"} <= set(seen["models"])
    assert seen["model"] == "openai/gpt-4o-mini"


def test_embeddings_come_in_both_forms(seen):
    assert seen["embeddings"] == {
        "indexes": [0, 1],
        "dimensions": [8, 8],
        "same": True,
        "packed_bytes": [32, 32],
        "tokens": seen["embeddings"]["tokens"],
        "of_tokens": 2,
    }
    assert seen["embeddings"]["tokens"] > 0


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_the_error_that_programs_catch(seen, name):
    error = seen["errors"][name]
    assert (error["class"], error["status_code"], error["code"], error["param"]) == REFUSALS[name]
    assert "(trace " in error["message"]


def test_who_has_too_few_credits_is_told_at_once(seen):
    error = seen["errors"]["no_credits"]
    assert (error["status_code"], error["code"], error["type"]) == (402, "insufficient_quota", "insufficient_quota")


def test_a_stream_that_breaks_off_raises(seen):
    broken = seen["broken"]
    assert broken["streamed"]["class"] == "APIError"
    assert broken["streamed"]["code"] == "upstream_failed"
    assert broken["text"]
    assert broken["text"] != "one two three four five"


def test_an_answer_that_broke_off_is_not_asked_for_and_paid_again(seen):
    assert (seen["broken"]["whole"]["class"], seen["broken"]["whole"]["status_code"]) == ("InternalServerError", 502)
    assert seen["broken"]["asked"] == 1


def test_a_client_that_does_not_wait_gets_its_own_error(seen):
    assert seen["impatient"]["class"] in {"APITimeoutError", "APIConnectionTimeoutError"}


# LangChain


@pytest.fixture(scope="module")
def chain(openai_program):
    return openai_program("langchain", "function")


def test_langchain_gets_an_answer_with_its_usage(chain):
    assert chain["plain"]["text"] == "Merhaba dünya 👋"
    assert chain["plain"]["model"] == "openai/gpt-4o-mini"
    assert chain["plain"]["usage"]["total_tokens"] > 0
    assert chain["asynchronous"] == "later"


def test_langchain_streams_with_usage_and_without(chain):
    assert chain["streamed"]["text"] == chain["streamed_with_usage"]["text"] == "one two three four"
    assert chain["streamed_with_usage"]["usage"]["total_tokens"] > 0
    assert chain["streamed"]["metadata"]["finish_reason"] == "stop"


def test_langchain_calls_tools(chain):
    call = {"name": "get_weather", "args": {"city": "İzmir"}}
    assert chain["tools"] == {"calls": [call], "streamed": [call], "answer": "31 degrees."}


def test_langchain_gets_structured_answers_and_embeddings(chain):
    assert set(chain["structured"]) == {"name", "people"}
    assert chain["embeddings"] == {"documents": [8, 8], "query": 8}


def test_langchain_raises_what_went_wrong(chain):
    assert (chain["no_model"]["status_code"], chain["no_model"]["code"]) == (404, "model_not_found")
    assert chain["broken"]["class"] is not None
