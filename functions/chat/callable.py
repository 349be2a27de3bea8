"""`chat_send`: the chat turn as a Firebase callable, streaming for clients that ask for it.

The SDK for Python has no streaming callables; the protocol is spoken by hand over a plain request
(https://firebase.google.com/docs/functions/callable-reference).
"""

from typing import Any

from functions.chat import schemas, service
from functions.chat.http import as_question, whole_answer
from functions.chat.renderers import CallableFrames, RenderedTurn
from shared.clock import utc_now
from shared.http.dialects import Callable
from shared.http.function import http_function
from shared.http.routes import Call, Routes, Stream
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass
from shared.settings import OPENROUTER_API_KEY

routes = Routes("chat_send")


@routes.post(
    "/", who=Permission.CHAT_WRITE, body=schemas.ChatSend, answer=schemas.TurnAnswer, limit=LimitClass.GENERATE
)
def send(call: Call[schemas.ChatSend, Any]) -> schemas.TurnAnswer | Stream:
    """Ask in a conversation, or in a new one when none is named."""
    uid = call.caller.uid
    conversation_id = call.body.conversation_id
    if conversation_id is None:
        wish = schemas.CreateConversation()
        plan = call.caller.plan
        conversation_id = service.create_conversation(uid, call.new_id("conv"), wish, plan=plan, now=call.now).id
    question = as_question(uid, conversation_id, call.body, now=call.now)
    turn = service.ask(
        uid,
        conversation_id,
        question,
        generation_id=call.new_id("gen"),
        clock=utc_now,
        keep_partial=call.wants_stream,
        caller=call.caller,
    )
    if not call.wants_stream:
        return whole_answer(turn, call)
    rendered = RenderedTurn(turn, CallableFrames(turn))
    return Stream(rendered, headers=CallableFrames.headers, failure=lambda: turn.failure, tokens=lambda: turn.tokens)


chat_send = http_function("chat_send", routes, dialect=Callable(), secrets=[OPENROUTER_API_KEY])
