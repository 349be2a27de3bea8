"""The service registry: every deployed function with what starts it, its bounds, and what was heard of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from functions.api import all_routes
from functions.system.schemas import Kind, Service, ServiceList, ServiceRoute, State
from shared import log, presence
from shared.deployment import FUNCTIONS
from shared.presence import GONE_AFTER_S, Instance
from shared.redis_link import LinkFailed
from shared.settings import REGION, settings

if TYPE_CHECKING:
    from shared.deployment import Function


def services() -> ServiceList:
    """What is deployed, from the table that deploys it; what not every project has, once it was heard of."""
    heard = _heard()
    routes = {
        one.capability: [ServiceRoute(method=route.method, path=route.path) for route in one] for one in all_routes()
    }
    items = [
        _service(name, function, routes.get(name, []), None if heard is None else heard[name])
        for name, function in FUNCTIONS.items()
        if not function.only_with or (heard and heard[name])
    ]
    return ServiceList(items=items)


def _heard() -> dict[str, list[Instance]] | None:
    try:
        return presence.instances(list(FUNCTIONS))
    except LinkFailed as error:
        log.warning("presence cannot be read", reason=repr(error))
        return None


def _service(name: str, function: Function, routes: list[ServiceRoute], heard: list[Instance] | None) -> Service:
    kind, trigger = _started_by(name, function)
    newest = max(heard or [], key=lambda instance: instance.heard_at, default=None)
    living = [one for one in heard or [] if time.time() - one.heard_at < GONE_AFTER_S]
    return Service(
        name=name,
        kind=kind,
        trigger=trigger,
        routes=routes,
        region=REGION,
        version=newest.revision if newest else settings().revision,
        state=_state(heard, living),
        instances=len(living),
        requests=sum(one.requests for one in living),
        failures=sum(one.failures for one in living),
        last_heard_at=datetime.fromtimestamp(newest.heard_at, UTC) if newest else None,
        memory_mb=function.options.memory_mb,
        concurrency=function.options.concurrency,
        max_instances=function.options.max_instances,
    )


def _state(heard: list[Instance] | None, living: list[Instance]) -> State:
    if heard is None:
        return State.UNKNOWN
    if not living:
        return State.IDLE
    return State.FAILING if any(one.last_request_failed for one in living) else State.SERVING


def _started_by(name: str, function: Function) -> tuple[Kind, str | None]:
    """From the declaration that deployment reads."""
    if function.module.startswith("functions."):
        return (Kind.HTTP if function.capability else Kind.CALLABLE), None
    endpoint: Any = getattr(import_module(function.module), name).__firebase_endpoint__
    if endpoint.scheduleTrigger is not None:
        return Kind.SCHEDULE, str(endpoint.scheduleTrigger["schedule"])
    if endpoint.blockingTrigger is not None:
        return Kind.EVENT, str(endpoint.blockingTrigger["eventType"])
    filters = {**endpoint.eventTrigger["eventFilters"], **endpoint.eventTrigger.get("eventFilterPathPatterns", {})}
    about = filters.get("document") or filters.get("topic") or ""
    return Kind.EVENT, f"{endpoint.eventTrigger['eventType']} {about}".strip()
