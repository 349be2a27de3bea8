"""These tests run inside a running suite: `make suite`."""

import os

import pytest

from tests.suite.support import Suite, User, sign_in, sign_up


@pytest.fixture(scope="session")
def suite() -> Suite:
    if "CRAFTPILOT_HOSTING_URL" not in os.environ:
        pytest.exit("No suite runs: use `make suite`, or `python3 -m emulator attach -- …`.", returncode=2)
    return Suite()


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
