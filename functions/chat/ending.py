"""The end of a generation: one batch that stores the turn, pays for it, and tells of it. Happens exactly once.

Both the process that makes the answer and the sweep that ends a dead one's go through here. The ledger allows one end
per hold, so whoever comes second changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from functions.access import service as access
from functions.chat import context as contexts
from functions.chat import repository, schemas
from functions.chat.context import Context
from functions.chat.domain import DEFAULT_CONTEXT_TOKENS, NO_COST, Generation, Outcome, Status, TokenUsage
from functions.chat.events import GenerationCompleted, GenerationFailed, GenerationSettled, MessageCompleted
from functions.credits import service as credits
from shared import events, log, store
from shared.clients import openrouter
from shared.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from functions.credits.service import Hold
    from shared.store import Batch

_ENDED_UNPAID = {"expired", "released"}


@dataclass(frozen=True)
class Place:
    """Where in its conversation a turn stands."""

    first_turn: bool = False
    temporary: bool = False
    context: Context | None = None
    """What the branch held before the turn; None when that is not known."""
    follows_tip: bool = False
    """It goes on from where the conversation ended, so a summary that was made meanwhile holds for it too."""
    budget_bytes: int = DEFAULT_CONTEXT_TOKENS


@dataclass(frozen=True)
class Ended:
    """What became of a generation. The messages are None when nothing was kept in the conversation."""

    status: Status
    event: dict[str, Any]
    """The last event of the generation's log."""
    usage: schemas.Usage | None
    credits: schemas.Charge
    user_message: schemas.Message | None
    message: schemas.Message | None


def end(generation: Generation, hold: Hold, outcome: Outcome, *, keep_partial: bool, place: Place) -> Ended:
    """Store and settle. An answer without content, or a failed one with `keep_partial=False`, leaves no messages.
    One outside any conversation leaves none in any case. When somebody else ended it first, that end is given.

    Raises Unavailable when Firestore stays out of reach; the generation then still counts as running and a sweep ends
    it.
    """
    kept = outcome.says_something and (keep_partial or outcome.status is not Status.FAILED)
    ended = _ended(generation, outcome, kept=kept and generation.conversation_id is not None)
    try:
        return _commit(generation, hold, outcome, ended, place)
    except store.AlreadyExists:
        return _second_to_end(generation, outcome, ended, keep_partial=keep_partial, place=place)


def learn_usage(upstream_id: str | None, pauses_s: Sequence[float]) -> TokenUsage | None:
    """What the provider says the generation cost; None while it does not know.

    OpenRouter answers 404 for half a second and more after an interrupted stream, hence the pauses before each try.
    """
    if upstream_id is None:
        return None
    for pause_s in pauses_s:
        time.sleep(pause_s)
        try:
            record = openrouter().find_generation(upstream_id)
        except UpstreamError as error:
            log.warning("cost not learned", upstream_id=upstream_id, code=error.code)
            return None
        if record is not None and record.cost_pico_usd is not None:
            return TokenUsage(
                prompt_tokens=record.native_prompt_tokens or record.prompt_tokens,
                completion_tokens=record.native_completion_tokens or record.completion_tokens,
                reasoning_tokens=record.native_reasoning_tokens,
                cached_tokens=record.native_cached_tokens,
                cost_pico_usd=record.cost_pico_usd,
            )
    return None


def settle_late(generation: Generation, hold: Hold, usage: TokenUsage, *, now: datetime) -> None:
    """Charge a generation whose cost became known after its end, and show it at its message. Once per generation."""
    if hold.state == "settled":
        # By another sweep, since this one listed what is open. Only the ledger's own writes refuse a second time.
        log.info("settled by somebody else first", generation_id=generation.id)
        return

    def batch(*, with_message: bool) -> Batch:
        made = store.new_batch()
        _pay(made, generation, hold, usage, now)
        repository.settle_generation(made, generation)
        repository.correct_usage(made, generation.id, usage, charged_micro=charge_for(generation, usage))
        if with_message:
            repository.correct_message(made, generation, _public_usage(usage), _charge(generation, usage))
        payload = GenerationSettled(
            generation_id=generation.id,
            model=generation.model_used or generation.model,
            cost_pico_usd=usage.cost_pico_usd,
            charged_micro=charge_for(generation, usage),
        )
        events.record(made, payload, uid=generation.uid, subject=f"generations/{generation.id}", at=now)
        return made

    try:
        try:
            store.commit(batch(with_message=generation.conversation_id is not None))
        except store.StaleWrite:
            store.commit(batch(with_message=False))  # nothing was kept, or it was deleted since
    except store.AlreadyExists:
        log.info("settled by somebody else first", generation_id=generation.id)


def settle_after_takeover(generation: Generation, usage: TokenUsage | None, *, now: datetime) -> None:
    """Charge what a turn cost that the sweep ended in its place, if the sweep could not know it."""
    hold = _hold_of(generation)
    if usage is not None and charge_for(generation, usage) and hold.state in _ENDED_UNPAID:
        settle_late(generation, hold, usage, now=now)


def charge_for(generation: Generation, usage: TokenUsage) -> int:
    """The price to the user, in micro-credits, with the mark-up that was in force when the generation began."""
    return credits.credits_for_cost(usage.cost_pico_usd, generation.markup_percent)


def _ended(generation: Generation, outcome: Outcome, *, kept: bool) -> Ended:
    usage = _public_usage(outcome.usage)
    charge = _charge(generation, outcome.usage)
    event = {
        "type": "end",
        "status": outcome.status.value,
        "finish_reason": outcome.finish_reason,
        "usage": usage.model_dump() if usage else None,
        "credits": charge.model_dump(),
        "error": {"code": outcome.error_code} if outcome.error_code else None,
    }
    if not kept:
        return Ended(outcome.status, event, usage, charge, None, None)
    question, answer = _messages(generation, outcome, usage, charge)
    return Ended(outcome.status, event, usage, charge, question, answer)


def _messages(
    generation: Generation, outcome: Outcome, usage: schemas.Usage | None, charge: schemas.Charge
) -> tuple[schemas.Message | None, schemas.Message]:
    question = None
    if generation.user_message_id is not None:
        question = schemas.Message.from_document(
            generation.user_message_id,
            {
                "parent_id": generation.parent_id,
                "role": generation.question_role,
                "parts": [dict(part) for part in generation.question],
                "status": Status.COMPLETED,
                "created_at": generation.started_at,
            },
        )
    answer = schemas.Message.from_document(
        generation.message_id,
        {
            "parent_id": generation.user_message_id or generation.parent_id,
            "role": "assistant",
            "parts": outcome.parts,
            "status": outcome.status,
            "model": outcome.model_used or generation.model,
            "finish_reason": outcome.finish_reason,
            "usage": usage,
            "credits": charge,
            "generation_id": generation.id,
            "continues": generation.continues,
            "created_at": max(outcome.ended_at, generation.started_at),
        },
    )
    return question, answer


def _batch(generation: Generation, hold: Hold, outcome: Outcome, ended: Ended, place: Place) -> Batch:
    batch = store.new_batch()
    pending = outcome.usage is None
    charged_micro = ended.credits.charged_micro
    if outcome.usage is not None:
        _pay(batch, generation, hold, outcome.usage, outcome.ended_at)
    context_bytes = 0
    if ended.message:
        details = schemas.json_text(outcome.reasoning_details)
        repository.add_turn(batch, generation, ended.user_message, ended.message, details)
        context_bytes = _keep_context(batch, generation, ended, details, place)
    repository.end_generation(batch, generation, outcome, settlement_pending=pending)
    repository.record_usage(batch, generation, outcome, charged_micro=charged_micro, settlement_pending=pending)
    _record_event(batch, generation, outcome, ended, place, context_bytes=context_bytes)
    return batch


def _keep_context(batch: Batch, generation: Generation, ended: Ended, details: str | None, place: Place) -> int:
    """Make the branch with this turn at its end the conversation's context. Gives its size."""
    assert generation.conversation_id is not None, "messages are kept in a conversation"
    assert ended.message is not None, "only what is kept becomes context"
    if place.context is None:
        repository.forget_context(batch, generation.uid, generation.conversation_id)
        return 0
    stored = [ended.user_message, ended.message] if ended.user_message else [ended.message]
    new = [
        contexts.for_context(each.id, each.parent_id, each.role, [part.model_dump() for part in each.parts])
        for each in stored
    ]
    new[-1] = replace(new[-1], reasoning_details=details)
    context = place.context.followed_by(new, budget_bytes=place.budget_bytes)
    repository.set_context(
        batch,
        generation.uid,
        generation.conversation_id,
        context,
        at=ended.message.created_at,
        keep_summary=place.follows_tip,
    )
    return context.bytes


def _record_event(
    batch: Batch, generation: Generation, outcome: Outcome, ended: Ended, place: Place, *, context_bytes: int
) -> None:
    usage = outcome.usage or NO_COST
    used: dict[str, Any] = {
        "generation_id": generation.id,
        "model": outcome.model_used or generation.model,
        "cost_pico_usd": usage.cost_pico_usd,
        "charged_micro": ended.credits.charged_micro,
    }
    counted: dict[str, Any] = {
        "status": outcome.status,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "duration_ms": int((outcome.ended_at - generation.started_at).total_seconds() * 1000),
    }
    subject = f"generations/{generation.id}"
    payload: MessageCompleted | GenerationFailed | GenerationCompleted
    if ended.message and generation.conversation_id is not None:
        subject = f"conversations/{generation.conversation_id}/messages/{generation.message_id}"
        payload = MessageCompleted(
            conversation_id=generation.conversation_id,
            message_id=generation.message_id,
            user_message_id=generation.user_message_id,
            first_in_conversation=place.first_turn,
            temporary=place.temporary,
            context_bytes=context_bytes,
            **used,
            **counted,
        )
    elif generation.conversation_id is None and outcome.status is not Status.FAILED:
        payload = GenerationCompleted(**used, **counted)
    else:
        used["model"] = generation.model
        code = outcome.error_code or outcome.status.value
        payload = GenerationFailed(conversation_id=generation.conversation_id, code=code, **used)
    events.record(batch, payload, uid=generation.uid, subject=subject, at=outcome.ended_at)


def _commit(generation: Generation, hold: Hold, outcome: Outcome, ended: Ended, place: Place) -> Ended:
    try:
        store.commit_patiently(lambda: _batch(generation, hold, outcome, ended, place))
    except (store.StaleWrite, store.WriteRefused) as error:
        if ended.message is None:
            raise
        log.warning("answer not kept", generation_id=generation.id, reason=repr(error)[:500])
    else:
        return ended
    # The conversation was deleted while the answer was made, or cannot take it: it is paid for all the same.
    homeless = replace(ended, user_message=None, message=None)
    store.commit_patiently(lambda: _batch(generation, hold, outcome, homeless, place))
    return homeless


def _pay(batch: Batch, generation: Generation, hold: Hold, usage: TokenUsage, now: datetime) -> None:
    """Add the end of the hold to the batch; of one that ended before the cost was known, the cost as a correction."""
    charged_micro = charge_for(generation, usage)
    if hold.state == "open" and charged_micro:
        credits.settle_into(batch, hold, charged_micro, now=now)
    elif hold.state == "open":
        credits.release_into(batch, hold, now=now, reason="no_cost")
        return
    elif hold.state in _ENDED_UNPAID and charged_micro:
        credits.late_cost_into(batch, hold, charged_micro, now=now, ref=hold.ref)
    else:
        return
    # Never without the ledger's write beside it, which refuses the batch the second time.
    if key_budget_id := hold.ref.get(access.KEY_BUDGET):
        access.add_key_spending(batch, uid=hold.uid, budget_id=key_budget_id, micro=charged_micro, now=now)


def _second_to_end(
    generation: Generation, outcome: Outcome, ended: Ended, *, keep_partial: bool, place: Place
) -> Ended:
    """Something in the batch was there already: the generation has its end, from us or from the sweep.

    If only its hold has ended, the turn outlived it: then the generation ends now, and pays afterwards.
    """
    stored = repository.find_generation(generation.uid, generation.id)
    assert stored is not None, "a generation is never removed once its hold was made"
    if stored.status is Status.RUNNING:
        hold = _hold_of(generation)
        if hold.state == "open":
            raise RuntimeError(f"The end of generation {generation.id} collides with something unknown.")
        return end(generation, hold, outcome, keep_partial=keep_partial, place=place)
    if (stored.ended_at, stored.status) == (outcome.ended_at, outcome.status):
        return ended
    log.warning("generation ended by somebody else first", generation_id=generation.id)
    settle_after_takeover(generation, outcome.usage, now=outcome.ended_at)
    return _ended_by_another(stored)


def _ended_by_another(stored: Generation) -> Ended:
    """The end of a generation as it is stored."""
    question = message = None
    if stored.conversation_id is not None:
        place = stored.uid, stored.conversation_id
        message = repository.find_message(*place, stored.message_id)
        if message is not None and stored.user_message_id is not None:
            question = repository.find_message(*place, stored.user_message_id)
    usage = message.usage if message else None
    charge = message.credits if message else None
    if charge is None:
        micro = _hold_of(stored).cost_micro or 0
        text = credits.credits_text(micro)
        charge = schemas.Charge(charged_micro=micro, credits=text, pending=stored.settlement_pending)
    event = {
        "type": "end",
        "status": stored.status.value,
        "finish_reason": message.finish_reason if message else None,
        "usage": usage.model_dump() if usage else None,
        "credits": charge.model_dump(),
        "error": {"code": stored.error} if stored.error else None,
    }
    return Ended(stored.status, event, usage, charge, question, message)


def _hold_of(generation: Generation) -> Hold:
    hold = credits.find_hold(generation.uid, generation.id)
    assert hold is not None, "a generation and its hold are made in one batch"
    return hold


def _charge(generation: Generation, usage: TokenUsage | None) -> schemas.Charge:
    charged_micro = charge_for(generation, usage) if usage else 0
    text = credits.credits_text(charged_micro)
    return schemas.Charge(charged_micro=charged_micro, credits=text, pending=usage is None)


def _public_usage(usage: TokenUsage | None) -> schemas.Usage | None:
    if usage is None:
        return None
    return schemas.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
    )
