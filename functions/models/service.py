"""Which models may be asked, in which order and at what price; and what operators decide about that.

A model whose circuit is open is not asked, and that is known here, before anything is held or written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from functions.models import repository
from functions.models.catalogue import Catalogue
from functions.models.domain import (
    FOR_ANYONE,
    MAX_FALLBACKS,
    Defaults,
    Model,
    NotUnderstood,
    Offer,
    Policy,
    as_plan,
    composed,
    may_ask,
    needed_plan,
    offer_from_upstream,
)
from functions.models.events import ModelPolicyChanged
from shared import events, log, store
from shared.breaker import breakers
from shared.clients import openrouter
from shared.clock import utc_now
from shared.errors import Conflict, FieldError, InvalidRequest, PermissionDenied, Unavailable
from shared.openrouter import asking
from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from functions.models.catalogue import Known
    from functions.models.repository import Entry
    from shared.identity.caller import Caller

_NOT_OFFERED = "is not offered; GET /api/v1/models lists what is"

_catalogue = Catalogue()


@dataclass(frozen=True)
class Listed:
    """A model of the catalogue as somebody of a plan sees it."""

    offer: Offer
    model: Model
    needs_plan: str | None
    """The smallest plan that may ask it; None when nobody may."""
    available: bool


@dataclass(frozen=True)
class Reviewed:
    """A model of the catalogue as operators see it."""

    offer: Offer
    policy: Policy
    needs_plan: str | None
    markup_percent: int


# Asking


def choose(slug: str | None, *, plan: str, fallbacks: Sequence[str] = ()) -> tuple[Model, ...]:
    """The models to ask in turn, the first that may be asked now first; those whose circuits are open are left out.

    Whoever names a model gets that one, or one of the fallbacks they name; where they name none, those of the operators
    for it. Those who name no model get what the plan gives to anyone, with the fallbacks they name behind the first; of
    these there is always one, also while all circuits are open (see `all_for_anyone_fail`).

    Raises InvalidRequest naming `model` or `fallbacks[i]`, PermissionDenied with the plan that it takes, UpstreamBusy
    while every circuit of the chain is open, Unavailable when there is nothing to ask.
    """
    if slug is None:
        asking.refuse_if_open(asking.SERVICE)
        return _for_anyone(plan, fallbacks)
    known = _catalogue.look_up([slug, *fallbacks])
    named = _named(known, "model", slug, plan)
    others = _named_fallbacks(known, fallbacks, plan) or _usable(named.policy.fallbacks, plan)
    asking.refuse_if_open(asking.SERVICE)
    return _askable(_models([named, *others], known.defaults))


def all_for_anyone_fail(plan: str = "free") -> bool:
    """Whether the circuits of all of them are open: then the best of them is asked all the same."""
    slugs = _catalogue.look_up(FOR_ANYONE).defaults.for_anyone(plan)
    return breakers().choose([asking.circuit_of(entry.offer.slug) for entry in _usable(slugs, plan)]).bypass


def find(slug: str) -> Model | None:
    """The model of this name, whoever may ask it."""
    known = _catalogue.look_up([slug])
    entry = known.entries.get(slug)
    return None if entry is None else _model(entry, known.defaults)


def slug_of(reply_model: str) -> str:
    """The catalogue's name of what an answer says that it comes from; what it says, when the catalogue has none."""
    try:
        entry = _catalogue.look_up([reply_model]).entries.get(reply_model)
    except Unavailable:
        log.warning("the catalogue cannot be read", model=reply_model[:200])
        return reply_model
    return reply_model if entry is None else entry.offer.slug


def _for_anyone(plan: str, fallbacks: Sequence[str]) -> tuple[Model, ...]:
    known = _catalogue.look_up([*fallbacks, *FOR_ANYONE])
    others = _named_fallbacks(known, fallbacks, plan)
    standing = _usable(known.defaults.for_anyone(plan), plan)
    chain = [*standing[:1], *others, *standing[1:]]
    if not chain:
        raise Unavailable("No model is offered right now; name one, or try again later.", retry_after_s=60)
    models = _models(chain, known.defaults)
    by_circuit = {asking.circuit_of(model.slug): model for model in models}
    return tuple(by_circuit[name] for name in breakers().choose([*by_circuit]).names)


def _named(known: Known, field: str, slug: str, plan: str) -> Entry:
    entry = known.entries.get(slug)
    needed = needed_plan(entry.offer, entry.policy, known.defaults) if entry else None
    if entry is None or needed is None:
        raise InvalidRequest.of(field, f"{slug!r} {_NOT_OFFERED}")
    if not may_ask(plan, needed):
        raise PermissionDenied(
            f"{entry.offer.name} takes the plan {needed}; yours is {as_plan(plan)}.",
            fields=[FieldError(field, f"takes the plan {needed}")],
            reason="plan",
            model=entry.offer.slug,
            plan=needed,
        )
    return entry


def _named_fallbacks(known: Known, fallbacks: Sequence[str], plan: str) -> list[Entry]:
    return [_named(known, f"fallbacks[{place}]", slug, plan) for place, slug in enumerate(fallbacks)]


def _usable(slugs: Iterable[str], plan: str) -> list[Entry]:
    """Those that the plan may ask; what nobody named is left out without a word."""
    names = [*slugs]
    if not names:
        return []
    known = _catalogue.look_up(names)
    return [entry for entry in known.of(names) if may_ask(plan, needed_plan(entry.offer, entry.policy, known.defaults))]


def _askable(chain: Sequence[Model]) -> tuple[Model, ...]:
    """Those whose circuits let a request through. Raises UpstreamBusy when there is none."""
    waits = {model.slug: breakers().get(asking.circuit_of(model.slug)).blocked_for_s() for model in chain}
    free = tuple(model for model in chain if waits[model.slug] is None)
    if free:
        return free
    soonest = min(chain, key=lambda model: waits[model.slug] or 0)
    asking.refuse_if_open(asking.circuit_of(soonest.slug))
    return (soonest,)  # its circuit has closed in this moment


def _models(entries: Sequence[Entry], defaults: Defaults) -> list[Model]:
    each_once = {entry.offer.slug: entry for entry in entries}
    return [_model(entry, defaults) for entry in each_once.values()]


def _model(entry: Entry, defaults: Defaults) -> Model:
    return composed(entry.offer, entry.policy, defaults, markup_percent=settings().credit_markup_percent)


# Looking


def list_for(plan: str) -> list[Listed]:
    """Every model that somebody may ask, by name, and whether this plan may."""
    entries, defaults = _catalogue.everything()
    listed = []
    for entry in entries:
        needed = needed_plan(entry.offer, entry.policy, defaults)
        if needed is not None:
            available = may_ask(plan, needed)
            listed.append(Listed(entry.offer, _model(entry, defaults), needed, available))
    return listed


def default_for(plan: str, preferred: str | None = None) -> str:
    """What a turn asks that names no model, when nothing fails."""
    known = _catalogue.look_up([*([preferred] if preferred else []), *FOR_ANYONE])
    slugs = [*([preferred] if preferred else []), *known.defaults.for_anyone(plan)]
    usable = _usable(slugs, plan)
    return usable[0].offer.slug if usable else slugs[-1]


# The provider's catalogue


def sync() -> int:
    """Make the stored catalogue equal to the provider's. Gives the number of models offered."""
    offered: list[Offer] = []
    left_out = 0
    for entry in openrouter().list_models():
        try:
            offer = offer_from_upstream(entry)
        except NotUnderstood as error:
            # One entry of an unknown shape must not keep the others' prices from being renewed.
            log.warning("model not understood", model=str(entry.get("id"))[:200], reason=str(error))
            offer = None
        if offer is None:
            left_out += 1
        else:
            offered.append(offer)
    if not offered:
        log.error("the provider's catalogue is empty; the stored one is kept", left_out=left_out)
        return 0
    changed, gone = repository.save(offered, utc_now())
    _catalogue.forget()
    log.info("models synchronised", offered=len(offered), left_out=left_out, changed=changed, gone=gone)
    return len(offered)


# Operators


def review() -> tuple[list[Reviewed], Defaults]:
    """Every model of the catalogue with what was decided about it, as it is stored now."""
    entries, defaults = repository.list_entries()
    return [_reviewed(entry, defaults) for entry in entries], defaults


def get_defaults() -> Defaults:
    return repository.find([]).defaults


def set_policy(by: Caller, slug: str, policy: Policy, *, now: datetime) -> Reviewed:
    """Decide about one model; every process goes by it within a minute.

    The same again changes and tells nothing. Raises InvalidRequest naming the field, Conflict when somebody else is
    changing it in this moment.
    """
    found = repository.find([slug, *policy.fallbacks])
    if slug not in found.entries:
        raise InvalidRequest.of("model", f"{slug!r} {_NOT_OFFERED}")
    _require(found.entries, "fallbacks", policy.fallbacks)
    if slug in policy.fallbacks:
        raise InvalidRequest.of(f"fallbacks[{policy.fallbacks.index(slug)}]", "is the model itself")
    most = policy.max_answer_tokens
    if most is not None and (policy.default_answer_tokens or 0) > most:
        raise InvalidRequest.of("default_answer_tokens", f"is more than max_answer_tokens, {most}")
    _change(by, slug, repository.policy_document(Policy()), repository.policy_document(policy), now)
    return _reviewed(replace(found.entries[slug], policy=policy), found.defaults)


def set_defaults(by: Caller, defaults: Defaults, *, now: datetime) -> Defaults:
    """Decide about all models at once. Raises like `set_policy`.

    A default model must be one that its plan may ask. Later decisions may take it away: then a stand-in answers.
    """
    found = repository.find([*defaults.default_models.values(), *defaults.stand_ins])
    _require(found.entries, "stand_ins", defaults.stand_ins)
    for plan, slug in defaults.default_models.items():
        entry = found.entries.get(slug)
        if entry is None:
            raise InvalidRequest.of(f"default_models.{plan}", f"{slug!r} {_NOT_OFFERED}")
        if not may_ask(plan, needed_plan(entry.offer, entry.policy, defaults)):
            raise InvalidRequest.of(f"default_models.{plan}", f"{slug!r} may not be asked on this plan")
    _change(by, None, repository.defaults_document(Defaults()), repository.defaults_document(defaults), now)
    return defaults


def _require(entries: dict[str, Entry], field: str, slugs: Sequence[str]) -> None:
    if len(slugs) > MAX_FALLBACKS:
        raise InvalidRequest.of(field, f"names more than {MAX_FALLBACKS} models")
    for place, slug in enumerate(slugs):
        if slug not in entries:
            raise InvalidRequest.of(f"{field}[{place}]", f"{slug!r} {_NOT_OFFERED}")


def _change(by: Caller, slug: str | None, built_in: dict[str, Any], new: dict[str, Any], now: datetime) -> None:
    """Store it with the event on the operator's own log, which says what was and what is."""
    read = repository.get_policy(slug)
    old = built_in | (read.document or {})
    changes = {name: {"was": old[name], "is": value} for name, value in new.items() if old[name] != value}
    if not changes:
        return
    batch = store.new_batch()
    repository.add_policy(batch, slug, new, read, now)
    payload = ModelPolicyChanged(model=slug, changes=changes)
    events.record(batch, payload, uid=by.uid, subject=f"model_policies/{repository.policy_id(slug)}", at=now)
    try:
        store.commit(batch)
    except (store.StaleWrite, store.AlreadyExists) as error:
        raise Conflict("Somebody else is changing this right now; look at it again.") from error
    _catalogue.forget()


def _reviewed(entry: Entry, defaults: Defaults) -> Reviewed:
    model = _model(entry, defaults)
    needed = needed_plan(entry.offer, entry.policy, defaults)
    return Reviewed(entry.offer, entry.policy, needed, model.markup_percent)
