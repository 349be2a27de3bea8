"""What one can do beside asking models: see which there are, and have texts embedded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.access import service as access
from functions.credits import service as credits
from functions.models import service as models
from functions.models.domain import is_slug
from functions.openai_api import repository
from functions.openai_api.domain import (
    EmbeddingModel,
    Wish,
    cost_pico_usd,
    embedding_model_from_upstream,
    model_not_found,
    most_tokens,
    slug_of,
)
from functions.openai_api.events import EmbeddingsCreated
from functions.openai_api.schemas import OfferedModel
from shared import events, log, store
from shared.clients import openrouter
from shared.clock import utc_now
from shared.errors import Conflict, FieldError, UpstreamError
from shared.openrouter import CONTEXT_LENGTH_EXCEEDED, Cancellation, Embeddings, UpstreamFailedMidStream, asking
from shared.settings import settings
from shared.trace import current_trace

if TYPE_CHECKING:
    from datetime import datetime

    from functions.credits.service import Hold
    from shared.clock import Clock
    from shared.identity.caller import Caller
    from shared.store import Batch

HOLD_TTL = timedelta(minutes=5)
"""Longer than any request for embeddings may take."""
CACHED_S = 60.0
_MAX_CACHED = 500
_LEARN_COST_AFTER_S = 0.7
_ENDED_UNPAID = {"expired", "released", "refused"}

_cache: dict[str, tuple[float, EmbeddingModel | None]] = {}


@dataclass(frozen=True)
class Embedded:
    """Packed vectors in the order of the inputs, and what they cost."""

    model: str
    vectors: tuple[str, ...]
    tokens: int
    credits: dict[str, Any]


# Models


def list_models(caller: Caller) -> list[OfferedModel]:
    """Those that the caller may ask, by name, then those that embed."""
    offered = [
        OfferedModel(
            id=each.model.slug,
            owned_by=_owner(each.model.slug),
            name=each.model.name,
            context_length=each.model.context_tokens,
        )
        for each in models.list_for(caller.plan)
        if each.available
    ]
    embedding = [_offered(each) for each in repository.list_embedding_models()]
    return [each for each in [*offered, *embedding] if _key_is_for(caller, each.id)]


def get_model(caller: Caller, name: str) -> OfferedModel:
    """One of them. Raises ModelNotFound, also for one that the caller may not ask."""
    slug = slug_of(name)
    known = models.find(slug)
    wanted = known.slug if known else slug
    for each in list_models(caller):
        if each.id == wanted:
            return each
    raise model_not_found(name)


def sync_embedding_models() -> int:
    """Make the stored catalogue of models that embed equal to the provider's. Gives the number of models offered."""
    offered = []
    for entry in openrouter().list_embedding_models():
        try:
            model = embedding_model_from_upstream(entry)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            # One entry of an unknown shape must not keep the others' prices from being renewed.
            log.warning("model not understood", model=str(entry.get("id"))[:200], reason=repr(error))
            model = None
        if model is not None:
            offered.append(model)
    if not offered:
        log.error("the provider's catalogue of embedding models is empty; the stored one is kept")
        return 0
    repository.save_embedding_models(offered, utc_now())
    _cache.clear()
    return len(offered)


def _offered(model: EmbeddingModel) -> OfferedModel:
    return OfferedModel(
        id=model.slug, owned_by=_owner(model.slug), name=model.name, context_length=model.context_tokens
    )


def _owner(slug: str) -> str:
    return slug.partition("/")[0]


def _key_is_for(caller: Caller, slug: str) -> bool:
    allowed = caller.key.allowed_models if caller.key else None
    return allowed is None or slug in allowed


def _get_embedding_model(name: str) -> EmbeddingModel:
    slug = slug_of(name)
    if not is_slug(slug):
        raise model_not_found(name)
    known = _cache.get(slug)
    if known is None or known[0] <= time.monotonic():
        if len(_cache) >= _MAX_CACHED:
            _cache.clear()
        known = (time.monotonic() + CACHED_S, repository.find_embedding_model(slug))
        _cache[slug] = known
    if known[1] is None:
        raise model_not_found(name)
    return known[1]


# Embeddings


@dataclass(frozen=True)
class _Job:
    """One request for embeddings, whose credits are held."""

    id: str
    uid: str
    wish: Wish
    model: EmbeddingModel
    hold: Hold
    began_at: datetime


def embed(wish: Wish, *, caller: Caller, clock: Clock, generation_id: str) -> Embedded:
    """The embeddings of all inputs, paid for. `generation_id` is the same when the same request comes again.

    Raises ModelNotFound, PermissionDenied and InsufficientCredits as turns do, Conflict for a repetition of what was
    answered and is not kept, UpstreamError; what the provider charged for a failure is paid.
    """
    model = _get_embedding_model(wish.model)
    micro = _charge_for(cost_pico_usd(model, most_tokens(wish)))
    access.check_key(caller, model.slug, needed_micro=micro, now=clock())
    asking.refuse_if_open(asking.SERVICE, asking.circuit_of(model.slug))
    job = _begin(wish, model, micro, caller=caller, now=clock(), generation_id=generation_id)
    try:
        given, attempt = asking.ask(model.slug, lambda: _ask(job), cancellation=Cancellation())
    except UpstreamError as error:
        failure = _of_model(error)
        _end_failed(job, error, clock())
        raise failure from error
    except Exception:
        credits.release(job.hold, now=clock(), reason="not_asked")
        raise
    attempt.succeeded()
    tokens, pico_usd = _used(job, given)
    charged_micro = _charge_for(pico_usd) if pico_usd else 0
    _end(job, tokens, pico_usd, charged_micro, upstream_id=given.generation_id, now=clock())
    charge = {"charged_micro": charged_micro, "credits": credits.credits_text(charged_micro), "pending": False}
    return Embedded(model.slug, given.vectors, tokens, charge)


def _begin(wish: Wish, model: EmbeddingModel, micro: int, *, caller: Caller, now: datetime, generation_id: str) -> _Job:
    """Hold the credits. A hold that an attempt before this one left open is gone on with: it ends once all the same."""
    reference = {"generation_id": generation_id, **({access.KEY_BUDGET: caller.key.budget_id} if caller.key else {})}
    try:
        hold = credits.hold(
            caller.uid, generation_id, micro, purpose="embeddings", ref=reference, ttl=HOLD_TTL, now=now
        )
    except credits.HoldAlreadyEnded as error:
        raise Conflict(
            "This request was answered before, and its answer is not kept; send it again under a new key.",
            reason="already_answered",
        ) from error
    return _Job(generation_id, caller.uid, wish, model, hold, now)


def _ask(job: _Job) -> Embeddings:
    body = {
        "model": job.model.slug,
        "input": list(job.wish.inputs),
        **({"dimensions": job.wish.dimensions} if job.wish.dimensions is not None else {}),
    }
    return openrouter().embed(
        body, count=len(job.wish.inputs), traceparent=current_trace().traceparent, user=log.uid_hash(job.uid)
    )


def _of_model(error: UpstreamError) -> UpstreamError:
    """What the model failed with, naming what is too long for it."""
    failure = error.reason if isinstance(error, UpstreamFailedMidStream) else error
    if failure.details.get("error_type") == CONTEXT_LENGTH_EXCEEDED:
        failure.fields = (FieldError("input", "is more than the model can read"),)
    return failure


def _used(job: _Job, given: Embeddings) -> tuple[int, int]:
    """Tokens and their cost. When the provider does not tell, not even later, its price times its tokens."""
    usage = given.usage
    if usage is not None and usage.cost_pico_usd is not None:
        return usage.prompt_tokens, usage.cost_pico_usd
    if given.generation_id is not None:
        time.sleep(_LEARN_COST_AFTER_S)
        try:
            record = openrouter().find_generation(given.generation_id)
        except UpstreamError as error:
            log.warning("cost not learned", upstream_id=given.generation_id, code=error.code)
        else:
            if record is not None and record.cost_pico_usd is not None:
                return record.native_prompt_tokens or record.prompt_tokens, record.cost_pico_usd
    tokens = usage.prompt_tokens if usage and usage.prompt_tokens else most_tokens(job.wish)
    log.warning("cost computed from the price", generation_id=job.id, upstream_id=given.generation_id)
    return tokens, cost_pico_usd(job.model, tokens)


def _end_failed(job: _Job, error: UpstreamError, now: datetime) -> None:
    usage = error.usage if isinstance(error, UpstreamFailedMidStream) else None
    if usage is None or not usage.cost_pico_usd:
        credits.release(job.hold, now=now, reason="no_cost")
        return
    charged_micro = _charge_for(usage.cost_pico_usd)
    upstream_id = error.generation_id if isinstance(error, UpstreamFailedMidStream) else None
    _end(
        job,
        usage.prompt_tokens,
        usage.cost_pico_usd,
        charged_micro,
        upstream_id=upstream_id,
        now=now,
        status="failed",
    )


def _end(
    job: _Job,
    tokens: int,
    pico_usd: int,
    charged_micro: int,
    *,
    upstream_id: str | None,
    now: datetime,
    status: str = "completed",
) -> None:
    """Pay, record the usage and tell of it, in one batch. Raises Unavailable while Firestore is out of reach."""

    def batch(hold: Hold) -> Batch:
        made: Batch = store.new_batch()
        _pay(made, hold, charged_micro, now)
        repository.record_usage(
            made,
            job.id,
            {
                "uid": job.uid,
                "capability": "embeddings",
                "conversation_id": None,
                "model_asked": job.model.slug,
                "model": job.model.slug,
                "status": status,
                "upstream_id": upstream_id,
                "charged_micro": charged_micro,
                "settlement_pending": False,
                "at": now,
                "prompt_tokens": tokens,
                "completion_tokens": 0,
                "reasoning_tokens": 0,
                "cached_tokens": 0,
                "cost_pico_usd": pico_usd,
            },
        )
        payload = EmbeddingsCreated(
            generation_id=job.id,
            model=job.model.slug,
            inputs=len(job.wish.inputs),
            prompt_tokens=tokens,
            cost_pico_usd=pico_usd,
            charged_micro=charged_micro,
            duration_ms=int((now - job.began_at).total_seconds() * 1000),
        )
        events.record(made, payload, uid=job.uid, subject=f"usage_records/{job.id}", at=now)
        return made

    try:
        store.commit_patiently(lambda: batch(job.hold))
    except store.AlreadyExists:
        ended = credits.find_hold(job.uid, job.hold.id)
        assert ended is not None, "the hold was made before the model was asked"
        if ended.state in _ENDED_UNPAID:
            store.commit_patiently(lambda: batch(ended))
        else:
            log.info("settled by another attempt at the same request first", generation_id=job.id)


def _pay(batch: Batch, hold: Hold, charged_micro: int, now: datetime) -> None:
    if hold.state == "open" and charged_micro:
        credits.settle_into(batch, hold, charged_micro, now=now)
    elif hold.state == "open":
        credits.release_into(batch, hold, now=now, reason="no_cost")
    elif charged_micro:
        credits.late_cost_into(batch, hold, charged_micro, now=now, ref=hold.ref)
    if charged_micro and (budget_id := hold.ref.get(access.KEY_BUDGET)):
        access.add_key_spending(batch, uid=hold.uid, budget_id=budget_id, micro=charged_micro, now=now)


def _charge_for(pico_usd: int) -> int:
    """In micro-credits; at least one, so that every request has a hold, and an account in debt none."""
    return max(credits.credits_for_cost(pico_usd, settings().credit_markup_percent), 1)
