"""The whole API in one place: the routes of every HTTP function, for the API document and for tests."""

from importlib import import_module
from typing import Any

from shared.deployment import FUNCTIONS
from shared.http.openapi import describe
from shared.http.routes import Routes

CAPABILITIES = tuple(function.capability for function in FUNCTIONS.values() if function.capability)
"""Capabilities with an HTTP function of the same name."""


def all_routes() -> list[Routes]:
    return [import_module(f"functions.{name}.http").routes for name in CAPABILITIES]


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of all capabilities."""
    return describe(all_routes())
