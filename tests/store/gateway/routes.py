"""Who may call which route: stated a second time, by hand, so that the declarations are held against something.

A route that is not in this table fails the matrix; so does a row without a route.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Rank(IntEnum):
    """Roles in order: each may all that those before it may."""

    ANONYMOUS = 0
    USER = 1
    SUPPORT = 2
    MODERATOR = 3
    ADMIN = 4


@dataclass(frozen=True)
class Row:
    """One route: who at least may call it, whose the resource in its path is, and a request that it would take."""

    least: Rank
    owned: bool = False
    """The path names something that belongs to somebody: strangers are told that it is not there."""
    body: dict[str, Any] | None = None
    query: dict[str, str] = field(default_factory=dict)
    spoils: bool = False
    """Nobody can go on with an account or sign-in that did this."""
    nothing_there: bool = False
    """Whoever is let in may still be told that there is nothing yet: 404."""
    by_key: bool = False
    """Programs with an API key whose scopes name everything may call it."""


ROWS: dict[str, Row] = {
    "GET /api/v1/health": Row(Rank.ANONYMOUS),
    "GET /api/v1/health/ready": Row(Rank.ANONYMOUS),
    "GET /api/v1/health/services": Row(Rank.ADMIN),
    "GET /api/v1/metrics": Row(Rank.ADMIN),
    "GET /api/v1/openapi.json": Row(Rank.ANONYMOUS),
    "GET /api/v1/docs": Row(Rank.ANONYMOUS),
    "GET /api/v1/users/me": Row(Rank.USER, by_key=True),
    "PATCH /api/v1/users/me": Row(Rank.USER, body={"display_name": "Somebody"}),
    "DELETE /api/v1/users/me": Row(Rank.USER, spoils=True),
    "GET /api/v1/users/erasures/{job_id}": Row(Rank.ANONYMOUS),
    "GET /api/v1/users/me/preferences": Row(Rank.USER, by_key=True),
    "PUT /api/v1/users/me/preferences": Row(Rank.USER, body={"theme": "dark"}),
    "POST /api/v1/users/me/avatar": Row(Rank.USER, body={"content_type": "image/png", "size_bytes": 100}),
    "PUT /api/v1/users/me/avatar": Row(Rank.USER, body={}),
    "DELETE /api/v1/users/me/avatar": Row(Rank.USER),
    "POST /api/v1/users/me/export": Row(Rank.USER),
    "GET /api/v1/users/me/export": Row(Rank.USER, nothing_there=True),
    "POST /api/v1/api-keys": Row(Rank.USER, body={"name": "mine", "scopes": ["chat:read"]}),
    "GET /api/v1/api-keys": Row(Rank.USER),
    "GET /api/v1/api-keys/{key_id}": Row(Rank.USER, owned=True),
    "PATCH /api/v1/api-keys/{key_id}": Row(Rank.USER, owned=True, body={"name": "still mine"}),
    "POST /api/v1/api-keys/{key_id}/rotate": Row(Rank.USER, owned=True, body={}),
    "DELETE /api/v1/api-keys/{key_id}": Row(Rank.USER, owned=True),
    "POST /api/v1/sessions": Row(Rank.USER),
    "GET /api/v1/sessions": Row(Rank.USER),
    "GET /api/v1/sessions/current": Row(Rank.USER, nothing_there=True),
    "DELETE /api/v1/sessions/current": Row(Rank.USER, nothing_there=True),
    "DELETE /api/v1/sessions/{session_id}": Row(Rank.USER, owned=True),
    "POST /api/v1/sessions/revoke-all": Row(Rank.USER, spoils=True),
    "GET /api/v1/models": Row(Rank.USER, by_key=True),
    "PUT /api/v1/models/{author}/{name}/favourite": Row(Rank.USER),
    "DELETE /api/v1/models/{author}/{name}/favourite": Row(Rank.USER),
    "POST /api/v1/conversations": Row(Rank.USER, body={}, by_key=True),
    "GET /api/v1/conversations": Row(Rank.USER, by_key=True),
    "GET /api/v1/conversations/{conversation_id}": Row(Rank.USER, owned=True, by_key=True),
    "PATCH /api/v1/conversations/{conversation_id}": Row(Rank.USER, owned=True, body={"pinned": True}, by_key=True),
    "DELETE /api/v1/conversations/{conversation_id}": Row(Rank.USER, owned=True, by_key=True),
    "GET /api/v1/conversations/{conversation_id}/stream": Row(Rank.USER, owned=True, by_key=True),
    "GET /api/v1/conversations/search": Row(Rank.USER, query={"q": "word"}, by_key=True),
    "GET /api/v1/folders": Row(Rank.USER, by_key=True),
    "POST /api/v1/folders": Row(Rank.USER, body={"name": "Birds"}, by_key=True),
    "PATCH /api/v1/folders/{folder_id}": Row(Rank.USER, owned=True, body={"position": 1}, by_key=True),
    "DELETE /api/v1/folders/{folder_id}": Row(Rank.USER, owned=True, by_key=True),
    "POST /api/v1/uploads": Row(
        Rank.USER, body={"name": "a.png", "content_type": "image/png", "size_bytes": 100}, by_key=True
    ),
    "GET /api/v1/uploads/{upload_id}": Row(Rank.USER, owned=True, by_key=True),
    "DELETE /api/v1/uploads/{upload_id}": Row(Rank.USER, owned=True, by_key=True),
    "DELETE /api/v1/conversations/{conversation_id}/messages/{message_id}": Row(Rank.USER, owned=True, by_key=True),
    "POST /api/v1/conversations/{conversation_id}/messages/{message_id}/edit": Row(
        Rank.USER, owned=True, body={"content": "/say yes", "stream": False}, by_key=True
    ),
    "POST /api/v1/conversations/{conversation_id}/messages/{message_id}/regenerate": Row(
        Rank.USER, owned=True, body={"stream": False}, by_key=True
    ),
    "POST /api/v1/conversations/{conversation_id}/messages/{message_id}/continue": Row(
        Rank.USER, owned=True, body={"stream": False}, by_key=True
    ),
    "GET /api/v1/conversations/{conversation_id}/messages": Row(Rank.USER, owned=True, by_key=True),
    "POST /api/v1/conversations/{conversation_id}/messages": Row(
        Rank.USER, owned=True, body={"content": "/say yes", "stream": False}, by_key=True
    ),
    "POST /api/v1/conversations/{conversation_id}/share": Row(
        Rank.USER, owned=True, body={"title": "Look at this"}, by_key=True
    ),
    "GET /api/v1/conversations/{conversation_id}/share": Row(Rank.USER, owned=True, nothing_there=True, by_key=True),
    "DELETE /api/v1/conversations/{conversation_id}/share": Row(Rank.USER, owned=True, by_key=True),
    "GET /api/v1/shared/{token}": Row(Rank.ANONYMOUS),
    "GET /api/v1/conversations/{conversation_id}/export": Row(Rank.USER, owned=True, by_key=True),
    "GET /api/v1/conversations/export": Row(Rank.USER, by_key=True),
    "POST /api/v1/conversations/import": Row(
        Rank.USER,
        body={
            "conversationId": "c",
            "title": "Old",
            "messages": [{"messageId": "m", "sender": "User", "text": "Hello"}],
        },
        by_key=True,
    ),
    "GET /api/v1/generations/{generation_id}": Row(Rank.USER, owned=True, by_key=True),
    "GET /api/v1/generations/{generation_id}/events": Row(Rank.USER, owned=True, by_key=True),
    "POST /api/v1/generations/{generation_id}/stop": Row(Rank.USER, owned=True, by_key=True),
    "GET /api/v1/credits": Row(Rank.USER, by_key=True),
    "GET /api/v1/credits/entries": Row(Rank.USER, by_key=True),
    "GET /api/v1/activity": Row(Rank.USER, by_key=True),
    "GET /api/v1/admin/users": Row(Rank.SUPPORT),
    "POST /api/v1/admin/users/search": Row(Rank.SUPPORT, body={"username": "nobody_at_all"}, nothing_there=True),
    "GET /api/v1/admin/users/{uid}": Row(Rank.SUPPORT),
    "PUT /api/v1/admin/users/{uid}/role": Row(Rank.ADMIN, body={"role": "support", "reason": "Joins the team."}),
    "POST /api/v1/admin/users/{uid}/suspend": Row(Rank.MODERATOR, body={"reason": "Spam."}),
    "POST /api/v1/admin/users/{uid}/reinstate": Row(Rank.MODERATOR),
    "POST /api/v1/admin/users/{uid}/sign-out": Row(Rank.MODERATOR),
    "GET /api/v1/admin/models": Row(Rank.ADMIN),
    "PUT /api/v1/admin/models": Row(Rank.ADMIN, body={"model": "mistralai/mistral-small"}),
    "GET /api/v1/admin/models/defaults": Row(Rank.ADMIN),
    "PUT /api/v1/admin/models/defaults": Row(Rank.ADMIN, body={}),
    "POST /v1/chat/completions": Row(
        Rank.USER,
        body={"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "/say yes"}]},
        by_key=True,
    ),
    "POST /v1/embeddings": Row(Rank.USER, body={"model": "openai/text-embedding-3-small", "input": "yes"}, by_key=True),
    "GET /v1/models": Row(Rank.USER, by_key=True),
    "GET /v1/models/{author}/{name}": Row(Rank.USER, by_key=True),
    "GET /v1/models/{name}": Row(Rank.USER, by_key=True),
    "CALL chat_send": Row(Rank.USER, body={"content": "/say yes"}, by_key=True),
    "CALL account_bootstrap": Row(Rank.USER, body={}, by_key=True),
}
