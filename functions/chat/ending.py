"""The end of a generation: one batch that stores the turn, pays for it, and tells of it. Happens exactly once.

Both the process that makes the answer and the sweep that ends a dead one's go through here. The ledger allows one end
per hold, so whoever comes second changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from functions.access import service as access
from functions.chat import repository, schemas
from functions.chat.domain import Generation, Outcome, Status, TokenUsage
from functions.chat.events import GenerationFailed, GenerationSettled, MessageCompleted
from functions.credits import service as credits
from shared import events, log, store
from shared.clients import openrouter
from shared.errors import Unavailable, UpstreamError
from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from google.cloud.firestore import WriteBatch

    from functions.credits.service import Hold

KEY_BUDGET = "key_budget_id"
"""Where a hold's `ref` names the API key that its turn was asked with."""
NO_COST = TokenUsage(prompt_tokens=0, completion_tokens=0, reasoning_tokens=0, cached_tokens=0, cost_pico_usd=0)
_ENDED_UNPAID = {"expired", "released"}
_COMMIT_PAUSES_S = (0.2, 0.6, 1.5)


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


def end(generation: Generation, hold: Hold, outcome: Outcome, *, keep_partial: bool, first_turn: bool) -> Ended:
    """Store and settle. An answer without content, or a failed one with `keep_partial=False`, leaves no messages.

    Raises Unavailable when Firestore stays out of reach; the generation then still counts as running and a sweep ends
    it.
    """
    kept = bool(outcome.text or outcome.reasoning) and (keep_partial or outcome.status is not Status.FAILED)
    ended = _ended(generation, outcome, kept=kept)
    try:
        return _commit(generation, hold, outcome, ended, first_turn=first_turn)
    except store.AlreadyExists:
        return _second_to_end(generation, outcome, keep_partial=keep_partial, first_turn=first_turn) or ended


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

    def batch(*, with_message: bool) -> WriteBatch:
        made = store.new_batch()
        _pay(made, hold, usage, now)
        repository.settle_generation(made, generation)
        repository.correct_usage(made, generation.id, usage, charged_micro=charge_for(usage))
        if with_message:
            repository.correct_message(made, generation, _public_usage(usage), _charge(usage))
        payload = GenerationSettled(
            generation_id=generation.id,
            model=generation.model_used or generation.model,
            cost_pico_usd=usage.cost_pico_usd,
            charged_micro=charge_for(usage),
        )
        events.record(made, payload, uid=generation.uid, subject=f"generations/{generation.id}", at=now)
        return made

    try:
        try:
            store.commit(batch(with_message=True))
        except store.StaleWrite:
            store.commit(batch(with_message=False))  # nothing was kept, or it was deleted since
    except store.AlreadyExists:
        log.info("settled by somebody else first", generation_id=generation.id)


def settle_after_takeover(generation: Generation, usage: TokenUsage | None, *, now: datetime) -> None:
    """Charge what a turn cost that the sweep ended in its place, if the sweep could not know it."""
    hold = _hold_of(generation)
    if usage is not None and charge_for(usage) and hold.state in _ENDED_UNPAID:
        settle_late(generation, hold, usage, now=now)


def charge_for(usage: TokenUsage) -> int:
    """The price to the user, in micro-credits."""
    return credits.credits_for_cost(usage.cost_pico_usd, settings().credit_markup_percent)


def _ended(generation: Generation, outcome: Outcome, *, kept: bool) -> Ended:
    usage = _public_usage(outcome.usage)
    charge = _charge(outcome.usage)
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
) -> tuple[schemas.Message, schemas.Message]:
    question = schemas.Message(
        id=generation.user_message_id,
        parent_id=generation.parent_id,
        role="user",
        parts=[schemas.Part(type="text", text=generation.question)],
        status=Status.COMPLETED,
        created_at=generation.started_at,
    )
    parts = [schemas.Part(type="reasoning", text=outcome.reasoning)] if outcome.reasoning else []
    answer = schemas.Message(
        id=generation.message_id,
        parent_id=generation.user_message_id,
        role="assistant",
        parts=[*parts, schemas.Part(type="text", text=outcome.text)],
        status=outcome.status,
        model=outcome.model_used or generation.model,
        finish_reason=outcome.finish_reason,
        usage=usage,
        credits=charge,
        generation_id=generation.id,
        created_at=max(outcome.ended_at, generation.started_at),
    )
    return question, answer


def _batch(generation: Generation, hold: Hold, outcome: Outcome, ended: Ended, *, first_turn: bool) -> WriteBatch:
    batch = store.new_batch()
    pending = outcome.usage is None
    charged_micro = ended.credits.charged_micro
    if outcome.usage is not None:
        _pay(batch, hold, outcome.usage, outcome.ended_at)
    if ended.user_message and ended.message:
        repository.add_turn(batch, generation, ended.user_message, ended.message, generation.model)
    repository.end_generation(batch, generation, outcome, settlement_pending=pending)
    repository.record_usage(batch, generation, outcome, charged_micro=charged_micro, settlement_pending=pending)
    _record_event(batch, generation, outcome, ended, first_turn=first_turn)
    return batch


def _record_event(
    batch: WriteBatch, generation: Generation, outcome: Outcome, ended: Ended, *, first_turn: bool
) -> None:
    subject = f"conversations/{generation.conversation_id}/messages/{generation.message_id}"
    usage = outcome.usage or NO_COST
    payload: MessageCompleted | GenerationFailed
    if ended.message:
        payload = MessageCompleted(
            conversation_id=generation.conversation_id,
            generation_id=generation.id,
            message_id=generation.message_id,
            user_message_id=generation.user_message_id,
            first_in_conversation=first_turn,
            status=outcome.status,
            model=outcome.model_used or generation.model,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_pico_usd=usage.cost_pico_usd,
            charged_micro=ended.credits.charged_micro,
            duration_ms=int((outcome.ended_at - generation.started_at).total_seconds() * 1000),
        )
    else:
        payload = GenerationFailed(
            conversation_id=generation.conversation_id,
            generation_id=generation.id,
            model=generation.model,
            code=outcome.error_code or outcome.status.value,
            cost_pico_usd=usage.cost_pico_usd,
            charged_micro=ended.credits.charged_micro,
        )
    events.record(batch, payload, uid=generation.uid, subject=subject, at=outcome.ended_at)


def _commit(generation: Generation, hold: Hold, outcome: Outcome, ended: Ended, *, first_turn: bool) -> Ended:
    try:
        _commit_patiently(lambda: _batch(generation, hold, outcome, ended, first_turn=first_turn))
    except (store.StaleWrite, store.WriteRefused) as error:
        if ended.message is None:
            raise
        log.warning("answer not kept", generation_id=generation.id, reason=repr(error)[:500])
    else:
        return ended
    # The conversation was deleted while the answer was made, or cannot take it: it is paid for all the same.
    homeless = replace(ended, user_message=None, message=None)
    _commit_patiently(lambda: _batch(generation, hold, outcome, homeless, first_turn=False))
    return homeless


def _commit_patiently(make: Callable[[], WriteBatch]) -> None:
    """Commit, again after pauses while Firestore is out of reach: a paid answer is worth waiting for."""
    for pause_s in _COMMIT_PAUSES_S:
        try:
            store.commit(make())
        except Unavailable:
            time.sleep(pause_s)
        else:
            return
    store.commit(make())


def _pay(batch: WriteBatch, hold: Hold, usage: TokenUsage, now: datetime) -> None:
    """Add the end of the hold to the batch; of one that ended before the cost was known, the cost as a correction."""
    charged_micro = charge_for(usage)
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
    if key_budget_id := hold.ref.get(KEY_BUDGET):
        access.add_key_spending(batch, uid=hold.uid, budget_id=key_budget_id, micro=charged_micro, now=now)


def _second_to_end(generation: Generation, outcome: Outcome, *, keep_partial: bool, first_turn: bool) -> Ended | None:
    """Something in the batch was there already: None when the generation has its end, from us or from the sweep.

    If only its hold has ended, the turn outlived it: then the generation ends now, and pays afterwards.
    """
    stored = repository.find_generation(generation.uid, generation.id)
    assert stored is not None, "a generation is never removed once its hold was made"
    if stored.status is Status.RUNNING:
        hold = _hold_of(generation)
        if hold.state == "open":
            raise RuntimeError(f"The end of generation {generation.id} collides with something unknown.")
        return end(generation, hold, outcome, keep_partial=keep_partial, first_turn=first_turn)
    if stored.ended_at != outcome.ended_at:
        log.warning("generation ended by somebody else first", generation_id=generation.id)
        settle_after_takeover(generation, outcome.usage, now=outcome.ended_at)
    return None


def _hold_of(generation: Generation) -> Hold:
    hold = credits.find_hold(generation.uid, generation.id)
    assert hold is not None, "a generation and its hold are made in one batch"
    return hold


def _charge(usage: TokenUsage | None) -> schemas.Charge:
    charged_micro = charge_for(usage) if usage else 0
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
