"""Answers of the system routes."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from shared.http.schema import Schema


class Health(Schema):
    status: Literal["ok"] = Field(description="The process is alive and answers.")
    time: datetime


class DependencyState(StrEnum):
    UP = "up"
    DOWN = "down"


class Dependency(Schema):
    name: str
    state: DependencyState
    required: bool = Field(description="Without a required one nothing works; without another one less does.")
    latency_ms: float = Field(description="How long the answer took, or how long it was waited for.")
    without_it: str = Field(description="What users notice while it is down.")


class Readiness(Schema):
    status: Literal["ready", "degraded"]
    checked_at: datetime
    dependencies: list[Dependency]


class Kind(StrEnum):
    HTTP = "http"
    CALLABLE = "callable"
    EVENT = "event"
    SCHEDULE = "schedule"


class State(StrEnum):
    SERVING = "serving"
    FAILING = "failing"
    IDLE = "idle"
    UNKNOWN = "unknown"


class ServiceRoute(Schema):
    method: str
    path: str


class Service(Schema):
    name: str
    kind: Kind
    trigger: str | None = Field(description="The event or the schedule that starts it; None when requests do.")
    routes: list[ServiceRoute]
    region: str
    version: str = Field(description="The revision that was heard of last; this process's own when none was.")
    state: State = Field(
        description="serving: heard of within a minute; failing: and its newest work went wrong; idle: scaled to none; "
        "unknown: the place where functions report cannot be read."
    )
    instances: int = Field(description="Instances heard of within a minute.")
    requests: int = Field(description="Requests and events those instances have done.")
    failures: int = Field(description="Those that ended in an error of ours.")
    last_heard_at: datetime | None
    memory_mb: int
    concurrency: int
    max_instances: int


class ServiceList(Schema):
    items: list[Service]
