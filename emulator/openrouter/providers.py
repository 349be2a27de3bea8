"""Which provider serves a model under the preferences of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.openrouter.catalogue import provider_slug
from emulator.openrouter.errors import invalid_request, not_found

if TYPE_CHECKING:
    from emulator.openrouter.catalogue import Model


def choose(model: Model, preferences: Any) -> str:
    """The first provider allowed, in the order preferred. Raises 404 when none is, 400 for malformed preferences."""
    preferences = {} if preferences is None else preferences
    if not isinstance(preferences, dict):
        raise invalid_request("Invalid request parameters: provider: expected an object")
    only, ignored, order = (_slugs(preferences, name) for name in ("only", "ignore", "order"))
    by_slug = {provider_slug(name): name for name in model.providers}
    allowed = [slug for slug in by_slug if (not only or slug in only) and slug not in ignored]
    if not allowed:
        name, slugs = ("only", only) if only else ("ignore", ignored)
        verb = "permits only" if only else "excludes"
        raise not_found(
            "No allowed providers are available for the selected model. "
            f"Providers serving {model.id}: {', '.join(by_slug)}, "
            f"but your request's provider.{name} preference {verb}: {', '.join(slugs)}."
        )
    preferred = [slug for slug in order if slug in allowed]
    return by_slug[(preferred or allowed)[0]]


def _slugs(preferences: dict[str, Any], name: str) -> list[str]:
    values = preferences.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise invalid_request(f"Invalid request parameters: provider.{name}: expected a list of strings")
    return [provider_slug(value) for value in values]
