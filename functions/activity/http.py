"""The activity log over HTTP."""

from typing import Any

from functions.activity import service
from functions.activity.schemas import ActivityPage, ActivityQuery
from shared.http.function import http_function
from shared.http.routes import Call, Routes
from shared.identity.permissions import Permission

routes = Routes("activity")


@routes.get("/api/v1/activity", who=Permission.ACTIVITY_READ, query=ActivityQuery, answer=ActivityPage)
def list_activity(call: Call[Any, ActivityQuery]) -> ActivityPage:
    """What happened on the caller's account, newest first. Each entry carries the hash of the one before it."""
    return service.list_entries(call.caller.uid, call.query.limit, call.query.cursor)


activity = http_function("activity", routes)
