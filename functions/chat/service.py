"""What one can do with conversations and their generations."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.chat import ending, generation_log, repository, schemas
from functions.chat.answer import Answer
from functions.chat.beginning import AlreadyBegun, Key, begin, begin_alone
from functions.chat.domain import (
    DEFAULT_CONTEXT_TOKENS,
    DEFAULT_RETENTION,
    NO_COST,
    UNTITLED,
    ConversationState,
    Generation,
    Outcome,
    Prompt,
    Question,
    Status,
)
from functions.chat.ending import Place
from functions.chat.events import ConversationChanged, ConversationCreated
from functions.chat.folders import service as folders
from functions.chat.search import service as search
from functions.chat.turn import RetoldTurn, TakenOver, Turn
from functions.chat.uploads import service as uploads
from functions.credits import service as credits
from functions.models import service as models
from shared import events, log, store
from shared.clock import utc_now
from shared.errors import AppError, Conflict, FieldError, Gone, InvalidRequest, NotFound, Unavailable, UpstreamError
from shared.ids import derived_id, is_safe_id, new_id
from shared.redis_link import LinkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from functions.chat.domain import Part
    from functions.chat.generation_log import Event, Snapshot
    from functions.chat.renderers import Renderer
    from functions.credits.service import Hold
    from shared.clock import Clock
    from shared.identity.caller import Caller

SILENT_FOR = timedelta(seconds=8)
"""A generation younger than this may still be opening its log."""
COST_PATIENCE = timedelta(minutes=30)
"""How long the provider is asked for the cost of a generation that did not end by itself."""
FIRST_COST_PAUSE = timedelta(seconds=20)
"""Before the provider is asked again; then twice as long each time."""
SWEEP_LIMIT = 100
SWEEP_TIME_S = 120.0
"""A sweep that takes longer leaves the rest to the next one."""
BUSY_RETRY_AFTER_S, LOST_RETRY_AFTER_S = 2, 15
"""When an answer that somebody makes may be there, and one that nobody makes any more: the sweep comes every minute."""
ASKED_AT_MOST = 4
"""How often one request asks the model when every attempt so far broke off and left nothing."""
_POLL_S = 0.1
_PLACE = re.compile(r"content\[([0-9]+)\]\.upload_id")
_LATE_COST_PAUSES_S = (0.0,)


# Conversations


def create_conversation(
    uid: str, conversation_id: str, wish: schemas.CreateConversation, *, plan: str, now: datetime
) -> schemas.Conversation:
    """A new conversation; the one that is there when the same request made it before. Raises InvalidRequest."""
    if wish.folder_id is not None:
        folders.require(uid, wish.folder_id)
    if wish.settings is not None:
        _require_models(wish.settings)
    retention = timedelta(hours=wish.retention_hours) if wish.retention_hours else DEFAULT_RETENTION
    settings = wish.settings or schemas.ConversationSettings()
    if settings.model is None:
        settings = settings.model_copy(update={"model": _preferred_model(uid, plan, now)})
    conversation = schemas.Conversation(
        id=conversation_id,
        title=wish.title or UNTITLED,
        title_source="user" if wish.title else "default",
        state=ConversationState.TEMPORARY if wish.temporary else ConversationState.ACTIVE,
        folder_id=wish.folder_id,
        tags=wish.tags,
        settings=settings,
        expires_at=now + retention if wish.temporary else None,
        created_at=now,
        updated_at=now,
    )
    batch = store.new_batch()
    if wish.folder_id is not None:
        folders.require_into(batch, uid, wish.folder_id)
    repository.create_conversation(batch, uid, conversation)
    if wish.title and not wish.temporary:
        search.add_title(batch, uid, conversation_id, wish.title, now)
    payload = ConversationCreated(conversation_id=conversation_id)
    events.record(batch, payload, uid=uid, subject=f"conversations/{conversation_id}", at=now)
    try:
        store.commit(batch)
    except store.AlreadyExists:
        return get_conversation(uid, conversation_id)
    return conversation


def _preferred_model(uid: str, plan: str, now: datetime) -> str | None:
    """The user's own default, if they may still ask it. Preferences are no reason to refuse a conversation."""
    from functions.users import preferences  # brings the whole database library, which no turn needs

    try:
        preferred = preferences.get(uid, now=now).default_model
    except (NotFound, Unavailable) as error:
        log.warning("preferences not read", reason=repr(error))
        return None
    return preferred if preferred and models.default_for(plan, preferred) == preferred else None


def get_conversation(uid: str, conversation_id: str) -> schemas.Conversation:
    conversation = repository.find_conversation(uid, conversation_id)
    if conversation is None:
        raise NotFound("There is no such conversation.")
    return conversation


def change_conversation(
    uid: str, conversation_id: str, change: schemas.ChangeConversation, *, now: datetime
) -> schemas.Conversation:
    """Change what was given, leave the rest. Raises NotFound, InvalidRequest."""
    conversation = get_conversation(uid, conversation_id)
    given = {name: getattr(change, name) for name in change.model_fields_set}
    changed = _changed(uid, conversation, given)
    if not given:
        return conversation
    batch = store.new_batch()
    document: dict[str, Any] = {name: getattr(changed, name) for name in given if name not in ("settings", "archived")}
    if "settings" in given:
        document["settings"] = repository.settings_field(changed.settings)
    if "title" in given:
        document["title_source"] = changed.title_source
        if changed.state is not ConversationState.TEMPORARY:
            search.add_title(batch, uid, conversation_id, changed.title, conversation.created_at)
    document["state"] = changed.state.value
    if given.get("folder_id") is not None:
        folders.require_into(batch, uid, given["folder_id"])
    repository.change_conversation(batch, uid, conversation_id, document)
    if "tip" in given or _keeps_more(conversation.settings, changed.settings):
        repository.forget_context(batch, uid, conversation_id)
    payload = ConversationChanged(conversation_id=conversation_id, changed=sorted(given))
    events.record(batch, payload, uid=uid, subject=f"conversations/{conversation_id}", at=now)
    try:
        store.commit(batch)
    except store.StaleWrite as error:
        raise NotFound("There is no such conversation.") from error
    return changed


def _changed(uid: str, before: schemas.Conversation, given: Mapping[str, Any]) -> schemas.Conversation:
    values = dict(given)
    if "title" in values:
        values["title_source"] = "user" if values["title"] else "default"
        values["title"] = values["title"] or UNTITLED
    if "settings" in values:
        values["settings"] = values["settings"] or schemas.ConversationSettings()
        _require_models(values["settings"])
    if values.get("folder_id") is not None:
        folders.require(uid, values["folder_id"])
    if "tags" in values:
        values["tags"] = values["tags"] or []
    if "pinned" in values:
        values["pinned"] = bool(values["pinned"])
    if "archived" in values:
        archived = bool(values.pop("archived"))
        if before.state is ConversationState.TEMPORARY:
            raise InvalidRequest.of("archived", "is not for temporary chats: they are in no list")
        values["state"] = ConversationState.ARCHIVED if archived else ConversationState.ACTIVE
    if "tip" in values and (values["tip"] is None or repository.find_node(uid, before.id, values["tip"]) is None):
        raise InvalidRequest.of("tip", "is not a message of this conversation")
    return before.model_copy(update=values)


def _keeps_more(before: schemas.ConversationSettings, after: schemas.ConversationSettings) -> bool:
    """Whether messages go along again that were left out before."""
    return (after.context_tokens or DEFAULT_CONTEXT_TOKENS) > (before.context_tokens or DEFAULT_CONTEXT_TOKENS)


def _require_models(settings: schemas.ConversationSettings) -> None:
    """Whether somebody may use them is found out when they are asked: plans change, settings stay."""
    for field, slugs in (("model", [settings.model]), ("fallbacks", settings.fallbacks or [])):
        for slug in slugs:
            if slug is not None and models.find(slug) is None:
                raise InvalidRequest.of(
                    f"settings.{field}", f"{slug!r} is not offered; GET /api/v1/models lists what is"
                )


def list_messages(
    uid: str, conversation_id: str, limit: int, cursor: str | None, *, branch: str | None = None
) -> schemas.MessagePage:
    """All messages, or with `branch` those of one, the newest first. Raises NotFound, InvalidRequest."""
    conversation = get_conversation(uid, conversation_id)
    if branch is None:
        items, next_cursor = repository.list_messages(uid, conversation_id, limit, cursor)
        return schemas.MessagePage(items=items, next_cursor=next_cursor)
    start = cursor or (conversation.tip if branch == "tip" else branch)
    if start is None:
        return schemas.MessagePage(items=[], next_cursor=None)
    if not is_safe_id(start):
        raise InvalidRequest.of("cursor" if cursor else "branch", "is not the id of a message")
    found = repository.find_branch(uid, conversation_id, start, limit)
    if not found:
        raise InvalidRequest.of("cursor" if cursor else "branch", "is not a message of this conversation")
    shown = [schemas.Message.from_document(message_id, document) for message_id, document in found]
    return schemas.MessagePage(items=shown, next_cursor=shown[-1].parent_id if len(shown) == limit else None)


# Asking


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

    `caller`: who asks; their plan says which models they may use, and with an API key its models and its monthly limit
    hold, and what the turn costs counts for it.
    """

    def begun(key: Key) -> Turn:
        return begin(key, conversation_id, question, clock=clock, keep_partial=keep_partial)

    return _begun_once(uid, generation_id, caller, begun)


def complete(prompt: Prompt, *, caller: Caller, clock: Clock, generation_id: str | None = None) -> Turn:
    """A turn outside any conversation: nothing of it is kept but what it cost. Otherwise as `ask`."""

    def begun(key: Key) -> Turn:
        return begin_alone(key, prompt, clock=clock, keep_partial=False)

    return _begun_once(caller.uid, generation_id, caller, begun)


def _begun_once(uid: str, generation_id: str | None, caller: Caller | None, begun: Callable[[Key], Turn]) -> Turn:
    key = Key(uid, generation_id or new_id("gen"), caller)
    for _ in range(ASKED_AT_MOST):
        try:
            turn = begun(key)
        except AlreadyBegun as earlier:
            generation = repository.find_generation(uid, earlier.generation_id)
            if generation is not None and (retold := _find_retold(generation)):
                return retold
            # It broke off and left nothing, or its hold was refused: this attempt gets an id of its own.
            key = replace(key, generation_id=derived_id("gen", earlier.generation_id))
            continue
        try:
            turn.connect()
        except TakenOver:
            key = replace(key, generation_id=derived_id("gen", turn.generation.id))
        else:
            return turn
    raise UpstreamError("Every attempt at this answer broke off; ask again under a new key.")


def adopted(uid: str, conversation_id: str, parts: Sequence[Part], *, now: datetime) -> tuple[Part, ...]:
    """The parts of a question, with all that is known of its attachments. Raises NotFound without the conversation, and
    InvalidRequest naming those that are not the user's, or not what they were said to be.
    """
    places = [place for place, part in enumerate(parts) if "upload_id" in part]
    if not places:
        return tuple(parts)
    get_conversation(uid, conversation_id)  # or a file would be kept for a message that there will never be
    try:
        attachments = uploads.adopt(uid, conversation_id, [parts[place]["upload_id"] for place in places], now=now)
    except InvalidRequest as error:
        raise _replaced(error, places) from error
    known = {
        place: {
            "type": attachment.kind,
            "upload_id": attachment.id,
            "name": attachment.name,
            "content_type": attachment.content_type,
            "size_bytes": attachment.size_bytes,
        }
        for place, attachment in zip(places, attachments, strict=True)
    }
    return tuple(known.get(place, part) for place, part in enumerate(parts))


def _replaced(error: InvalidRequest, places: Sequence[int]) -> InvalidRequest:
    """The error with the places of attachments among attachments turned into those among all parts."""
    fields = []
    for problem in error.fields:
        match = _PLACE.fullmatch(problem.field)
        field = f"content[{places[int(match[1])]}].upload_id" if match else problem.field
        fields.append(FieldError(field, problem.message))
    return InvalidRequest(f"Check: {', '.join(problem.field for problem in fields)}.", fields=fields)


def _find_retold(generation: Generation) -> RetoldTurn | None:
    """The turn of an earlier attempt; None when nothing of it was kept. Raises Conflict while it has not ended."""
    if generation.status is Status.RUNNING:
        raise _still_made(generation)
    uid, conversation_id = generation.uid, generation.conversation_id
    if conversation_id is None:
        if generation.status is Status.FAILED or (
            generation.status is not Status.COMPLETED and generation.upstream_id is None
        ):
            return None  # there was no answer, or the model was not even asked
        raise _not_kept(generation)
    asked = generation.user_message_id
    user_message = repository.find_message(uid, conversation_id, asked) if asked else None
    message = repository.find_message(uid, conversation_id, generation.message_id)
    return RetoldTurn(generation, user_message, message) if message and (user_message or not asked) else None


def _not_kept(generation: Generation) -> AppError:
    """Of an answer outside any conversation only its log is left, for a while."""
    return Conflict(
        "This request was answered before, and its answer is not kept; its events can be read for an hour.",
        reason="already_answered",
        generation_id=generation.id,
    )


def _still_made(generation: Generation) -> Conflict:
    snapshot = generation_log.read(generation.id)
    if snapshot is not None and snapshot.alive:
        text, retry_after_s = "This answer is still being made; its events can be read.", BUSY_RETRY_AFTER_S
    else:
        text, retry_after_s = "This answer was interrupted and is being recovered.", LOST_RETRY_AFTER_S
    return Conflict(text, retry_after_s=retry_after_s, reason="still_running", generation_id=generation.id)


# Generations


def get_generation(uid: str, generation_id: str) -> Generation:
    generation = repository.find_generation(uid, generation_id)
    if generation is None:
        raise NotFound("There is no such generation.")
    return generation


def find_running(uid: str, conversation_id: str) -> Generation | None:
    """The answer that is being made in the conversation, if one is. Raises NotFound."""
    generation_id = get_conversation(uid, conversation_id).generation_id
    generation = repository.find_generation(uid, generation_id) if generation_id else None
    return generation if generation and generation.status is Status.RUNNING else None


def read_events(uid: str, generation_id: str, *, after: int, wait_s: float) -> schemas.GenerationEvents:
    """The events after number `after`; waits up to `wait_s` seconds for the first.

    Whoever reads the log of a dead producer ends its turn: nobody waits for the sweep.
    """
    give_up_at = time.monotonic() + wait_s
    while True:
        snapshot = _log_of(uid, generation_id, after)
        if _end_if_dead(uid, generation_id, snapshot):
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
        if _end_if_dead(uid, generation_id, snapshot):
            snapshot = _log_of(uid, generation_id, read)
            continue
        if not snapshot.events and _gets_no_more(uid, generation_id, snapshot):
            error = {"code": Gone.code, "message": "The rest was not logged; the message holds the answer."}
            yield renderer.render([{"type": "end", "status": Status.INTERRUPTED.value, "error": error}])
            return
        time.sleep(_POLL_S)
        snapshot = _log_of(uid, generation_id, read)


def _end_if_dead(uid: str, generation_id: str, snapshot: Snapshot) -> bool:
    """End a generation whose producer has died; whether that was done now."""
    if snapshot.closed or snapshot.alive:
        return False
    generation = get_generation(uid, generation_id)
    try:
        return generation.status is Status.RUNNING and _end_dead(generation, utc_now())
    except LinkFailed as error:
        raise Unavailable("The log of generations cannot be read right now; try again.", retry_after_s=2) from error


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
        _attempt(_settle, each, now)
        for each in repository.list_unsettled(now, SWEEP_LIMIT)
        if time.monotonic() < stop_at
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
    usage = ending.learn_usage(upstream_id, _LATE_COST_PAUSES_S) if upstream_id else NO_COST
    outcome = Outcome(
        status=Status.INTERRUPTED,
        ended_at=now,
        **Answer.from_log(logged).said(),
        usage=usage,
        upstream_id=upstream_id,
        error_code="interrupted",
    )
    attached = replace(generation, parent_id=logged[0]["parent_id"] if logged else generation.parent_id)
    ended = ending.end(attached, hold, outcome, keep_partial=True, place=_place_of(generation))
    fenced.append([ended.event], close=True)
    log.warning("generation interrupted", generation_id=generation.id, uid_hash=log.uid_hash(generation.uid))
    return True


def _place_of(generation: Generation) -> Place:
    if generation.conversation_id is None:
        return Place()
    conversation = repository.find_conversation(generation.uid, generation.conversation_id)
    if conversation is None:
        return Place()
    return Place(
        first_turn=conversation.message_count == 0, temporary=conversation.state is ConversationState.TEMPORARY
    )


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
        waited = now - generation.ended_at
        if waited < COST_PATIENCE:
            batch = store.new_batch()
            repository.ask_for_cost_again(batch, generation, now + max(waited, FIRST_COST_PAUSE))
            store.commit(batch)
            return False
        log.error("cost never learned", generation_id=generation.id, upstream_id=generation.upstream_id)
    ending.settle_late(generation, hold, usage or NO_COST, now=now)
    return True
