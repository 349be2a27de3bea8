"""OpenAI's API over HTTP: chat completions, embeddings, models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from functions.chat import service as chat
from functions.chat.domain import Prompt
from functions.chat.uploads.domain import PDF_PLUGINS
from functions.models import service as models
from functions.openai_api import rendering, schemas, service
from functions.openai_api.domain import Wish, model_not_found, require_sense, slug_of
from shared.clock import utc_now
from shared.errors import AppError, FieldError, InvalidRequest
from shared.http.dialects import OpenAI
from shared.http.function import http_function
from shared.http.routes import Call, Page, Routes, Stream
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass
from shared.settings import OPENROUTER_API_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.chat.turn import Turn

_PASSED_ON = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "top_a",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "logit_bias",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning",
    "verbosity",
    "prompt_cache_key",
    "provider",
)
_PER_MILLION = 1_000_000
_OF_A_FALLBACK = re.compile(r"fallbacks\[(\d+)\]")

routes = Routes("openai_api")


@routes.post(
    "/v1/chat/completions",
    who=Permission.CHAT_WRITE,
    body=schemas.ChatCompletionRequest,
    answer=schemas.ChatCompletion,
    streams="Chat completion chunks as server-sent events, the last `[DONE]`.",
    limit=LimitClass.GENERATE,
    max_body_bytes=schemas.MAX_BODY_BYTES,
    too_large="send fewer or shorter messages, and images by their address",
)
def create_chat_completion(call: Call[schemas.ChatCompletionRequest, Any]) -> Page | Stream:
    """Answer a conversation that the client keeps.

    Nothing of it is stored but what it cost. The answer's id is `chatcmpl-` and that of a generation without its
    `gen_`: `GET /api/v1/generations/{id}/events` tells an hour long what was said, also to a client that lost its
    connection, whose answer is finished and paid for all the same.
    """
    body = call.body
    turn = _begin(_prompt(body), call)
    with_reasoning = body.reasoning is None or not body.reasoning.exclude
    if body.stream:
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        chunks = rendering.Chunks(turn, include_usage=include_usage, with_reasoning=with_reasoning)
        return Stream(
            chunks, headers=rendering.STREAM_HEADERS, failure=lambda: turn.failure, tokens=lambda: turn.tokens
        )
    try:
        outcome = turn.result()
    finally:
        call.charge_tokens(turn.tokens)
    assert turn.ended is not None, "what has a result has ended"
    charge = turn.ended.credits.model_dump()
    return Page(rendering.completion(turn, outcome, charge, with_reasoning=with_reasoning), "application/json")


@routes.post(
    "/v1/embeddings",
    who=Permission.CHAT_WRITE,
    body=schemas.EmbeddingRequest,
    answer=schemas.EmbeddingList,
    limit=LimitClass.GENERATE,
    max_body_bytes=schemas.MAX_BODY_BYTES,
    too_large="send fewer or shorter inputs",
)
def create_embeddings(call: Call[schemas.EmbeddingRequest, Any]) -> Stream:
    """Turn texts into vectors, up to 2,048 at once."""
    body = call.body
    wish = Wish(model=body.model, inputs=_inputs(body.input), dimensions=body.dimensions)
    embedded = service.embed(wish, caller=call.caller, clock=utc_now, generation_id=call.new_id("gen"))
    pieces = rendering.embeddings(embedded, as_floats=body.encoding_format != "base64")
    return Stream(pieces, content_type="application/json", tokens=lambda: embedded.tokens)


@routes.get("/v1/models", who=Permission.MODELS_READ, answer=schemas.OfferedModels)
def list_models(call: Call[Any, Any]) -> schemas.OfferedModels:
    """The models that the caller may ask."""
    return schemas.OfferedModels(data=service.list_models(call.caller))


@routes.get("/v1/models/{author}/{name}", who=Permission.MODELS_READ, answer=schemas.OfferedModel)
def get_model(call: Call[Any, Any]) -> schemas.OfferedModel:
    """One of them, by its name: `openai/gpt-4o-mini`."""
    return service.get_model(call.caller, f"{call.path['author']}/{call.path['name']}")


@routes.get("/v1/models/{name}", who=Permission.MODELS_READ, answer=schemas.OfferedModel)
def get_model_of_openai(call: Call[Any, Any]) -> schemas.OfferedModel:
    """One of them by the name that OpenAI has for it: `gpt-4o-mini`."""
    return service.get_model(call.caller, call.path["name"])


def _begin(prompt: Prompt, call: Call[schemas.ChatCompletionRequest, Any]) -> Turn:
    try:
        return chat.complete(prompt, caller=call.caller, clock=utc_now, generation_id=call.new_id("gen"))
    except InvalidRequest as error:
        raise _in_our_fields(error, call.body) from error


def _in_our_fields(error: InvalidRequest, body: schemas.ChatCompletionRequest) -> AppError:
    """The error with the names that fields have here; a model that is not offered is not found."""
    field = error.fields[0].field if error.fields else ""
    if field == "model":
        return model_not_found(body.model)
    fallback = _OF_A_FALLBACK.fullmatch(field)
    if fallback and body.models:
        return model_not_found(body.models[int(fallback[1])], f"models[{fallback[1]}]")
    return error


def _prompt(body: schemas.ChatCompletionRequest) -> Prompt:
    """The request as a turn takes it. Raises InvalidRequest for what does not fit together."""
    said = body.model_dump(exclude_unset=True, exclude_none=True, by_alias=True, exclude={"messages"})
    messages = [_message(message) for message in body.messages]
    tools = [tool.function.name for tool in body.tools or ()]
    chosen = body.tool_choice.function.name if isinstance(body.tool_choice, schemas.ChosenTool) else None
    require_sense(messages, tools, chosen)
    _require_agreement(body)
    parameters = {name: said[name] for name in _PASSED_ON if name in said and said[name] != []}
    if body.reasoning_effort is not None:
        parameters["reasoning"] = {"effort": body.reasoning_effort}
    if "provider" in parameters:
        parameters["provider"] = {**parameters["provider"], "max_price": _highest_price(body)}
    if _has_files(messages):
        parameters["plugins"] = [dict(plugin) for plugin in PDF_PLUGINS]
    return Prompt(
        messages=tuple(messages),
        model=slug_of(body.model),
        fallbacks=tuple(map(slug_of, body.models or ())),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        parameters=parameters,
    )


def _require_agreement(body: schemas.ChatCompletionRequest) -> None:
    """No two fields say the same, and none speaks of what is not there. Raises InvalidRequest."""
    rules = (
        (
            body.max_tokens and body.max_completion_tokens,
            "max_tokens",
            "is the old name of max_completion_tokens; send one",
        ),
        (body.reasoning and body.reasoning_effort, "reasoning_effort", "is said by reasoning too; send one"),
        (body.stream_options and not body.stream, "stream_options", "is only for streams: set stream"),
        (body.tool_choice and not body.tools, "tool_choice", "is only for requests with tools"),
        (
            body.parallel_tool_calls is not None and not body.tools,
            "parallel_tool_calls",
            "is only for requests with tools",
        ),
        (
            body.provider and body.models,
            "models",
            "cannot be combined with provider: each model has a price of its own",
        ),
    )
    for broken, field, problem in rules:
        if broken:
            raise InvalidRequest(f"Check: {field}.", fields=[FieldError(field, problem)])


def _message(message: Any) -> dict[str, Any]:
    """A message with what goes to the model: what was sent, and nothing that only our answers have."""
    said: dict[str, Any] = message.model_dump(exclude_unset=True)
    if said["role"] != "assistant":
        return {name: value for name, value in said.items() if value is not None}
    reasoning = said.pop("reasoning_content", None)
    said.pop("annotations", None)
    for call in said.get("tool_calls") or ():
        call.pop("index", None)
        call["type"] = "function"
    if reasoning and not said.get("reasoning"):
        said["reasoning"] = reasoning
    return {name: value for name, value in said.items() if value is not None or name == "content"}


def _has_files(messages: list[dict[str, Any]]) -> bool:
    return any(
        part["type"] == "file"
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _highest_price(body: schemas.ChatCompletionRequest) -> Mapping[str, str]:
    """What no provider may exceed whom the caller chooses: what our catalogue says, which is what is held for."""
    model = models.find(slug_of(body.model))
    if model is None:
        raise model_not_found(body.model)
    return {
        "prompt": f"{model.prompt_usd * _PER_MILLION:f}",
        "completion": f"{model.completion_usd * _PER_MILLION:f}",
        "request": f"{model.request_usd:f}",
        "image": f"{model.image_usd:f}",
    }


def _inputs(said: Any) -> tuple[str, ...] | tuple[tuple[int, ...], ...]:
    if isinstance(said, str):
        return (said,)
    if isinstance(said[0], str):
        return tuple(said)
    return (tuple(said),) if isinstance(said[0], int) else tuple(map(tuple, said))


openai_api = http_function("openai_api", routes, dialect=OpenAI(), secrets=[OPENROUTER_API_KEY])
