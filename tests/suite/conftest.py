"""These tests run inside a running suite: `make suite`."""

import os
from collections.abc import Iterator

import pytest

from tests.suite.endings import Endings, begin_endings
from tests.suite.support import Suite, User, sign_in, sign_up


@pytest.fixture(scope="session")
def suite() -> Suite:
    if "CRAFTPILOT_HOSTING_URL" not in os.environ:
        pytest.exit("No suite runs: use `make suite`, or `python3 -m emulator attach -- …`.", returncode=2)
    return Suite()


@pytest.fixture(scope="session")
def endings(suite) -> Iterator[Endings]:
    with begin_endings(suite) as begun:
        yield begun


@pytest.fixture(scope="session", autouse=True)
def long_waits_begin_early(request) -> None:
    """So that other tests run meanwhile."""
    if any("endings" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("endings")


@pytest.fixture
def pro(suite) -> User:
    return sign_in(suite, "pro@craftpilot.dev")


@pytest.fixture
def free(suite) -> User:
    return sign_in(suite, "free@craftpilot.dev")


@pytest.fixture
def admin(suite) -> User:
    return sign_in(suite, "admin@craftpilot.dev")


@pytest.fixture
def newcomer(suite) -> User:
    return sign_up(suite)
