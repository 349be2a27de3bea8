"""`chat_send`: the chat turn as a Firebase callable, streaming for clients that ask for it.

The SDK for Python has no streaming callables; the protocol is spoken by hand over a plain request
(https://firebase.google.com/docs/functions/callable-reference).
"""

from typing import Any

from functions.chat import schemas, service
from functions.chat.http import as_question
from functions.chat.renderers import CallableFrames, RenderedTurn
from shared.clock import utc_now
from shared.http.dialects import Callable
from shared.http.function import http_function
from shared.http.routes import Call, Routes, Stream, Who
from shared.settings import OPENROUTER_API_KEY

routes = Routes("chat_send")


@routes.post("/", who=Who.SIGNED_IN, body=schemas.ChatSend, answer=schemas.TurnAnswer)
def send(call: Call[schemas.ChatSend, Any]) -> schemas.TurnAnswer | Stream:
    """Ask in a conversation, or in a new one when none is named."""
    uid = call.caller.uid
    conversation_id = call.body.conversation_id or service.create_conversation(uid, None, now=call.now).id
    question = as_question(call.body)
    turn = service.ask(uid, conversation_id, question, clock=utc_now, keep_partial=call.wants_stream)
    if not call.wants_stream:
        return turn.answer()
    rendered = RenderedTurn(turn, CallableFrames(turn))
    return Stream(rendered, headers=CallableFrames.headers, failure=lambda: turn.failure)


chat_send = http_function("chat_send", routes, dialect=Callable(), secrets=[OPENROUTER_API_KEY])
