"""What one can do with conversations and their generations."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from functions.access import service as access
from functions.chat import ending, generation_log, models, repository, schemas
from functions.chat.domain import UNTITLED, Generation, Outcome, Question, Status, title_from
from functions.chat.events import ConversationCreated
from functions.chat.turn import AlreadyBegun, RetoldTurn, Turn, begin, most_it_can_cost_micro
from functions.credits import service as credits
from shared import events, log, store
from shared.errors import AppError, Conflict, Gone, NotFound, UpstreamError
from shared.ids import derived_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from google.cloud.firestore import WriteBatch

    from functions.chat.domain import Model
    from functions.chat.generation_log import Event, Snapshot
    from functions.chat.renderers import Renderer
    from functions.credits.service import Hold
    from shared.clock import Clock
    from shared.identity.caller import Caller

SILENT_FOR = timedelta(seconds=15)
"""A generation younger than this may still be opening its log."""
COST_PATIENCE = timedelta(minutes=15)
"""How long the provider is asked for the cost of a generation that did not end by itself."""
SWEEP_LIMIT = 100
SWEEP_TIME_S = 120.0
"""A sweep that takes longer leaves the rest to the next one."""
BUSY_RETRY_AFTER_S, LOST_RETRY_AFTER_S = 2, 15
"""When an answer that somebody makes may be there, and one that nobody makes any more: the sweep comes every minute."""
ASKED_AT_MOST = 4
"""How often one request asks the model when every attempt so far broke off and left nothing."""
_POLL_S = 0.1
_LATE_COST_PAUSES_S = (0.0,)


def create_conversation(uid: str, conversation_id: str, title: str | None, *, now: datetime) -> schemas.Conversation:
    """A new conversation; the one that is there when the same request made it before."""
    batch = store.new_batch()
    repository.create_conversation(batch, uid, conversation_id, title, now)
    payload = ConversationCreated(conversation_id=conversation_id)
    events.record(batch, payload, uid=uid, subject=f"conversations/{conversation_id}", at=now)
    try:
        store.commit(batch)
    except store.AlreadyExists:
        return get_conversation(uid, conversation_id)
    return schemas.Conversation(
        id=conversation_id,
        title=title or UNTITLED,
        model=None,
        tip=None,
        message_count=0,
        created_at=now,
        updated_at=now,
    )


def get_conversation(uid: str, conversation_id: str) -> schemas.Conversation:
    conversation = repository.find_conversation(uid, conversation_id)
    if conversation is None:
        raise NotFound("There is no such conversation.")
    return conversation


def list_messages(uid: str, conversation_id: str, limit: int, cursor: str | None) -> schemas.MessagePage:
    get_conversation(uid, conversation_id)
    items, next_cursor = repository.list_messages(uid, conversation_id, limit, cursor)
    return schemas.MessagePage(items=items, next_cursor=next_cursor)


def ask(
    uid: str,
    conversation_id: str,
    question: Question,
    *,
    clock: Clock,
    keep_partial: bool,
    generation_id: str | None = None,
    caller: Caller | None = None,
) -> Turn:
    """A turn whose model has begun to answer. Iterate it, or take its `answer()`.

    `generation_id` is the same when the same request comes again: what an earlier attempt made is told again, neither
    asked nor paid for a second time; when nothing of it was kept, the model is asked anew. Raises Conflict while an
    earlier attempt is under way.

    `keep_partial`: whether what a failing model wrote stays in the conversation; it does when the client saw it.

    `caller`: who asks; with an API key its models and its monthly limit hold, and what the turn costs counts for it.
    """
    key = caller.key if caller else None
    # Chosen once: between two looks a circuit may open, and the one that was checked would not be the one asked.
    model = models.get_model(question.model)
    if caller and key:
        _check_key(caller, model, question, generation_id, clock())
    for _ in range(ASKED_AT_MOST):
        try:
            turn = begin(
                uid,
                conversation_id,
                question,
                clock=clock,
                keep_partial=keep_partial,
                model=model,
                generation_id=generation_id,
                key_budget_id=key.budget_id if key else None,
            )
        except AlreadyBegun as earlier:
            generation = repository.find_generation(uid, earlier.generation_id)
            if generation is not None and (retold := _find_retold(generation)):
                return retold
            # It broke off and left nothing, or its hold was refused: this attempt gets an id of its own.
            generation_id = derived_id("gen", earlier.generation_id)
        else:
            turn.connect()
            return turn
    raise UpstreamError("Every attempt at this answer broke off; ask again under a new key.")


def _check_key(caller: Caller, model: Model, question: Question, generation_id: str | None, now: datetime) -> None:
    """What was begun with the key before may be told again, whatever the key may do by now."""
    try:
        access.check_key(caller, model.slug, needed_micro=most_it_can_cost_micro(model, question), now=now)
    except AppError:
        if generation_id is None or repository.find_generation(caller.uid, generation_id) is None:
            raise


def _find_retold(generation: Generation) -> RetoldTurn | None:
    """The turn of an earlier attempt; None when nothing of it was kept. Raises Conflict while it has not ended."""
    if generation.status is Status.RUNNING:
        raise _still_made(generation)
    uid, conversation_id = generation.uid, generation.conversation_id
    user_message = repository.find_message(uid, conversation_id, generation.user_message_id)
    message = repository.find_message(uid, conversation_id, generation.message_id)
    return RetoldTurn(generation, user_message, message) if user_message and message else None


def _still_made(generation: Generation) -> Conflict:
    snapshot = generation_log.read(generation.id)
    if snapshot is not None and snapshot.alive:
        text, retry_after_s = "This answer is still being made; its events can be read.", BUSY_RETRY_AFTER_S
    else:
        text, retry_after_s = "This answer was interrupted and is being recovered.", LOST_RETRY_AFTER_S
    return Conflict(text, retry_after_s=retry_after_s, reason="still_running", generation_id=generation.id)


def title_conversation(event: events.Event, *, now: datetime) -> None:
    """Name a conversation after its first question, unless its user was quicker."""
    uid, data = event.uid, event.data
    conversation = repository.find_conversation(uid, data["conversation_id"])
    question = repository.find_node(uid, data["conversation_id"], data["user_message_id"])
    if conversation is None or question is None or conversation.title != UNTITLED:
        return

    def rename(batch: WriteBatch) -> None:
        repository.rename_conversation(batch, uid, conversation.id, title_from(question.text))

    events.once("title", event, rename, now=now)


# Generations


def get_generation(uid: str, generation_id: str) -> Generation:
    generation = repository.find_generation(uid, generation_id)
    if generation is None:
        raise NotFound("There is no such generation.")
    return generation


def read_events(uid: str, generation_id: str, *, after: int, wait_s: float) -> schemas.GenerationEvents:
    """The events after number `after`; waits up to `wait_s` seconds for the first."""
    give_up_at = time.monotonic() + wait_s
    while True:
        snapshot = _log_of(uid, generation_id, after)
        done = snapshot.closed or (not snapshot.events and _gets_no_more(uid, generation_id, snapshot))
        if snapshot.events or done or time.monotonic() >= give_up_at:
            last = snapshot.events[-1]["seq"] if snapshot.events else after
            return schemas.GenerationEvents(items=snapshot.events, next=last, done=done)
        time.sleep(_POLL_S)


def follow(uid: str, generation_id: str, renderer: Renderer, *, after: int) -> Iterator[bytes]:
    """A generation as a stream, from after event `after` to its end, in the bytes that its first client got."""
    first = _log_of(uid, generation_id, 0)
    return _followed(uid, generation_id, renderer, after, first)


def _followed(uid: str, generation_id: str, renderer: Renderer, after: int, snapshot: Snapshot) -> Iterator[bytes]:
    read = 0
    while True:
        for event in snapshot.events:
            read = event["seq"]
            # Events the client already has are rendered too: they leave the renderer in the right state.
            frames = renderer.render([event])
            if read > after:
                yield frames
        if snapshot.closed:
            return
        if not snapshot.events and _gets_no_more(uid, generation_id, snapshot):
            error = {"code": Gone.code, "message": "The rest was not logged; the message holds the answer."}
            yield renderer.render([{"type": "end", "status": Status.INTERRUPTED.value, "error": error}])
            return
        time.sleep(_POLL_S)
        snapshot = _log_of(uid, generation_id, read)


def _gets_no_more(uid: str, generation_id: str, snapshot: Snapshot) -> bool:
    """Whether the log was lost on its way: nobody writes it, and the generation has ended without closing it."""
    return not snapshot.alive and get_generation(uid, generation_id).status is not Status.RUNNING


def stop(uid: str, generation_id: str) -> schemas.StopAnswer:
    """Ask the generation's producer to stop; what was written by then is kept and paid for."""
    generation = get_generation(uid, generation_id)
    running = generation.status is Status.RUNNING
    if running:
        generation_log.request_stop(generation_id)
    return schemas.StopAnswer(id=generation_id, stopping=running)


def _log_of(uid: str, generation_id: str, after: int) -> Snapshot:
    snapshot = generation_log.read(generation_id, after=after)
    if snapshot is not None and snapshot.uid == uid:
        return snapshot
    generation = get_generation(uid, generation_id)
    raise Gone("The events are kept for an hour; the message holds the answer.", message_id=generation.message_id)


# Sweeps


def sweep(*, now: datetime) -> dict[str, int]:
    """End what died and settle what was left open. Gives what was done, by kind; one failure does not stop the rest."""
    stop_at = time.monotonic() + SWEEP_TIME_S
    dead = [
        _attempt(_end_dead, each, now)
        for each in repository.list_running(now - SILENT_FOR, SWEEP_LIMIT)
        if time.monotonic() < stop_at
    ]
    late = [
        _attempt(_settle, each, now) for each in repository.list_unsettled(SWEEP_LIMIT) if time.monotonic() < stop_at
    ]
    return {
        "interrupted": dead.count(True),
        "settled": late.count(True),
        "generations_failed": dead.count(None) + late.count(None),
    }


def _attempt(act: Callable[[Generation, datetime], bool], generation: Generation, now: datetime) -> bool | None:
    """What `act` did; None when it failed, which the log tells and the next sweep tries again."""
    try:
        return act(generation, now)
    except Exception as error:  # noqa: BLE001  # each generation is an edge of its own
        log.error("generation not swept", cause=error, generation_id=generation.id)
        return None


def _end_dead(generation: Generation, now: datetime) -> bool:
    """End a generation whose producer is gone with what its log holds; False while it lives."""
    fenced = generation_log.take_over(generation.id, generation.uid)
    if fenced is None:
        return False
    hold = _hold_of(generation)
    snapshot = generation_log.read(generation.id)
    logged: list[Event] = snapshot.events if snapshot else []
    upstream_id = snapshot.upstream_id if snapshot else None
    usage = ending.learn_usage(upstream_id, _LATE_COST_PAUSES_S) if upstream_id else ending.NO_COST
    outcome = Outcome(
        status=Status.INTERRUPTED,
        ended_at=now,
        text="".join(event["text"] for event in logged if event["type"] == "text"),
        reasoning="".join(event["text"] for event in logged if event["type"] == "reasoning"),
        usage=usage,
        upstream_id=upstream_id,
        error_code="interrupted",
    )
    conversation = repository.find_conversation(generation.uid, generation.conversation_id)
    parent_id = logged[0]["parent_id"] if logged else generation.parent_id
    first_turn = conversation is not None and conversation.message_count == 0
    attached = replace(generation, parent_id=parent_id)
    ended = ending.end(attached, hold, outcome, keep_partial=True, first_turn=first_turn)
    fenced.append([ended.event], close=True)
    log.warning("generation interrupted", generation_id=generation.id, uid_hash=log.uid_hash(generation.uid))
    return True


def _hold_of(generation: Generation) -> Hold:
    hold = credits.find_hold(generation.uid, generation.id)
    assert hold is not None, "a generation and its hold are made in one batch"
    return hold


def _settle(generation: Generation, now: datetime) -> bool:
    """Charge a generation whose cost is known by now. False: not yet, try again later.

    When the provider keeps silent for too long its user pays nothing, and the log tells the operator.
    """
    hold = _hold_of(generation)
    usage = ending.learn_usage(generation.upstream_id, _LATE_COST_PAUSES_S)
    if usage is None:
        assert generation.ended_at is not None, "only ended generations wait for their cost"
        if now < generation.ended_at + COST_PATIENCE:
            return False
        log.error("cost never learned", generation_id=generation.id, upstream_id=generation.upstream_id)
    ending.settle_late(generation, hold, usage or ending.NO_COST, now=now)
    return True
