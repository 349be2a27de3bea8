"""The official OpenAI client works with the stand-in as it works with the real service."""

import pytest
from openai import APIConnectionError, APIError, DefaultHttpxClient, OpenAI, RateLimitError

MESSAGES = [{"role": "user", "content": "/say Merhaba dünya 👋"}]


@pytest.fixture
def client(api):
    # There is no TLS here, and reading the certificates takes longer than a test.
    plain = DefaultHttpxClient(verify=False)
    with OpenAI(
        base_url=api.base_url, api_key="sk-or-v1-openai", max_retries=0, timeout=10, http_client=plain
    ) as client:
        yield client


def test_it_completes(client):
    completion = client.chat.completions.create(model="openai/gpt-4o-mini", messages=MESSAGES)
    assert completion.choices[0].message.content == "Merhaba dünya 👋"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert completion.usage.model_extra["cost"] > 0


@pytest.mark.parametrize(
    "faults", ["", "split=1", "keepalive=9,keepalive_between=3", "usage_shape=i", "usage_shape=ii"]
)
def test_it_streams(client, faults):
    stream = client.chat.completions.create(
        model="openai/gpt-4o-mini", messages=MESSAGES, stream=True, extra_headers={"X-Standin-Faults": faults}
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "Merhaba dünya 👋"
    assert chunks[-1].usage.completion_tokens > 0


@pytest.mark.parametrize("faults", ["", "tool_arguments=fragmented"])
def test_it_calls_tools(client, faults):
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
    with client.chat.completions.stream(
        model="openai/gpt-4o-mini",
        messages=[{"role": "user", "content": '/tool get_weather {"city": "İzmir"}'}],
        tools=[tool],
        extra_headers={"X-Standin-Faults": faults},
    ) as stream:
        completion = stream.get_final_completion()
    call = completion.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "İzmir"}')
    assert completion.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_it_embeds(client, encoding):
    answer = client.embeddings.create(model="openai/text-embedding-3-small", input=["one", "two"], **encoding)
    assert [each.index for each in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) > 1000


def test_it_lists_models(client):
    assert "openai/gpt-4o-mini" in [model.id for model in client.models.list()]


def test_it_understands_errors(client):
    with pytest.raises(RateLimitError) as refused:
        client.chat.completions.create(model="openai/gpt-4o-mini#rate_limit=platform", messages=MESSAGES)
    assert refused.value.response.json()["error"]["metadata"]["limit_source"] == "openrouter_free_tier_daily"


def test_it_understands_errors_in_a_stream(client):
    stream = client.chat.completions.create(model="openai/gpt-4o-mini#stream_error_c=1", messages=MESSAGES, stream=True)
    with pytest.raises(APIError, match="Provider returned error"):
        list(stream)


def test_it_notices_a_reset(client):
    with pytest.raises(APIConnectionError):
        client.chat.completions.create(model="openai/gpt-4o-mini#reset", messages=MESSAGES)
