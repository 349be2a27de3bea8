"""Routes made into a function that Firebase can deploy."""

from collections.abc import Callable
from typing import Any

from firebase_functions import https_fn
from flask import Request, Response

from shared.deployment import arguments_of
from shared.http.dialects import Problem
from shared.http.pipeline import serve
from shared.http.routes import Routes


def http_function(
    name: str, routes: Routes, *, dialect: Problem | None = None, secrets: list[Any] | None = None
) -> Any:
    """The deployable function `name`. `secrets` are the only ones it will see in production."""
    handle: Callable[[Request], Response] = serve(routes, dialect=dialect)
    handle.__name__ = name
    return https_fn.on_request(**arguments_of(name), secrets=secrets)(handle)
