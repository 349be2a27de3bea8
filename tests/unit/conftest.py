"""What every test without sockets starts from: the settings of a local process, read anew."""

import gc

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from shared import metrics
from shared.limits import limiter
from shared.redis_link import Link, LinkFailed
from shared.settings import settings

ENVIRONMENT = {
    "FUNCTIONS_EMULATOR": "true",
    "GCLOUD_PROJECT": "demo-craftpilot",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "OPENROUTER_BASE_URL": "http://127.0.0.1:9/api/v1",
    "OPENROUTER_API_KEY": "sk-or-v1-of-nobody",
    # The Admin SDK takes unsigned tokens while this is set; port 9 answers nobody, so nothing depends on it.
    "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9",
}

# How long an example takes says what else the machine is doing, and nothing about the code.
hypothesis_settings.register_profile(
    "unit", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _local_settings(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _redis_is_away(monkeypatch):
    """Every call is refused at once, as by a server that is down: what the limiter decides, it decides alone."""

    def refuse(self, *command):
        raise LinkFailed("there is no Redis in this test")

    monkeypatch.setattr(Link, "call_all", refuse)
    monkeypatch.setattr(limiter, "_limiters", {})
    monkeypatch.setattr(metrics, "_by_pid", {})
    monkeypatch.setattr(metrics, "SAVE_EVERY_S", 3600)


def pytest_collection_finish():
    """What was imported and collected stays to the end; the garbage collector need not walk over it again and again."""
    gc.freeze()
