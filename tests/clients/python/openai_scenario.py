"""What a program sees that uses the official OpenAI SDK, whichever line of it is found. Prints one JSON document."""

import asyncio
import json
from base64 import b64decode
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI
from world import (
    ASK_WEATHER,
    CITY,
    FAULTY_MODEL,
    MODEL,
    POOR_KEY,
    WEATHER,
    asked_for,
    error_of,
    fault,
    no_more_faults,
    say,
)

client = OpenAI(max_retries=0, timeout=60)
chat = client.chat.completions


def plain() -> dict[str, Any]:
    answer = chat.create(model=MODEL, messages=say("Merhaba dünya 👋"), temperature=0.2, max_tokens=50, user="somebody")
    choice = answer.choices[0]
    return {
        "id": answer.id,
        "object": answer.object,
        "model": answer.model,
        "role": choice.message.role,
        "text": choice.message.content,
        "finish_reason": choice.finish_reason,
        "usage": answer.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}),
        "cached_tokens": answer.usage.prompt_tokens_details.cached_tokens,
    }


def stream() -> dict[str, Any]:
    chunks = [
        *chat.create(
            model=MODEL,
            messages=say("one two three four five six"),
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    return seen_in(chunks)


def seen_in(chunks: list[Any]) -> dict[str, Any]:
    choices = [choice for chunk in chunks for choice in chunk.choices]
    return {
        "ids": sorted({chunk.id for chunk in chunks}),
        "first_role": choices[0].delta.role,
        "text": "".join(choice.delta.content or "" for choice in choices),
        "finish_reasons": [choice.finish_reason for choice in choices if choice.finish_reason],
        "usages": [chunk.usage.total_tokens for chunk in chunks if chunk.usage],
        "last_has_choices": bool(chunks[-1].choices),
    }


async def asynchronous() -> dict[str, Any]:
    async with AsyncOpenAI(max_retries=0, timeout=60) as patient:
        created = await patient.chat.completions.create(model=MODEL, messages=say("a b c d"), stream=True)
        chunks = [chunk async for chunk in created]
        both = await asyncio.gather(
            *(patient.chat.completions.create(model=MODEL, messages=say(f"number {n}")) for n in (1, 2))
        )
    return {**seen_in(chunks), "together": [answer.choices[0].message.content for answer in both]}


def tools() -> dict[str, Any]:
    called = chat.create(model=MODEL, messages=ASK_WEATHER, tools=[WEATHER], tool_choice="auto").choices[0]
    call = called.message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 31}'}
    answer = chat.create(
        model=MODEL, messages=[*ASK_WEATHER, called.message, result, *say("31 degrees.")], tools=[WEATHER]
    )
    return {
        "finish_reason": called.finish_reason,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "answer": answer.choices[0].message.content,
    }


def streamed_tools() -> dict[str, Any]:
    with chat.stream(model=MODEL, messages=ASK_WEATHER, tools=[WEATHER]) as events:
        choice = events.get_final_completion().choices[0]
    call = choice.message.tool_calls[0]
    return {
        "finish_reason": choice.finish_reason,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
    }


def schema() -> dict[str, Any]:
    text = chat.create(model=MODEL, messages=[{"role": "user", "content": "A city"}], response_format=CITY)
    answer: dict[str, Any] = json.loads(text.choices[0].message.content)
    return answer


def headers() -> dict[str, str]:
    raw = chat.with_raw_response.create(model=MODEL, messages=say("x"))
    assert raw.parse().choices[0].message.content == "x"
    return {name.lower(): value for name, value in raw.headers.items()}


def embeddings() -> dict[str, Any]:
    asked = {"model": "openai/text-embedding-3-small", "input": ["one", "two"], "dimensions": 8}
    default = client.embeddings.create(**asked)
    floats = client.embeddings.create(**asked, encoding_format="float")
    packed = client.embeddings.create(**asked, encoding_format="base64")
    same = all(
        abs(a - b) < 1e-6
        for one, other in zip(default.data, floats.data, strict=True)
        for a, b in zip(one.embedding, other.embedding, strict=True)
    )
    return {
        "indexes": [each.index for each in default.data],
        "dimensions": [len(each.embedding) for each in default.data],
        "same": same,
        "packed_bytes": [len(b64decode(each.embedding)) for each in packed.data],
        "tokens": default.usage.total_tokens,
        "of_tokens": len(client.embeddings.create(model="text-embedding-3-small", input=[[1, 2], [3]]).data),
    }


def errors() -> dict[str, Any]:
    poor = client.with_options(api_key=POOR_KEY)
    found = {
        "bad_key": error_of(client.with_options(api_key="cp_live_wrong").models.list),
        "no_model": error_of(lambda: chat.create(model="nobody/knows-this", messages=say("x"))),
        "no_such_model": error_of(lambda: client.models.retrieve("nobody/knows-this")),
        "bad_parameter": error_of(lambda: chat.create(model=MODEL, messages=say("x"), temperature=7)),
        "unknown_parameter": error_of(lambda: chat.create(model=MODEL, messages=say("x"), extra_body={"shape": 1})),
        "several_answers": error_of(lambda: chat.create(model=MODEL, messages=say("x"), n=2)),
        "orphan": error_of(
            lambda: chat.create(model=MODEL, messages=[{"role": "tool", "tool_call_id": "a", "content": "x"}])
        ),
        "no_images": error_of(lambda: client.images.generate(model="x", prompt="x")),
        "no_credits": error_of(lambda: poor.chat.completions.create(model=MODEL, messages=say("x"))),
    }
    for _ in range(30):
        found["limited"] = error_of(lambda: poor.chat.completions.create(model=MODEL, messages=say("x")))
        if found["limited"]["status_code"] == 429:
            break
    return found


def broken() -> dict[str, Any]:
    """An answer that breaks off, streamed and in one piece; the latter by a client that would ask again."""
    fault("stream_error_c")
    pieces: list[str] = []

    def listen() -> None:
        for chunk in chat.create(model=FAULTY_MODEL, messages=say("one two three four five"), stream=True):
            pieces.extend(choice.delta.content or "" for choice in chunk.choices)

    streamed = error_of(listen)
    fault("stream_error_c", times=3)
    before = asked_for(FAULTY_MODEL)
    eager = client.with_options(max_retries=2)
    whole = error_of(lambda: eager.chat.completions.create(model=FAULTY_MODEL, messages=say("one two three four")))
    no_more_faults()
    return {
        "streamed": streamed,
        "text": "".join(pieces),
        "whole": whole,
        "asked": asked_for(FAULTY_MODEL) - before,
    }


def impatient() -> dict[str, Any]:
    fault("first_token_delay_ms=3000")
    hasty = client.with_options(timeout=0.7)
    return error_of(lambda: hasty.chat.completions.create(model=FAULTY_MODEL, messages=say("late")))


print(
    json.dumps(
        {
            "version": openai.__version__,
            "plain": plain(),
            "stream": stream(),
            "asynchronous": asyncio.run(asynchronous()),
            "tools": tools(),
            "streamed_tools": streamed_tools(),
            "schema": schema(),
            "headers": headers(),
            "models": [model.id for model in client.models.list()],
            "model": client.models.retrieve(MODEL).id,
            "embeddings": embeddings(),
            "errors": errors(),
            "broken": broken(),
            "impatient": impatient(),
        }
    )
)
