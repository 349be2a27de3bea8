"""What functions say of themselves: one line for each instance, for a day."""

import json
import time
import uuid
from dataclasses import asdict

import pytest

from shared import presence
from shared.clients import redis_client
from shared.presence import Instance


@pytest.fixture
def function():
    name = f"function-{uuid.uuid4().hex}"
    yield name
    redis_client().delete(f"presence:{name}")


def say(function, instance, heard_at):
    said = Instance("r-1", heard_at, requests=1, failures=0, last_request_failed=False)
    redis_client().hset(f"presence:{function}", instance, json.dumps(asdict(said)))


def names(function):
    return set(redis_client().hkeys(f"presence:{function}"))


def test_an_instance_reports_itself_and_takes_those_of_yesterday_away(function):
    now = time.time()
    for number in range(500):
        say(function, f"gone-{number}", now - 86_401)
    say(function, "there", now - 30)
    redis_client().hset(f"presence:{function}", "strange", '{"revision": "r-9", "colour": "red"}')
    reporter = presence._Reporter(function)
    reporter._requests = reporter._failures = 1
    reporter._take_the_gone_away()
    assert names(function) == {"there"}
    reporter._report()
    [heard] = [one for one in presence.instances([function])[function] if one.heard_at > now - 10]
    assert (heard.requests, heard.failures) == (1, 1)
    assert redis_client().ttl(f"presence:{function}") > 86_000


def test_what_another_revision_wrote_in_its_own_way_hides_nobody(function):
    say(function, "there", time.time())
    redis_client().hset(f"presence:{function}", "newer", '{"revision": "r-2", "colour": "red"}')
    redis_client().hset(f"presence:{function}", "broken", "{")
    assert [one.revision for one in presence.instances([function])[function]] == ["r-1"]
