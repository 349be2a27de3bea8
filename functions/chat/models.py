"""Which models may be asked and what they cost at most: the catalogue, cached for a minute per process.

A model whose circuit is open is not asked, and that is known here, before anything is held or written.
"""

import re
import time

from functions.chat import repository
from functions.chat.domain import DEFAULT_MODEL, Model, model_from_upstream
from shared import log
from shared.breaker import breakers
from shared.clients import openrouter
from shared.clock import utc_now
from shared.errors import FieldError, InvalidRequest
from shared.openrouter import asking

CACHED_S = 60.0
_MAX_CACHED = 2000
FOR_ANYONE = (DEFAULT_MODEL, "google/gemini-2.5-flash")
"""What answers those who name no model: the first whose circuit is not open. They come from different providers."""
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")

_cache: dict[str, tuple[float, Model | None]] = {}
_catalogue: tuple[float, list[Model]] = (0.0, [])


def get_model(slug: str | None) -> Model:
    """The model; for None the default one, or another in its place while it fails.

    Raises InvalidRequest naming `model` when it is not in the catalogue, and UpstreamBusy when it must not be asked
    now: a user who named a model gets that one or an error with the time to come back.
    """
    if slug is None:
        asking.refuse_if_open(asking.SERVICE)
        return _model_for_anyone()
    model = _cached(slug) if _SLUG.fullmatch(slug) else None
    if model is None:
        raise _not_offered(slug)
    asking.refuse_if_open(asking.SERVICE, asking.circuit_of(model.slug))
    return model


def all_for_anyone_fail() -> bool:
    """Whether the circuits of all of them are open: then the best of them is asked all the same."""
    return breakers().choose([asking.circuit_of(slug) for slug in FOR_ANYONE]).bypass


def _model_for_anyone() -> Model:
    slugs = {asking.circuit_of(slug): slug for slug in FOR_ANYONE}
    for circuit in breakers().choose(list(slugs)).names:
        model = _cached(slugs[circuit])
        if model is not None:
            return model
    raise _not_offered(DEFAULT_MODEL)


def _not_offered(slug: str) -> InvalidRequest:
    problem = FieldError("model", f"{slug!r} is not offered; GET /api/v1/models lists what is")
    return InvalidRequest("Check: model.", fields=[problem])


def _cached(slug: str) -> Model | None:
    known = _cache.get(slug)
    if known is not None and known[0] > time.monotonic():
        return known[1]
    model = repository.find_model(slug)
    if len(_cache) >= _MAX_CACHED:
        _cache.clear()
    _cache[slug] = (time.monotonic() + CACHED_S, model)
    return model


def list_models() -> list[Model]:
    """The models on offer, by slug."""
    global _catalogue  # noqa: PLW0603  # the one copy of this process
    if _catalogue[0] <= time.monotonic():
        _catalogue = (time.monotonic() + CACHED_S, repository.list_models())
    return _catalogue[1]


def sync() -> int:
    """Make the stored catalogue equal to the provider's. Gives the number of models offered."""
    offered, left_out = [], 0
    for entry in openrouter().list_models():
        try:
            model = model_from_upstream(entry)
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            # One entry of an unknown shape must not keep the others' prices from being renewed.
            log.warning("model not understood", model=str(entry.get("id"))[:200], reason=repr(error))
            model = None
        if model is None:
            left_out += 1
        else:
            offered.append(model)
    if not offered:
        log.error("the provider's catalogue is empty; the stored one is kept", left_out=left_out)
        return 0
    repository.save_models(offered, utc_now())
    log.info("models synchronised", offered=len(offered), left_out=left_out)
    return len(offered)
