"""How somebody wants the product to be. Firestore holds it; the copies in Redis only save reading."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from functions.users import preferences_cache, repository
from functions.users.events import PreferencesUpdated
from functions.users.preferences_cache import Copy, version_of
from functions.users.schemas import MAX_FAVOURITES, Preferences
from shared import events, store
from shared.errors import Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    Favourites = list[str]

_ATTEMPTS = 6
_PAUSE_S = 0.05


def get(uid: str, *, now: datetime) -> Preferences:
    """The preferences, with defaults for what was never chosen. Raises NotFound, Unavailable."""
    copy = preferences_cache.get(uid, now)
    if copy is not None:
        try:
            return Preferences.from_stored(copy.value)
        except ValidationError:
            # Nothing that this product stored looks like this; the truth is elsewhere.
            copy = None
    stored = repository.find_preferences(uid)
    if stored is None:
        raise _no_user()
    preferences_cache.put(uid, Copy(stored.value, version_of(stored.written_at)), now)
    return Preferences.as_far_as_valid(stored.value)


def put(uid: str, preferences: Preferences, *, now: datetime) -> Preferences:
    """Replace all of them. Raises NotFound, Unavailable."""
    value = preferences.model_dump(mode="json")
    batch = store.new_batch()
    repository.add_preferences(batch, uid, value, now)
    events.record(batch, PreferencesUpdated(), uid=uid, subject="preferences", at=now)
    try:
        results = store.commit(batch)
    except store.StaleWrite as error:
        raise _no_user() from error
    preferences_cache.put(uid, Copy(value, version_of(results[0].update_time)), now)
    return preferences


def add_favourite(uid: str, slug: str, *, now: datetime) -> None:
    """Make a model a favourite; one that is a favourite stays where it is.

    Other devices' changes at the same time are kept. Raises NotFound, Unavailable, and Conflict when there are as many
    as there may be.
    """

    def added(favourites: Favourites) -> Favourites:
        if slug in favourites:
            return favourites
        if len(favourites) >= MAX_FAVOURITES:
            raise Conflict(f"There are {MAX_FAVOURITES} favourites, as many as there may be; remove one first.")
        return [*favourites, slug]

    _change_favourites(uid, added, now)


def remove_favourites(uid: str, slugs: set[str], *, now: datetime) -> None:
    """Make models favourites no longer, if they are. Otherwise as `add_favourite`."""
    _change_favourites(uid, lambda favourites: [each for each in favourites if each not in slugs], now)


def _change_favourites(uid: str, change: Callable[[Favourites], Favourites], now: datetime) -> None:
    """Change what was read, once; when the account changed since, it is read and changed again."""
    for attempt in range(1, _ATTEMPTS + 1):
        read = repository.find_preferences(uid)
        if read is None:
            raise _no_user()
        before = Preferences.as_far_as_valid(read.value).favourite_models
        after = change(before)
        if after == before:
            # An earlier attempt may have made the change and not lived to tell the others.
            preferences_cache.put(uid, Copy(read.value, version_of(read.written_at)), now)
            return
        batch = store.new_batch()
        repository.add_favourite_models(batch, uid, after, read, now)
        events.record(batch, PreferencesUpdated(), uid=uid, subject="preferences", at=now)
        try:
            results = store.commit(batch)
        except store.StaleWrite:
            time.sleep(random.uniform(0, _PAUSE_S * attempt))  # noqa: S311  # spreads the writers
            continue
        value = {**(read.value or {}), "favourite_models": after}
        preferences_cache.put(uid, Copy(value, version_of(results[0].update_time)), now)
        return
    raise Unavailable("This account is being changed by many requests at once; try again.", retry_after_s=1)


def _no_user() -> NotFound:
    return NotFound("There is no such user.")
