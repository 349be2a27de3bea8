"""How somebody wants the product to be. Firestore holds it; the copies in Redis only save reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from functions.users import preferences_cache, repository
from functions.users.events import PreferencesUpdated
from functions.users.preferences_cache import Copy, version_of
from functions.users.schemas import Preferences
from shared import events, store
from shared.errors import NotFound

if TYPE_CHECKING:
    from datetime import datetime


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
        raise NotFound("There is no such user.")
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
        raise NotFound("There is no such user.") from error
    preferences_cache.put(uid, Copy(value, version_of(results[0].update_time)), now)
    return preferences
