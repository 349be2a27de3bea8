"""Every Firestore path and query of the catalogue.

models/{id} · model_policies/{id} · model_policies/~defaults

An id is the model's name with `~` for its slash. Prices are stored as decimal text: Firestore's numbers are floats or
integers, and neither holds them exactly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from functions.models.domain import Defaults, Offer, Policy, Tier, folded, other_names
from shared import store
from shared.clients import firestore_client
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from google.cloud.firestore import CollectionReference, DocumentReference

    from shared.store import Batch

_DEFAULTS = "~defaults"
"""No name of a model looks like it."""
_PER_BATCH = 400
_MOST_WITH_ONE_NAME = 20
_MODALITIES_AND_PARAMETERS = ("input_modalities", "output_modalities", "supported_parameters")
_HIGHEST_PRICES = ("prompt_usd", "completion_usd", "request_usd", "image_usd")
_TIER_PRICES = ("prompt_usd", "completion_usd", "request_usd")


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue, and what operators decided about it."""

    offer: Offer
    policy: Policy


@dataclass(frozen=True)
class Found:
    """A few models by their names, and the defaults."""

    entries: dict[str, Entry]
    defaults: Defaults


@dataclass(frozen=True)
class Versioned:
    """A document as it was read, for a write that depends on it; both are None when it is not there."""

    document: dict[str, Any] | None
    version: Any


def _models() -> CollectionReference:
    return firestore_client().collection("models")


def _policies() -> CollectionReference:
    return firestore_client().collection("model_policies")


def policy_id(slug: str | None) -> str:
    """For None that of the defaults."""
    return _DEFAULTS if slug is None else slug.replace("/", "~")


# Reading


def find(slugs: Sequence[str]) -> Found:
    """Those of the models that there are, with their policies and the defaults, in one round trip."""
    wanted = [*slugs, None]
    offered = [store.document("models", policy_id(slug)) for slug in slugs]
    decided = [store.document("model_policies", policy_id(slug)) for slug in wanted]
    found = [
        snapshot.to_dict() if snapshot else None for snapshot in store.start_reading([*offered, *decided]).result()
    ]
    offers = {slug: _offer(document) for slug, document in zip(slugs, found, strict=False) if document}
    policies = {slug: document for slug, document in zip(wanted, found[len(slugs) :], strict=True) if document}
    entries = {slug: Entry(offer, _policy(policies.get(slug))) for slug, offer in offers.items()}
    return Found(entries, _defaults(policies.get(None)))


def find_by_other_name(name: str) -> str | None:
    """The model that its dated name, or another spelling of it, leads to: not the free variant of a paid one."""
    query = _models().where(filter=store.field_filter("other_names", "array_contains", folded(name)))
    with store.translated_errors():
        found = query.limit(_MOST_WITH_ONE_NAME).get(**READING)
    slugs = [str((snapshot.to_dict() or {})["slug"]) for snapshot in found]
    return min(slugs, key=lambda slug: (":" in slug, slug), default=None)


def list_entries() -> tuple[list[Entry], Defaults]:
    """The whole catalogue by name, with what operators decided."""
    with store.translated_errors():
        offers = [_offer(snapshot.to_dict() or {}) for snapshot in _models().order_by("slug").get(**READING)]
        policies = {snapshot.id: snapshot.to_dict() or {} for snapshot in _policies().get(**READING)}
    entries = [Entry(offer, _policy(policies.get(policy_id(offer.slug)))) for offer in offers]
    return entries, _defaults(policies.get(_DEFAULTS))


def get_policy(slug: str | None) -> Versioned:
    with store.translated_errors():
        snapshot = _policies().document(policy_id(slug)).get(**READING)
    return Versioned(snapshot.to_dict(), snapshot.update_time) if snapshot.exists else Versioned(None, None)


# Writing


def save(offers: Sequence[Offer], at: datetime) -> tuple[int, int]:
    """Make the stored catalogue equal to this one; gives how many changed and how many went.

    What is the same is not written: apps listen to these documents.
    """
    wanted = {policy_id(offer.slug): offer_document(offer) for offer in offers}
    with store.translated_errors():
        stored = {snapshot.id: snapshot.to_dict() or {} for snapshot in _models().stream(**READING)}
    changed = {key: document for key, document in wanted.items() if _content(stored.get(key)) != document}
    gone = [key for key in stored if key not in wanted]
    for keys in _chunks([*changed]):
        batch = store.new_batch()
        for key in keys:
            batch.set(_models().document(key), {**changed[key], "updated_at": at})
        store.commit(batch)
    for keys in _chunks(gone):
        batch = store.new_batch()
        for key in keys:
            batch.delete(_models().document(key))
        store.commit(batch)
    return len(changed), len(gone)


def add_policy(batch: Batch, slug: str | None, document: dict[str, Any], read: Versioned, at: datetime) -> None:
    """Put it in the place of what was read; the batch fails when that has changed since."""
    reference: DocumentReference = _policies().document(policy_id(slug))
    content = {**document, "updated_at": at}
    if read.document is None:
        batch.create(reference, content)
    else:
        batch.update(reference, content, option=store.LastUpdateOption(read.version))


def _chunks(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + _PER_BATCH] for start in range(0, len(keys), _PER_BATCH))


# Documents


def offer_document(offer: Offer) -> dict[str, Any]:
    document = asdict(offer)
    tiers = [{**asdict(tier), **{name: str(getattr(tier, name)) for name in _TIER_PRICES}} for tier in offer.tiers]
    prices = {name: str(document[name]) for name in _HIGHEST_PRICES}
    words = {name: sorted(document[name]) for name in _MODALITIES_AND_PARAMETERS}
    return {**document, **prices, **words, "tiers": tiers, "other_names": other_names(offer)}


def _content(document: dict[str, Any] | None) -> dict[str, Any] | None:
    return {name: value for name, value in document.items() if name != "updated_at"} if document else None


def _offer(document: dict[str, Any]) -> Offer:
    return Offer(
        slug=document["slug"],
        name=document["name"],
        description=document["description"],
        canonical_slug=document["canonical_slug"],
        context_tokens=document["context_tokens"],
        max_answer_tokens=document["max_answer_tokens"],
        tiers=tuple(_tier(tier) for tier in document["tiers"]),
        input_modalities=frozenset(document["input_modalities"]),
        output_modalities=frozenset(document["output_modalities"]),
        supported_parameters=frozenset(document["supported_parameters"]),
        prompt_usd=Decimal(document["prompt_usd"]),
        completion_usd=Decimal(document["completion_usd"]),
        request_usd=Decimal(document["request_usd"]),
        image_usd=Decimal(document["image_usd"]),
    )


def _tier(document: dict[str, Any]) -> Tier:
    return Tier(**{**document, **{name: Decimal(document[name]) for name in _TIER_PRICES}})


def policy_document(policy: Policy) -> dict[str, Any]:
    return {**asdict(policy), "default_parameters": dict(policy.default_parameters), "fallbacks": [*policy.fallbacks]}


def _policy(document: dict[str, Any] | None) -> Policy:
    if document is None:
        return Policy()
    return Policy(
        enabled=document["enabled"],
        min_plan=document["min_plan"],
        markup_percent=document["markup_percent"],
        max_answer_tokens=document["max_answer_tokens"],
        default_answer_tokens=document["default_answer_tokens"],
        default_parameters=document["default_parameters"],
        fallbacks=tuple(document["fallbacks"]),
    )


def defaults_document(defaults: Defaults) -> dict[str, Any]:
    return {
        "default_models": dict(defaults.default_models),
        "stand_ins": [*defaults.stand_ins],
        "markup_percent": defaults.markup_percent,
        "ceilings": {plan: None if usd is None else str(usd) for plan, usd in defaults.ceilings.items()},
    }


def _defaults(document: dict[str, Any] | None) -> Defaults:
    if document is None:
        return Defaults()
    return Defaults(
        default_models=document["default_models"],
        stand_ins=tuple(document["stand_ins"]),
        markup_percent=document["markup_percent"],
        ceilings={plan: None if usd is None else Decimal(usd) for plan, usd in document["ceilings"].items()},
    )
