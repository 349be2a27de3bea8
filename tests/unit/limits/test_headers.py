"""What clients are told about limits, letter by letter."""

from shared.limits.gcra import Standing
from shared.limits.headers import render
from shared.limits.policies import Concurrency, Policy


def test_a_policy_tells_its_quota_and_window_and_the_limit_what_remains_and_when():
    standing = Standing(Policy("requests", 100, 60), remaining=50, reset_s=30, wait_s=0)
    assert render([standing]) == {
        "RateLimit-Policy": '"requests";q=100;w=60',
        "RateLimit": '"requests";r=50;t=30',
    }


def test_concurrency_names_its_unit_and_has_neither_window_nor_reset():
    standing = Standing(Concurrency("concurrency", 2), remaining=1, reset_s=None, wait_s=0)
    assert render([standing]) == {
        "RateLimit-Policy": '"concurrency";q=2;qu="concurrent-requests"',
        "RateLimit": '"concurrency";r=1',
    }


def test_several_policies_are_one_list():
    first = Standing(Policy("a", 1, 1), remaining=0, reset_s=1, wait_s=1)
    second = Standing(Policy("b", 2, 2), remaining=2, reset_s=0, wait_s=0)
    assert render([first, second]) == {
        "RateLimit-Policy": '"a";q=1;w=1, "b";q=2;w=2',
        "RateLimit": '"a";r=0;t=1, "b";r=2;t=0',
    }


def test_an_empty_list_is_no_header():
    assert render([]) == {}
