"""Health and the API document."""

import json
from typing import Any

from functions.system.schemas import Health
from shared.http.function import http_function
from shared.http.routes import Call, Page, Routes, Who

routes = Routes("system")


@routes.get("/api/v1/health", who=Who.ANYONE, answer=Health)
def health(call: Call[Any, Any]) -> Health:
    """Say that the service is alive."""
    return Health(status="ok", time=call.now)


@routes.get("/api/v1/openapi.json", who=Who.ANYONE)
def openapi(call: Call[Any, Any]) -> Page:  # noqa: ARG001  # every handler takes the call
    """The description of this API, OpenAPI 3.1."""
    from functions.api import document

    return Page(json.dumps(document(), indent=2), "application/json")


@routes.get("/api/v1/docs", who=Who.ANYONE)
def docs(call: Call[Any, Any]) -> Page:  # noqa: ARG001  # every handler takes the call
    """The same description as a page to read."""
    from functions.api import document
    from shared.http.openapi import as_html

    return Page(as_html(document()), "text/html; charset=utf-8")


system = http_function("system", routes)
