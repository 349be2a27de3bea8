"""Content search over HTTP."""

from __future__ import annotations

from typing import Any

from functions.chat.search import service
from functions.chat.search.schemas import SearchPage, SearchQuery
from shared.http.routes import Call, Routes
from shared.identity.permissions import Permission

routes = Routes("chat")


@routes.get("/api/v1/conversations/search", who=Permission.CHAT_READ, query=SearchQuery, answer=SearchPage)
def search(call: Call[Any, SearchQuery]) -> SearchPage:
    """Find messages and titles of the caller by their words, newest first.

    All words must be in one message; what is quoted or written together (`user_id`), next to each other. Capitals and
    accents do not matter. A page may be short, or empty, and have a `next_cursor` all the same: the search has looked
    at as much as one request may, and goes on from there. Temporary chats are not found, archived ones are.
    """
    return service.search(call.caller.uid, call.query)
