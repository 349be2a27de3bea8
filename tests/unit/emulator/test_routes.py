"""The routes: each leads to itself, everything else is 404 or 405."""

import pytest

from emulator.openrouter.errors import ApiError
from emulator.openrouter.server import ROUTES, find_route


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern}")
def test_every_route_leads_to_itself(route):
    path = route.pattern.replace("{author}", "openai").replace("{slug}", "gpt-4o-mini")
    found, parts = find_route(route.method, path)
    assert found is route
    assert set(parts.values()) <= {"openai", "gpt-4o-mini"}


def test_unknown_paths_are_404_and_other_methods_405():
    with pytest.raises(ApiError) as unknown:
        find_route("GET", "/api/v1/none")
    with pytest.raises(ApiError) as wrong:
        find_route("PATCH", "/api/v1/models/openai/o3/endpoints")
    assert (unknown.value.status, wrong.value.status) == (404, 405)
    assert wrong.value.headers == {"Allow": "GET"}
