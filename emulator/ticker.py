"""The suite's clock: fires the scheduled functions, which the Functions emulator never does by itself.

    python -m emulator.ticker --functions http://127.0.0.1:5001 --project demo-craftpilot

Every minute it asks the emulator which functions have a schedule, so a function added while it runs is fired too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from emulator.cron import NotUnderstood, parse

MINUTE_SECONDS = 60
ANSWER_SECONDS = 600
PARALLEL = 4


@dataclass(frozen=True)
class Scheduled:
    """A scheduled function of the emulator. `trigger` is the emulator's key for it."""

    trigger: str
    schedule: str
    time_zone: str


def log(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def scheduled_functions(backends: Any) -> list[Scheduled]:
    """From the emulator's GET /backends. Its key ends in the generation of the triggers, which stays 0."""
    return [
        Scheduled(
            trigger=f"{function['id']}-0",
            schedule=function["schedule"].get("schedule", ""),
            time_zone=function["schedule"].get("timeZone") or "UTC",
        )
        for backend in backends["backends"]
        for function in backend["functionTriggers"]
        if function.get("schedule")
    ]


def zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        log(f"the time zone {name!r} is not known here; taking UTC")
        return UTC


def is_due(function: Scheduled, now: datetime) -> bool:
    try:
        return parse(function.schedule).due(now.astimezone(zone(function.time_zone)))
    except NotUnderstood as error:
        log(f"{function.trigger} never fires: {error}")
        return False


class Emulator:
    """The Functions emulator's two addresses that matter here."""

    def __init__(self, url: str, project: str) -> None:
        address = urlsplit(url)
        self.host = address.hostname or "127.0.0.1"
        self.port = address.port
        self.project = project

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body=b"" if method == "POST" else None, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def scheduled(self) -> list[Scheduled]:
        _status, body = self._ask("GET", "/backends", {})
        return scheduled_functions(json.loads(body))

    def fire(self, function: Scheduled, now: datetime) -> None:
        """Call the function as Cloud Scheduler does, and log the outcome in one line."""
        began = time.monotonic()
        headers = {
            "Content-Type": "application/json",
            "X-CloudScheduler-JobName": f"firebase-schedule-{function.trigger.removesuffix('-0')}",
            "X-CloudScheduler-ScheduleTime": now.isoformat(),
        }
        path = f"/functions/projects/{self.project}/triggers/{function.trigger}"
        try:
            status, _body = self._ask("POST", path, headers)
            outcome = str(status)
        except (OSError, http.client.HTTPException) as error:
            outcome = f"no answer ({error})"
        log(f"{function.trigger} ({function.schedule}) → {outcome} in {time.monotonic() - began:.1f} s")


def tick(emulator: Emulator, now: datetime, pool: ThreadPoolExecutor) -> None:
    """Fire what is due in this minute; a slow function does not hold up the next minute."""
    try:
        functions = emulator.scheduled()
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        log(f"the Functions emulator did not tell its schedules: {error!r}")
        return
    for function in functions:
        if is_due(function, now):
            pool.submit(emulator.fire, function, now)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m emulator.ticker")
    parser.add_argument("--functions", required=True, help="address of the Functions emulator")
    parser.add_argument("--project", required=True)
    options = parser.parse_args(argv)
    emulator = Emulator(options.functions, options.project)
    known = ", ".join(f"{one.trigger} ({one.schedule})" for one in emulator.scheduled()) or "none yet"
    log(f"watching the schedules: {known}")
    with ThreadPoolExecutor(PARALLEL) as pool:
        while True:
            time.sleep(MINUTE_SECONDS - time.time() % MINUTE_SECONDS)
            tick(emulator, datetime.now(UTC).replace(second=0, microsecond=0), pool)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
