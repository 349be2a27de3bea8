"""`account_bootstrap`: what an app needs when it starts, for the Firebase SDK."""

from typing import Any

from functions.users import preferences, schemas, service
from functions.users.views import profile_view
from shared.http.dialects import Callable
from shared.http.function import http_function
from shared.http.routes import Call, Routes
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass

routes = Routes("account_bootstrap")


@routes.post("/", who=Permission.PROFILE_READ, answer=schemas.Bootstrap, limit=LimitClass.READ)
def bootstrap(call: Call[Any, Any]) -> schemas.Bootstrap:
    """The caller's profile and preferences. The first call of a new user opens the account."""
    uid = call.caller.uid
    return schemas.Bootstrap(
        profile=profile_view(service.get_user(uid), call.now), preferences=preferences.get(uid, now=call.now)
    )


account_bootstrap = http_function("account_bootstrap", routes, dialect=Callable())
