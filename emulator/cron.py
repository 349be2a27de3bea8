"""When a schedule is due: five-field cron, and the "every 5 minutes" form that Cloud Scheduler also takes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
FIELDS = ("minute", "hour", "day", "month", "weekday")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES: dict[str, dict[str, int]] = {
    "month": {name: number for number, name in enumerate(MONTHS, start=1)},
    "weekday": {name: number for number, name in enumerate(WEEKDAYS)},
}
INTERVAL = re.compile(r"every (\d+) (minutes?|mins?|hours?)")
DAILY = re.compile(r"every day (\d{1,2}):(\d{2})")
MINUTES_PER_HOUR = 60
SUNDAY_AGAIN = 7


class NotUnderstood(ValueError):
    """The schedule is written in a form this module does not know."""


@dataclass(frozen=True)
class Schedule:
    """The minutes, hours, days, months and weekdays (0 = Sunday) at which it is due.

    As in cron: if both day and weekday are restricted, either will do. An interval in minutes counts from midnight.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool = False
    every_minutes: int = 1

    def due(self, at: datetime) -> bool:
        in_month = at.day in self.days
        in_week = at.isoweekday() % 7 in self.weekdays
        return (
            at.minute in self.minutes
            and at.hour in self.hours
            and at.month in self.months
            and (in_month or in_week if self.either_day else in_month and in_week)
            and (at.hour * MINUTES_PER_HOUR + at.minute) % self.every_minutes == 0
        )


def parse(text: str) -> Schedule:
    """Read a schedule; raises NotUnderstood."""
    words = " ".join(text.lower().split())
    if match := INTERVAL.fullmatch(words):
        count = int(match[1]) * (MINUTES_PER_HOUR if match[2].startswith("hour") else 1)
        if count == 0:
            raise NotUnderstood(f"{text!r}: an interval cannot be zero")
        return _cron("* * * * *", every_minutes=count)
    if match := DAILY.fullmatch(words):
        return _cron(f"{int(match[2])} {int(match[1])} * * *")
    if len(words.split()) != len(FIELDS):
        raise NotUnderstood(
            f"{text!r} is neither five cron fields nor 'every N minutes', 'every N hours', 'every day HH:MM'"
        )
    return _cron(words)


def _cron(words: str, every_minutes: int = 1) -> Schedule:
    texts = words.split()
    minutes, hours, days, months, weekdays = (_field(index, text) for index, text in enumerate(texts))
    if SUNDAY_AGAIN in weekdays:
        weekdays = weekdays - {SUNDAY_AGAIN} | {0}
    restricted = not texts[2].startswith("*") and not texts[4].startswith("*")
    return Schedule(minutes, hours, days, months, weekdays, either_day=restricted, every_minutes=every_minutes)


def _field(index: int, text: str) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        first, last = _span(index, span, open_ended=bool(slash))
        step = _number(index, step_text) if slash else 1
        if step == 0:
            raise NotUnderstood(f"{text!r}: a step of the {FIELDS[index]} cannot be zero")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _span(index: int, text: str, *, open_ended: bool) -> tuple[int, int]:
    low, high = BOUNDS[index]
    if text == "*":
        return low, high
    start, dash, end = text.partition("-")
    first = _number(index, start)
    last = _number(index, end) if dash else (high if open_ended else first)
    if not low <= first <= last <= high:
        raise NotUnderstood(f"{text!r} is outside of {low}-{high} for the {FIELDS[index]}")
    return first, last


def _number(index: int, text: str) -> int:
    names = NAMES.get(FIELDS[index], {})
    if text in names:
        return names[text]
    if not text.isdecimal():
        raise NotUnderstood(f"{text!r} is no {FIELDS[index]}")
    return int(text)
