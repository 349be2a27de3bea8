"""Routes made into a function that Firebase can deploy."""

from collections.abc import Callable
from typing import Any

from flask import Request, Response

from shared import presence
from shared.deployment import arguments_of
from shared.http.dialects import Problem
from shared.http.pipeline import serve
from shared.http.routes import Routes


def http_function(
    name: str, routes: Routes, *, dialect: Problem | None = None, secrets: list[Any] | None = None
) -> Any:
    """The deployable function `name`. `secrets` are the only ones it will see in production.

    The SDK's decorator only says at deployment how the function is to be deployed; around a request it does nothing.
    An instance that serves does without it, for its import is a third of a second of every cold start.
    """
    handle: Callable[[Request], Response] = serve(routes, dialect=dialect)
    handle.__name__ = name
    if presence.is_serving():
        return handle
    from firebase_functions import https_fn

    return https_fn.on_request(**arguments_of(name), secrets=secrets)(handle)
