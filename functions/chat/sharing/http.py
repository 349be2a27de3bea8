"""Shared conversations over HTTP: for their owners, and for whoever has the link."""

from typing import Any

from functions.chat.sharing import schemas, service
from shared.http.routes import Call, Reply, Routes, Who
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass

_NOT_FOR_SEARCH_ENGINES = {"X-Robots-Tag": "noindex, nofollow"}
_SHARE = "/api/v1/conversations/{conversation_id}/share"
_SHARING_COUNTS = 5
"""It reads a whole branch and writes it again."""

routes = Routes("chat")


@routes.post(
    _SHARE,
    who=Permission.CHAT_WRITE,
    body=schemas.ShareConversation,
    answer=schemas.ShareView,
    weight=_SHARING_COUNTS,
)
def share_conversation(call: Call[schemas.ShareConversation, Any]) -> schemas.ShareView:
    """Show a branch of a conversation, as it is now, to whoever has the link.

    What is written later stays private until it is shared again: that makes a new revision under the same link. The
    last 20 revisions can be read. Others see texts, citations and the names of attachments; nobody sees whose it is,
    what it cost, reasoning, tools or the system prompt.
    """
    return service.share(
        call.caller.uid,
        call.path["conversation_id"],
        message_id=call.body.message_id,
        title=call.body.title,
        snapshot=call.new_id("snap"),
        now=call.now,
    )


@routes.get(_SHARE, who=Permission.CHAT_READ, answer=schemas.ShareView)
def get_share(call: Call[Any, Any]) -> schemas.ShareView:
    """The link of a conversation; 404 when it is not shared."""
    return service.get_share(call.caller.uid, call.path["conversation_id"])


@routes.delete(_SHARE, who=Permission.CHAT_WRITE, status=204)
def unshare_conversation(call: Call[Any, Any]) -> None:
    """Withdraw the link, at once and for good: sharing again makes another one."""
    service.unshare(call.caller.uid, call.path["conversation_id"], now=call.now)


@routes.get(
    "/api/v1/shared/{token}",
    who=Who.ANYONE,
    query=schemas.SharedQuery,
    answer=schemas.SharedConversation,
    limit=LimitClass.PUBLIC,
)
def read_shared(call: Call[Any, schemas.SharedQuery]) -> Reply:
    """A shared conversation, page by page, the oldest message first. Open to anyone who has the link."""
    shared = service.read(
        call.path["token"],
        revision=call.query.revision,
        limit=call.query.limit,
        cursor=call.query.cursor,
        address=call.address,
        now=call.now,
    )
    return Reply(shared, headers=_NOT_FOR_SEARCH_ENGINES)
