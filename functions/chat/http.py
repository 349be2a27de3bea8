"""Conversations, messages, generations and models over HTTP."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from functions.chat import models, repository, schemas, service
from functions.chat.domain import DEFAULT_MODEL, Question
from functions.chat.renderers import RenderedTurn, UiMessageStream
from shared.clock import utc_now
from shared.http.function import http_function
from shared.http.routes import Call, Routes, Stream
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass
from shared.settings import OPENROUTER_API_KEY

if TYPE_CHECKING:
    from functions.chat.domain import Generation, Model
    from functions.chat.turn import Turn

UI_STREAM = "An AI SDK UI message stream, v1."
_PER_MILLION = Decimal(10**6)

routes = Routes("chat")


@routes.get("/api/v1/models", who=Permission.MODELS_READ, answer=schemas.ModelList)
def list_models(call: Call[Any, Any]) -> schemas.ModelList:  # noqa: ARG001  # every handler takes the call
    """The models that may be asked, with their prices before the mark-up."""
    return schemas.ModelList(items=[_model_view(model) for model in models.list_models()], default=DEFAULT_MODEL)


@routes.post(
    "/api/v1/conversations",
    who=Permission.CHAT_WRITE,
    body=schemas.CreateConversation,
    answer=schemas.Conversation,
    status=201,
)
def create_conversation(call: Call[schemas.CreateConversation, Any]) -> schemas.Conversation:
    """Begin a conversation."""
    return service.create_conversation(call.caller.uid, call.new_id("conv"), call.body.title, now=call.now)


@routes.get("/api/v1/conversations", who=Permission.CHAT_READ, query=schemas.PageQuery, answer=schemas.ConversationPage)
def list_conversations(call: Call[Any, schemas.PageQuery]) -> schemas.ConversationPage:
    """The caller's conversations, those with the newest messages first."""
    items, next_cursor = repository.list_conversations(call.caller.uid, call.query.limit, call.query.cursor)
    return schemas.ConversationPage(items=items, next_cursor=next_cursor)


@routes.get("/api/v1/conversations/{conversation_id}", who=Permission.CHAT_READ, answer=schemas.Conversation)
def get_conversation(call: Call[Any, Any]) -> schemas.Conversation:
    """One conversation."""
    return service.get_conversation(call.caller.uid, call.path["conversation_id"])


@routes.get(
    "/api/v1/conversations/{conversation_id}/messages",
    who=Permission.CHAT_READ,
    query=schemas.PageQuery,
    answer=schemas.MessagePage,
)
def list_messages(call: Call[Any, schemas.PageQuery]) -> schemas.MessagePage:
    """The messages of a conversation, oldest first, all branches; `parent_id` makes them a tree."""
    return service.list_messages(call.caller.uid, call.path["conversation_id"], call.query.limit, call.query.cursor)


@routes.post(
    "/api/v1/conversations/{conversation_id}/messages",
    who=Permission.CHAT_WRITE,
    body=schemas.SendMessage,
    answer=schemas.TurnAnswer,
    streams=UI_STREAM,
    limit=LimitClass.GENERATE,
)
def post_message(call: Call[schemas.SendMessage, Any]) -> schemas.TurnAnswer | Stream:
    """Ask, and get the answer.

    Streams unless `stream` is false. Firebase Hosting buffers streams and cuts them after 60 seconds: call the
    function's own URL for them. The answer is finished, stored and paid for even when the client goes away. When the
    model breaks off, a stream's message is kept as `failed`, a JSON request keeps nothing; the user pays in both what
    the provider charged.
    """
    turn = service.ask(
        call.caller.uid,
        call.path["conversation_id"],
        as_question(call.body),
        generation_id=call.new_id("gen"),
        clock=utc_now,
        keep_partial=call.body.stream,
        caller=call.caller,
    )
    if not call.body.stream:
        return whole_answer(turn, call)
    rendered = RenderedTurn(turn, UiMessageStream())
    return Stream(rendered, headers=UiMessageStream.headers, failure=lambda: turn.failure, tokens=lambda: turn.tokens)


@routes.get("/api/v1/generations/{generation_id}", who=Permission.CHAT_READ, answer=schemas.Generation)
def get_generation(call: Call[Any, Any]) -> schemas.Generation:
    """Where a generation stands."""
    return _generation_view(service.get_generation(call.caller.uid, call.path["generation_id"]))


@routes.get(
    "/api/v1/generations/{generation_id}/events",
    who=Permission.CHAT_READ,
    query=schemas.EventsQuery,
    answer=schemas.GenerationEvents,
    streams=UI_STREAM,
    limit=LimitClass.FOLLOW,
)
def read_events(call: Call[Any, schemas.EventsQuery]) -> schemas.GenerationEvents | Stream:
    """The events of a generation after number `after`: how a client that lost its stream gets the rest.

    As JSON it works through Firebase Hosting; with `Accept: text/event-stream` it streams like the message itself.
    """
    uid, generation_id = call.caller.uid, call.path["generation_id"]
    if call.wants_stream:
        frames = service.follow(uid, generation_id, UiMessageStream(), after=call.query.after)
        return Stream(frames, headers=UiMessageStream.headers)
    return service.read_events(uid, generation_id, after=call.query.after, wait_s=call.query.wait_s)


@routes.post("/api/v1/generations/{generation_id}/stop", who=Permission.CHAT_WRITE, answer=schemas.StopAnswer)
def stop_generation(call: Call[Any, Any]) -> schemas.StopAnswer:
    """Stop a generation. What was written by then is kept and paid for."""
    return service.stop(call.caller.uid, call.path["generation_id"])


def whole_answer(turn: Turn, call: Call[Any, Any]) -> schemas.TurnAnswer:
    """The turn in one piece; its tokens count also when the model failed."""
    try:
        return turn.answer()
    finally:
        call.charge_tokens(turn.tokens)


def as_question(body: schemas.Ask) -> Question:
    return Question(
        text=body.text,
        model=body.model,
        parent_id=body.parent_id,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
    )


def _generation_view(generation: Generation) -> schemas.Generation:
    return schemas.Generation(
        id=generation.id,
        status=generation.status,
        conversation_id=generation.conversation_id,
        message_id=generation.message_id,
        user_message_id=generation.user_message_id,
        model=generation.model,
        started_at=generation.started_at,
        ended_at=generation.ended_at,
        error=generation.error,
    )


def _model_view(model: Model) -> schemas.ModelView:
    return schemas.ModelView(
        id=model.slug,
        name=model.name,
        context_tokens=model.context_tokens,
        max_answer_tokens=model.max_answer_tokens,
        prompt_usd_per_million=f"{model.prompt_usd * _PER_MILLION:f}",
        completion_usd_per_million=f"{model.completion_usd * _PER_MILLION:f}",
        usd_per_request=f"{model.request_usd:f}",
    )


chat = http_function("chat", routes, secrets=[OPENROUTER_API_KEY])
