"""Health, the service registry, metrics and the API document."""

import json
from functools import cache
from typing import Any

from functions.system.schemas import Health, Readiness, ServiceList
from shared import metrics
from shared.http.function import http_function
from shared.http.routes import Call, Page, Routes, Who
from shared.identity.permissions import Permission

routes = Routes("system")


@routes.get("/api/v1/health", who=Who.ANYONE, answer=Health)
def health(call: Call[Any, Any]) -> Health:
    """Say that the service is alive."""
    return Health(status="ok", time=call.now)


@routes.get("/api/v1/health/ready", who=Who.ANYONE, answer=Readiness)
def ready(call: Call[Any, Any]) -> Readiness:
    """Say whether what the service depends on answers, and how fast.

    503 while a required dependency is down; `degraded` while another one is, and what users notice of it.
    """
    from functions.system import readiness

    return readiness.check(now=call.now)


@routes.get("/api/v1/health/services", who=Permission.SYSTEM_READ, fresh=True, answer=ServiceList)
def services(call: Call[Any, Any]) -> ServiceList:  # noqa: ARG001  # every handler takes the call
    """Every function that is deployed: its routes or trigger, version, region, state and bounds."""
    from functions.system import registry

    return registry.services()


@routes.get("/api/v1/metrics", who=Permission.SYSTEM_READ, fresh=True)
def read_metrics(call: Call[Any, Any]) -> Page:  # noqa: ARG001  # every handler takes the call
    """What all instances counted, in Prometheus' text format."""
    return Page(metrics.render(), "text/plain; version=0.0.4; charset=utf-8")


@routes.get("/api/v1/openapi.json", who=Who.ANYONE)
def openapi(call: Call[Any, Any]) -> Page:  # noqa: ARG001  # every handler takes the call
    """The description of this API, OpenAPI 3.1."""
    return Page(_document_as_json(), "application/json")


@routes.get("/api/v1/docs", who=Who.ANYONE)
def docs(call: Call[Any, Any]) -> Page:  # noqa: ARG001  # every handler takes the call
    """The same description as a page to read."""
    return Page(_document_as_html(), "text/html; charset=utf-8")


# Made once per process: it takes a fifth of a second, and anybody may ask as often as the limits let them.


@cache
def _document_as_json() -> str:
    from functions.api import document

    return json.dumps(document(), indent=2)


@cache
def _document_as_html() -> str:
    from functions.api import document
    from shared.http.openapi import as_html

    return as_html(document())


system = http_function("system", routes)
