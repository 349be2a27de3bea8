"""Conversations, messages and generations over HTTP. Folders, search, sharing and the like declare their own routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.chat import removal, repository, schemas, service
from functions.chat.domain import ConversationState, Question, Role, Settings
from functions.chat.folders.http import routes as folders
from functions.chat.renderers import RenderedTurn, UiMessageStream
from functions.chat.search.http import routes as search
from functions.chat.sharing.http import routes as sharing
from functions.chat.transfer.http import routes as transfer
from functions.chat.uploads.http import routes as uploads
from shared.clock import utc_now
from shared.http.function import http_function
from shared.http.routes import Call, Routes, Stream
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass
from shared.settings import OPENROUTER_API_KEY

if TYPE_CHECKING:
    from datetime import datetime

    from functions.chat.domain import Generation, Part
    from functions.chat.turn import Turn

UI_STREAM = "An AI SDK UI message stream, v1."

routes = Routes("chat")
for part in (folders, search, sharing, transfer, uploads):
    routes.include(part)


# Conversations


@routes.post(
    "/api/v1/conversations",
    who=Permission.CHAT_WRITE,
    body=schemas.CreateConversation,
    answer=schemas.Conversation,
    status=201,
)
def create_conversation(call: Call[schemas.CreateConversation, Any]) -> schemas.Conversation:
    """Begin a conversation."""
    return service.create_conversation(
        call.caller.uid, call.new_id("conv"), call.body, plan=call.caller.plan, now=call.now
    )


@routes.get(
    "/api/v1/conversations",
    who=Permission.CHAT_READ,
    query=schemas.ConversationsQuery,
    answer=schemas.ConversationPage,
)
def list_conversations(call: Call[Any, schemas.ConversationsQuery]) -> schemas.ConversationPage:
    """The caller's conversations, those with the newest messages first; temporary ones are in no list."""
    query = call.query
    items, next_cursor = repository.list_conversations(
        call.caller.uid,
        query.limit,
        query.cursor,
        state=ConversationState.ARCHIVED if query.archived else ConversationState.ACTIVE,
        folder_id=query.folder_id,
        tag=query.tag,
        pinned=query.pinned,
    )
    return schemas.ConversationPage(items=items, next_cursor=next_cursor)


@routes.get("/api/v1/conversations/{conversation_id}", who=Permission.CHAT_READ, answer=schemas.Conversation)
def get_conversation(call: Call[Any, Any]) -> schemas.Conversation:
    """One conversation."""
    return service.get_conversation(call.caller.uid, call.path["conversation_id"])


@routes.patch(
    "/api/v1/conversations/{conversation_id}",
    who=Permission.CHAT_WRITE,
    body=schemas.ChangeConversation,
    answer=schemas.Conversation,
)
def change_conversation(call: Call[schemas.ChangeConversation, Any]) -> schemas.Conversation:
    """Rename it, move it, pin it, archive it, change how it answers, or switch to another branch."""
    return service.change_conversation(call.caller.uid, call.path["conversation_id"], call.body, now=call.now)


@routes.delete("/api/v1/conversations/{conversation_id}", who=Permission.CHAT_WRITE, status=204)
def delete_conversation(call: Call[Any, Any]) -> None:
    """Delete it with all that belongs to it: messages, shares, attachments. There is no way back."""
    removal.remove(call.caller.uid, call.path["conversation_id"], now=call.now)


@routes.get(
    "/api/v1/conversations/{conversation_id}/stream",
    who=Permission.CHAT_READ,
    limit=LimitClass.FOLLOW,
    streams=UI_STREAM,
)
def resume_stream(call: Call[Any, Any]) -> Stream | None:
    """The answer that is being made in this conversation, from its beginning; 204 when none is."""
    uid = call.caller.uid
    generation = service.find_running(uid, call.path["conversation_id"])
    if generation is None:
        return None
    return Stream(service.follow(uid, generation.id, UiMessageStream(), after=0), headers=UiMessageStream.headers)


# Messages


@routes.get(
    "/api/v1/conversations/{conversation_id}/messages",
    who=Permission.CHAT_READ,
    query=schemas.MessagesQuery,
    answer=schemas.MessagePage,
)
def list_messages(call: Call[Any, schemas.MessagesQuery]) -> schemas.MessagePage:
    """The messages of a conversation: all branches, oldest first (`parent_id` makes them a tree), or one branch."""
    query = call.query
    return service.list_messages(
        call.caller.uid, call.path["conversation_id"], query.limit, query.cursor, branch=query.branch
    )


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
    uid, conversation_id = call.caller.uid, call.path["conversation_id"]
    question = as_question(uid, conversation_id, call.body, now=call.now)
    return _answered(call, question, stream=call.body.stream)


@routes.delete("/api/v1/conversations/{conversation_id}/messages/{message_id}", who=Permission.CHAT_WRITE, status=204)
def delete_branch(call: Call[Any, Any]) -> None:
    """Delete a message and all that follows it."""
    removal.remove_branch(call.caller.uid, call.path["conversation_id"], call.path["message_id"], now=call.now)


@routes.post(
    "/api/v1/conversations/{conversation_id}/messages/{message_id}/edit",
    who=Permission.CHAT_WRITE,
    body=schemas.EditMessage,
    answer=schemas.TurnAnswer,
    streams=UI_STREAM,
    limit=LimitClass.GENERATE,
)
def edit_message(call: Call[schemas.EditMessage, Any]) -> schemas.TurnAnswer | Stream:
    """Ask something else in the place of a message of one's own. What was there stays, as a branch beside it."""
    uid, conversation_id = call.caller.uid, call.path["conversation_id"]
    parts = service.adopted(uid, conversation_id, parts_of(call.body.content), now=call.now)
    question = Question(parts=parts, replaces=call.path["message_id"], **_made(call.body))
    return _answered(call, question, stream=call.body.stream)


@routes.post(
    "/api/v1/conversations/{conversation_id}/messages/{message_id}/regenerate",
    who=Permission.CHAT_WRITE,
    body=schemas.MakeAnswer,
    answer=schemas.TurnAnswer,
    streams=UI_STREAM,
    limit=LimitClass.GENERATE,
)
def regenerate(call: Call[schemas.MakeAnswer, Any]) -> schemas.TurnAnswer | Stream:
    """Another answer to the same question, perhaps of another model. The first stays, as a branch beside it."""
    question = Question(regenerates=call.path["message_id"], **_made(call.body))
    return _answered(call, question, stream=call.body.stream)


@routes.post(
    "/api/v1/conversations/{conversation_id}/messages/{message_id}/continue",
    who=Permission.CHAT_WRITE,
    body=schemas.MakeAnswer,
    answer=schemas.TurnAnswer,
    streams=UI_STREAM,
    limit=LimitClass.GENERATE,
)
def continue_answer(call: Call[schemas.MakeAnswer, Any]) -> schemas.TurnAnswer | Stream:
    """More of an answer that was stopped, interrupted, or ended by its limit: as a message that goes on with it."""
    question = Question(continues=call.path["message_id"], **_made(call.body))
    return _answered(call, question, stream=call.body.stream)


# Generations


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


def as_question(uid: str, conversation_id: str, body: schemas.Ask, *, now: datetime) -> Question:
    """Raises InvalidRequest naming an attachment that is none."""
    if body.tool_results is not None:
        results = [
            {"type": "tool_result", "tool_call_id": result.tool_call_id, "text": result.content}
            for result in body.tool_results
        ]
        return Question(parts=tuple(results), role=Role.TOOL, parent_id=body.parent_id, **_made(body))
    parts = service.adopted(uid, conversation_id, parts_of(body.content or ""), now=now)
    return Question(parts=parts, parent_id=body.parent_id, **_made(body))


def parts_of(content: str | list[Any]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    return tuple(part.model_dump() for part in content)


def _made(body: schemas.Make) -> dict[str, Any]:
    """How the answer shall be made."""
    given = body.model_dump(include=set(schemas.AnswerSettings.model_fields), exclude_none=True)
    if "fallbacks" in given:
        given["fallbacks"] = tuple(given["fallbacks"])
    return {"settings": Settings(**given), "parameters": body.parameters}


def _answered(call: Call[Any, Any], question: Question, *, stream: bool) -> schemas.TurnAnswer | Stream:
    turn = service.ask(
        call.caller.uid,
        call.path["conversation_id"],
        question,
        generation_id=call.new_id("gen"),
        clock=utc_now,
        keep_partial=stream,
        caller=call.caller,
    )
    if not stream:
        return whole_answer(turn, call)
    rendered = RenderedTurn(turn, UiMessageStream())
    return Stream(rendered, headers=UiMessageStream.headers, failure=lambda: turn.failure, tokens=lambda: turn.tokens)


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


chat = http_function("chat", routes, secrets=[OPENROUTER_API_KEY])
