"""When a schedule is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.cron import NotUnderstood, parse
from emulator.ticker import Scheduled, is_due, scheduled_functions

SUNDAY = datetime(2026, 11, 22, tzinfo=UTC)


def fires(schedule: str, start: datetime = SUNDAY, hours: int = 24) -> list[str]:
    """The times at which it is due from the start on."""
    parsed = parse(schedule)
    minutes = (start + timedelta(minutes=count) for count in range(hours * 60))
    return [f"{at:%H:%M}" for at in minutes if parsed.due(at)]


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("every 6 hours", ["00:00", "06:00", "12:00", "18:00"]),
        ("every 480 minutes", ["00:00", "08:00", "16:00"]),
        ("Every  8  Hours", ["00:00", "08:00", "16:00"]),
        ("every 24 hours", ["00:00"]),
        ("every day 03:30", ["03:30"]),
        ("30 3 * * *", ["03:30"]),
        ("0 */8 * * *", ["00:00", "08:00", "16:00"]),
        ("5,35 9 * * *", ["09:05", "09:35"]),
        ("10-12 9 * * *", ["09:10", "09:11", "09:12"]),
        ("10-30/10 9 * * *", ["09:10", "09:20", "09:30"]),
        ("50/5 9 * * *", ["09:50", "09:55"]),
        ("0 9 * * 0", ["09:00"]),
        ("0 9 * * 7", ["09:00"]),
        ("0 9 * * sun", ["09:00"]),
        ("0 9 * * mon-fri", []),
        ("0 9 * nov *", ["09:00"]),
        ("0 9 * 12 *", []),
        ("0 9 22 * *", ["09:00"]),
        ("0 9 23 * *", []),
    ],
)
def test_a_schedule_fires_at_its_times_of_a_sunday_in_november(schedule: str, due: list[str]) -> None:
    assert fires(schedule) == due


def test_every_minute_is_every_minute() -> None:
    assert len(fires("every 1 minutes")) == len(fires("* * * * *")) == 24 * 60


def test_with_both_day_and_weekday_given_either_will_do() -> None:
    days = [day for day in range(1, 31) if parse("0 0 1 * sun").due(datetime(2026, 11, day, tzinfo=UTC))]

    assert days == [1, 8, 15, 22, 29]
    assert parse("0 0 2 * sun").due(datetime(2026, 11, 2, tzinfo=UTC))


@given(st.integers(min_value=1, max_value=59).filter(lambda minutes: 60 % minutes == 0))
def test_an_interval_that_divides_the_hour_is_the_same_as_its_cron_form(minutes: int) -> None:
    assert fires(f"every {minutes} minutes", hours=3) == fires(f"*/{minutes} * * * *", hours=3)


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "sometimes",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "every 0 minutes",
        "a * * * *",
    ],
)
def test_a_schedule_that_cannot_be_read_is_refused(schedule: str) -> None:
    with pytest.raises(NotUnderstood):
        parse(schedule)


def test_a_schedule_is_read_in_its_own_time_zone() -> None:
    nightly = Scheduled("us-central1-nightly-0", "0 3 * * *", "Europe/Berlin")

    assert is_due(nightly, datetime(2026, 11, 22, 3, 0, tzinfo=ZoneInfo("Europe/Berlin")))
    assert is_due(nightly, datetime(2026, 11, 22, 2, 0, tzinfo=UTC))
    assert not is_due(nightly, datetime(2026, 11, 22, 3, 0, tzinfo=UTC))


def test_an_unreadable_schedule_never_fires_and_is_said_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_due(Scheduled("us-central1-odd-0", "now and then", "UTC"), SUNDAY)
    assert "us-central1-odd-0 never fires" in capsys.readouterr().out


def test_an_unknown_time_zone_is_said_in_the_log_and_taken_for_utc(capsys: pytest.CaptureFixture[str]) -> None:
    assert is_due(Scheduled("us-central1-far-0", "0 3 * * *", "Mars/Olympus"), SUNDAY.replace(hour=3))
    assert "'Mars/Olympus' is not known here" in capsys.readouterr().out


def test_the_scheduled_functions_are_found_among_the_others() -> None:
    backends = {
        "backends": [
            {
                "functionTriggers": [
                    {"id": "us-central1-chat", "httpsTrigger": {}},
                    {"id": "us-central1-expire", "schedule": {"schedule": "every 5 minutes", "timeZone": None}},
                    {"id": "us-central1-seal", "schedule": {"schedule": "0 3 * * *", "timeZone": "Europe/Berlin"}},
                ]
            }
        ]
    }

    assert scheduled_functions(backends) == [
        Scheduled("us-central1-expire-0", "every 5 minutes", "UTC"),
        Scheduled("us-central1-seal-0", "0 3 * * *", "Europe/Berlin"),
    ]
