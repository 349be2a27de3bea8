"""Limits on a real Redis."""

import os

import pytest

from shared.redis_link import Link
from shared.settings import settings
from tests.store.limits.support import PATIENT_S, Between, limiter_on, new_key, raw_redis


@pytest.fixture(scope="session", autouse=True)
def firestore_emulator():
    """Limits need Redis alone."""
    if not os.environ.get("REDIS_URL"):
        pytest.exit("The tests of limits need a Redis: set REDIS_URL=redis://host:port/0.", returncode=2)
    os.environ.setdefault("GCLOUD_PROJECT", "demo-craftpilot")
    os.environ.setdefault("FUNCTIONS_EMULATOR", "true")
    os.environ.setdefault("OPENROUTER_API_KEY", "sk-or-v1-of-nobody")
    settings.cache_clear()


@pytest.fixture
def key():
    """A bucket, or slots, of this test alone."""
    return new_key()


@pytest.fixture
def new_limiter():
    """Limiters as of several processes; their connections are closed at the end."""
    links = []

    def make(url=None, *, timeout_s=PATIENT_S, **options):
        links.append(Link(url or settings().redis_url, timeout_s=timeout_s))
        return limiter_on(links[-1], **options)

    yield make
    for link in links:
        link.close()


@pytest.fixture
def store():
    """Redis as it is, to look inside."""
    client = raw_redis()
    yield client
    client.close()


@pytest.fixture
def wire():
    between = Between()
    yield between
    between.close()
