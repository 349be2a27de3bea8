"""The catalogue over HTTP: which models the caller may ask, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.models import schemas, service
from functions.models.views import model_view
from functions.users import preferences
from shared.errors import FieldError, NotFound
from shared.http.function import http_function
from shared.http.routes import Call, Routes
from shared.identity.permissions import Permission

if TYPE_CHECKING:
    from functions.models.domain import Offer
    from shared.identity.caller import Caller

routes = Routes("models")


@routes.get("/api/v1/models", who=Permission.MODELS_READ, query=schemas.ModelsQuery, answer=schemas.ModelList)
def list_models(call: Call[Any, schemas.ModelsQuery]) -> schemas.ModelList:
    """The models on offer, by id: what they can do, whether the caller may ask them, and what a thousand words cost.

    Favourites and the default model are those of the caller's preferences.
    """
    caller, query = call.caller, call.query
    chosen = preferences.get(caller.uid, now=call.now)
    default, favourites = service.default_for(caller.plan, chosen.default_model), frozenset(chosen.favourite_models)
    views = [
        model_view(
            listed,
            available=listed.available and _key_allows(caller, listed.offer),
            favourite=listed.offer.slug in favourites,
            is_default=listed.offer.slug == default,
        )
        for listed in service.list_for(caller.plan)
        if _is_wanted(listed.offer, query)
    ]
    items = [
        view for view in views if (view.available or not query.available) and (view.favourite or not query.favourites)
    ]
    return schemas.ModelList(items=items, default=default)


@routes.put("/api/v1/models/{author}/{name}/favourite", who=Permission.PROFILE_WRITE, status=204)
def add_favourite(call: Call[Any, Any]) -> None:
    """Make a model a favourite of the caller's; at most 50 may be.

    Changes nothing else of the preferences, so what several devices do at once is all kept.
    """
    slug = _slug_of(call)
    model = service.find(slug)
    if model is None:
        problem = FieldError("model", f"{slug!r} is not offered; GET /api/v1/models lists what is")
        raise NotFound("There is no such model.", fields=[problem])
    preferences.add_favourite(call.caller.uid, model.slug, now=call.now)


@routes.delete("/api/v1/models/{author}/{name}/favourite", who=Permission.PROFILE_WRITE, status=204)
def remove_favourite(call: Call[Any, Any]) -> None:
    """Make a model a favourite of the caller's no longer, also one that is not offered any more."""
    slug = _slug_of(call)
    model = service.find(slug)
    preferences.remove_favourites(call.caller.uid, {slug, model.slug} if model else {slug}, now=call.now)


def _slug_of(call: Call[Any, Any]) -> str:
    return f"{call.path['author']}/{call.path['name']}"


def _is_wanted(offer: Offer, query: schemas.ModelsQuery) -> bool:
    searched = query.q.casefold()
    fits = searched in offer.slug.casefold() or searched in offer.name.casefold()
    return fits and (query.input is None or query.input in offer.input_modalities)


def _key_allows(caller: Caller, offer: Offer) -> bool:
    allowed = caller.key.allowed_models if caller.key else None
    return allowed is None or offer.slug in allowed


models = http_function("models", routes)
