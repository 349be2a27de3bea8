"""Which web pages may call the functions directly."""

import pytest

from shared.settings import settings
from tests.unit.shared.exchange import bearer, request
from tests.unit.shared.things import Things

ALLOW = "Access-Control-Allow-Origin"
OWN = ["https://demo-craftpilot.web.app", "https://demo-craftpilot.firebaseapp.com"]
LOCAL = ["http://localhost:5000", "http://127.0.0.1:3000", "http://localhost"]
STRANGE = [
    "https://evil.example",
    "null",
    "",
    "*",
    "http://demo-craftpilot.web.app",
    "https://demo-craftpilot.web.app.evil.example",
    "https://demo-craftpilot.web.app:8443",
    "https://localhost.evil.example",
    "http://127.0.0.1:5000.evil.example",
    "https://evil.example/localhost",
    "https://localhost@evil.example",
    "http://[bad",
    "http://[::1",
    "//localhost:port]",
]


def allowed(origin: str, method: str = "GET", path: str = "/open") -> str | None:
    return Things().ask(request(method, path, headers={"Origin": origin})).headers.get(ALLOW)


@pytest.fixture
def deployed(monkeypatch):
    """The settings of a process outside the emulator."""
    monkeypatch.delenv("FUNCTIONS_EMULATOR")
    monkeypatch.setenv("ALLOWED_ORIGINS", " https://craftpilot.example , https://app.craftpilot.example,")
    settings.cache_clear()


@pytest.mark.parametrize("origin", OWN)
def test_the_projects_own_sites_may_call(origin):
    assert allowed(origin) == origin


@pytest.mark.parametrize("origin", LOCAL)
def test_local_pages_may_call_the_emulator(origin):
    assert allowed(origin) == origin


@pytest.mark.parametrize("origin", LOCAL)
@pytest.mark.usefixtures("deployed")
def test_local_pages_may_not_call_what_is_deployed(origin):
    assert allowed(origin) is None


@pytest.mark.parametrize("origin", [*OWN, "https://craftpilot.example", "https://app.craftpilot.example"])
@pytest.mark.usefixtures("deployed")
def test_the_origins_of_the_settings_may_call_what_is_deployed(origin):
    assert allowed(origin) == origin


@pytest.mark.parametrize("origin", STRANGE)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_a_strange_origin_is_told_nothing(origin, method):
    headers = Things().ask(request(method, "/open", headers={"Origin": origin})).headers
    assert not [name for name in headers.keys() if name.startswith("Access-Control-")]  # noqa: SIM118  # not a dict


@pytest.mark.parametrize("origin", STRANGE)
@pytest.mark.usefixtures("deployed")
def test_a_strange_origin_is_told_nothing_by_what_is_deployed(origin):
    assert allowed(origin) is None


def test_a_call_without_an_origin_gets_no_such_header():
    assert ALLOW not in Things().ask(request("GET", "/open")).headers


def test_a_page_may_read_the_headers_that_matter():
    headers = Things().ask(request("GET", "/open", headers={"Origin": OWN[0]})).headers
    assert "X-Request-Id" in headers["Access-Control-Expose-Headers"]
    assert "Retry-After" in headers["Access-Control-Expose-Headers"]


def test_a_page_may_read_its_errors_too():
    assert allowed(OWN[0], "POST", "/mine") == OWN[0]
    assert allowed(OWN[0], "GET", "/broken") == OWN[0]


def test_a_preflight_needs_no_token_and_runs_nothing():
    things = Things()
    response = things.ask(request("OPTIONS", "/mine", headers={"Origin": OWN[0]}))
    assert response.status_code == 204
    assert response.headers[ALLOW] == OWN[0]
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    for name in ("Authorization", "Content-Type", "Idempotency-Key", "traceparent"):
        assert name in response.headers["Access-Control-Allow-Headers"]
    assert int(response.headers["Access-Control-Max-Age"]) > 0
    assert things.calls == []


def test_credentials_are_never_allowed_along():
    headers = Things().ask(request("GET", "/open", headers={"Origin": OWN[0], **bearer()})).headers
    assert "Access-Control-Allow-Credentials" not in headers
