"""One chat turn, from the question to the stored, paid answer: the main job of the product.

    begin    hold credits ∥ read the conversation          one round trip of waiting
    connect  ask the model                                  raises while an HTTP status can still tell
    iterate  batches of events, logged before delivered
    end      messages, settlement, usage, event             one batch

A turn goes on when its client has gone: closing it reads the rest from the model without delivering it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from functions.chat import ending, models, repository, watch
from functions.chat.domain import (
    MAX_HISTORY_MESSAGES,
    Generation,
    Message,
    Model,
    Outcome,
    Question,
    Status,
    TokenUsage,
    answer_tokens,
    highest_cost_pico_usd,
    path_to,
    within_budget,
)
from functions.chat.generation_log import Append, Event, GenerationLog
from functions.chat.schemas import Conversation, TurnAnswer
from functions.chat.schemas import Message as StoredMessage
from functions.credits import service as credits
from shared import log, store
from shared.clients import openrouter
from shared.deployment import FUNCTIONS
from shared.errors import (
    AppError,
    Conflict,
    FieldError,
    InsufficientCredits,
    InternalError,
    InvalidRequest,
    NotFound,
    Unavailable,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
)
from shared.ids import new_id
from shared.openrouter import (
    Cancellation,
    ChatStream,
    Delta,
    ReasoningDelta,
    StreamCancelled,
    TextDelta,
    UpstreamFailedMidStream,
    Usage,
    asking,
)
from shared.settings import settings
from shared.trace import current_trace, set_trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from datetime import datetime

    from google.cloud.firestore import WriteBatch

    from functions.credits.service import Hold
    from shared.clock import Clock
    from shared.openrouter.asking import Attempt

HOLD_TTL = timedelta(minutes=15)
"""Longer than any request may take. A turn that outlives its hold all the same is charged as a correction."""
TAIL_MESSAGES = MAX_HISTORY_MESSAGES + 8
MAX_ANSWER_BYTES = 900_000
"""What of an answer is kept: a Firestore document takes 1 MiB. The model is stopped there, as by its token limit."""
_COST_PAUSES_S = (0.7, 1.3)
_STATUSES_ABOUT_US = {401, 402, 403}


@dataclass(frozen=True)
class _Context:
    """What of the conversation goes to the model, and where the question is attached."""

    history: list[Message]
    parent_id: str | None
    first_turn: bool


class AlreadyBegun(Exception):
    """There is a generation with this id: an earlier attempt at the same request began it."""

    def __init__(self, generation_id: str) -> None:
        super().__init__(generation_id)
        self.generation_id = generation_id


def begin(
    uid: str,
    conversation_id: str,
    question: Question,
    *,
    clock: Clock,
    keep_partial: bool,
    model: Model | None = None,
    generation_id: str | None = None,
    key_budget_id: str | None = None,
) -> Turn:
    """Hold the credits and read the conversation, both at once. `model` is the one to ask, when it was chosen already.

    Raises NotFound for a conversation that is not this user's, InvalidRequest for an unknown model or parent,
    InsufficientCredits, and AlreadyBegun; in each case nothing is held and nothing is written.
    """
    model = model or models.get_model(question.model)
    max_tokens = answer_tokens(model, question.max_tokens)
    generation = Generation(
        id=generation_id or new_id("gen"),
        uid=uid,
        conversation_id=conversation_id,
        message_id=new_id("msg"),
        user_message_id=new_id("msg"),
        parent_id=question.parent_id,
        question=question.text,
        model=model.slug,
        started_at=clock(),
    )
    conversation_read = _pool().submit(repository.find_conversation, uid, conversation_id)
    tail_read = _pool().submit(repository.recent_messages, uid, conversation_id, TAIL_MESSAGES)
    hold, refusal = _hold(generation, model, question, key_budget_id)
    try:
        conversation = conversation_read.result()
        if conversation is None:
            raise NotFound("There is no such conversation.")
        if refusal is not None:
            raise refusal
        context = _context(conversation, tail_read, uid, question)
    except AppError as error:
        if hold is not None:
            _abandon(generation, hold, error, clock())
        raise
    assert hold is not None, "without a refusal there is a hold"
    generation = replace(generation, parent_id=context.parent_id)
    return Turn(generation, hold, context, question, max_tokens, clock=clock, keep_partial=keep_partial)


def most_it_can_cost_micro(model: Model, question: Question) -> int:
    """What is held for a turn: at least the smallest amount, so every turn has a hold, and an account in debt none."""
    max_tokens = answer_tokens(model, question.max_tokens)
    highest = highest_cost_pico_usd(model, question=question.text, max_answer_tokens=max_tokens)
    return max(credits.credits_for_cost(highest, settings().credit_markup_percent), 1)


def _hold(
    generation: Generation, model: Model, question: Question, key_budget_id: str | None
) -> tuple[Hold | None, InsufficientCredits | NotFound | None]:
    amount_micro = most_it_can_cost_micro(model, question)

    def also(batch: WriteBatch) -> None:
        repository.start_generation(batch, generation)
        repository.require_conversation(batch, generation.uid, generation.conversation_id, generation.started_at)

    try:
        hold = credits.hold(
            generation.uid,
            generation.id,
            amount_micro,
            purpose="chat",
            ref={
                "generation_id": generation.id,
                "conversation_id": generation.conversation_id,
                **({ending.KEY_BUDGET: key_budget_id} if key_budget_id else {}),
            },
            ttl=HOLD_TTL,
            now=generation.started_at,
            also=also,
            undo=lambda batch: repository.forget_generation(batch, generation),
        )
    except InsufficientCredits as refusal:
        refused = credits.find_hold(generation.uid, generation.id)
        if refused is not None and refused.created_at != generation.started_at:
            raise AlreadyBegun(generation.id) from refusal
        return None, refusal
    except store.StaleWrite:
        return None, NotFound("There is no such conversation.")
    except Conflict as error:  # the hold has ended since, or the model's price has changed
        raise AlreadyBegun(generation.id) from error
    if hold.created_at != generation.started_at:
        raise AlreadyBegun(generation.id)
    return hold, None


def _context(
    conversation: Conversation, tail_read: Future[dict[str, Message]], uid: str, question: Question
) -> _Context:
    known = tail_read.result()
    parent_id = question.parent_id or conversation.tip
    path, missing = path_to(parent_id, known)
    while missing is not None and len(path) < MAX_HISTORY_MESSAGES:
        # A branch older than the tail: its messages are fetched one by one, a rare path.
        node = repository.find_node(uid, conversation.id, missing)
        if node is None:
            if missing == question.parent_id:
                problem = FieldError("parent_id", "is not a message of this conversation")
                raise InvalidRequest("Check: parent_id.", fields=[problem])
            break
        known[node.id] = node
        path, missing = path_to(parent_id, known)
    return _Context(within_budget(path), parent_id, first_turn=conversation.message_count == 0)


def _abandon(generation: Generation, hold: Hold, error: AppError, now: datetime) -> None:
    outcome = Outcome(status=Status.FAILED, ended_at=now, usage=ending.NO_COST, error_code=error.code)
    ending.end(generation, hold, outcome, keep_partial=False, first_turn=False)


class Turn:
    """A turn that may be iterated once, for batches of events; `close` it in any case."""

    def __init__(
        self,
        generation: Generation,
        hold: Hold,
        context: _Context,
        question: Question,
        max_tokens: int,
        *,
        clock: Clock,
        keep_partial: bool,
    ) -> None:
        self.generation = generation
        self._hold, self._context, self._question, self._max_tokens = hold, context, question, max_tokens
        self._clock, self._keep_partial = clock, keep_partial
        self._log = GenerationLog(generation.id, generation.uid)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._kept_bytes = 0
        self._full = self._fenced = self._noted_upstream = False
        self._status = Status.COMPLETED
        self._cancellation = Cancellation()
        self._trace = current_trace()
        self._upstream: ChatStream | None = None
        self._attempt: Attempt | None = None
        self._batches = self._produce()
        self.error: AppError | None = None
        self.ended: ending.Ended | None = None

    def connect(self) -> None:
        """Ask the model, again when that may help, unless its circuit is open.

        Raises UpstreamError before anything was said; the turn has then ended and kept nothing. An attempt that is
        followed by another gave no id and has no price, so a turn has one cost to settle: that of its last attempt.
        From here to its end the turn is watched: it says that it lives, and hears when it shall stop.
        """
        self._log.open()
        watch.watch(self.generation.id, self._cancellation.cancel)
        try:
            self._upstream, self._attempt = asking.ask(
                self.generation.model,
                self._stream_chat,
                cancellation=self._cancellation,
                insist=self._question.model is None and models.all_for_anyone_fail(),
            )
        except StreamCancelled:
            self._status = Status.STOPPED
        except UpstreamError as error:
            self._status, self.error = Status.FAILED, error
            try:
                self._end(self._usage())
            finally:
                watch.unwatch(self.generation.id)
            raise _reason(error) from error
        except Exception:
            watch.unwatch(self.generation.id)
            raise

    def __iter__(self) -> Iterator[list[Event]]:
        return self

    def __next__(self) -> list[Event]:
        return next(self._batches)

    def close(self) -> None:
        """Finish the turn if its reader has gone: the rest is read, stored and paid for."""
        for _ in self._batches:
            pass

    def answer(self) -> TurnAnswer:
        """The whole turn in one piece. Raises what the model failed with."""
        self.close()
        if self.error is not None:
            raise _reason(self.error)
        ended = self.ended
        if ended is None or ended.user_message is None or ended.message is None:
            raise UpstreamError("The model gave no answer.", generation_id=self.generation.id)
        return TurnAnswer(
            conversation_id=self.generation.conversation_id,
            generation_id=self.generation.id,
            user_message=ended.user_message,
            message=ended.message,
            usage=ended.usage,
            credits=ended.credits,
        )

    @property
    def tokens(self) -> int:
        """What it took of the limit on tokens, once it has ended and as far as that is known."""
        usage = self.ended.usage if self.ended else None
        return usage.prompt_tokens + usage.completion_tokens if usage else 0

    @property
    def failure(self) -> AppError | None:
        """What the model failed with, if it did."""
        return _reason(self.error) if self.error else None

    def _stream_chat(self) -> ChatStream:
        return openrouter().stream_chat(
            self._upstream_body(),
            traceparent=self._trace.traceparent,
            user=log.uid_hash(self.generation.uid),
            cancellation=self._cancellation,
        )

    def _upstream_body(self) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.text} for message in self._context.history]
        body = {
            "model": self.generation.model,
            "messages": [*messages, {"role": "user", "content": self._question.text}],
            "max_tokens": self._max_tokens,
        }
        if self._question.temperature is not None:
            body["temperature"] = self._question.temperature
        return body

    def _produce(self) -> Iterator[list[Event]]:
        set_trace(self._trace)
        try:
            start = self._start_event()
            self._log.append([start])
            yield [start]
            if self._upstream is not None:
                yield from self._relay(self._upstream)
            yield [self._last_event()]
        finally:
            watch.unwatch(self.generation.id)

    def _relay(self, upstream: ChatStream) -> Iterator[list[Event]]:
        """What the model says, logged before it is delivered; sets how that ended."""
        try:
            for deltas in upstream:
                batch = self._events(deltas)
                appended = self._log.append(batch) if batch else Append.DONE
                if appended is Append.FENCED:
                    self._fenced = True
                    return
                if batch and self._attempt is not None:
                    self._attempt.answering()
                if batch:
                    yield batch
                if self._full:
                    return
                if appended is Append.STOP_REQUESTED:
                    self._status = Status.STOPPED
                    return
        except StreamCancelled:
            self._status = Status.STOPPED
        except UpstreamError as error:
            self._status, self.error = Status.FAILED, error
        except Exception as error:  # noqa: BLE001  # whatever broke, the hold must get its end
            log.error("turn broke", cause=error, generation_id=self.generation.id)
            self._status, self.error = Status.FAILED, InternalError()
        finally:
            upstream.close()
            self._end_attempt()

    def _end_attempt(self) -> None:
        """Tell the circuit breakers how the model did, which is not always how the turn did."""
        if self._attempt is None:
            return
        if isinstance(self.error, UpstreamError):
            self._attempt.failed(self.error)
        elif self._status is Status.COMPLETED and not self._fenced:
            self._attempt.succeeded()
        else:
            self._attempt.dropped()

    def _last_event(self) -> Event:
        """End the turn; when that fails the log stays open, and a sweep ends the turn with what it holds."""
        try:
            usage = self._usage()
            if not self._fenced:
                return self._end(usage)
            log.warning("generation was taken over", generation_id=self.generation.id)
            ending.settle_after_takeover(self.generation, usage, now=self._clock())
            self.error = Unavailable("The answer was interrupted; what there is of it is stored.")
        except Exception as error:  # noqa: BLE001  # the client is owed a last event, whatever broke
            log.error("turn not stored", cause=error, generation_id=self.generation.id)
            self.error = error if isinstance(error, AppError) else InternalError()
        return self._interrupted(self.error)

    def _interrupted(self, error: AppError) -> Event:
        return {"type": "end", "status": Status.INTERRUPTED.value, "error": self._error_object(error)}

    def _events(self, deltas: list[Delta]) -> list[Event]:
        """The deltas of one read as few events: neighbours of one kind are joined."""
        if not self._noted_upstream and self._upstream and self._upstream.generation_id:
            self._log.note_upstream(self._upstream.generation_id)
            self._noted_upstream = True
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, TextDelta):
                kind, kept = "text", self._text
            elif isinstance(delta, ReasoningDelta):
                kind, kept = "reasoning", self._reasoning
            else:
                continue
            text = delta.text if delta.text.isascii() else _storable(delta.text)
            self._kept_bytes += len(text) if text.isascii() else len(text.encode())
            if self._kept_bytes > MAX_ANSWER_BYTES:
                self._full = True
                break
            kept.append(text)
            if events and events[-1]["type"] == kind:
                events[-1]["text"] += text
            else:
                events.append({"type": kind, "text": text})
        return events

    def _start_event(self) -> Event:
        return {
            "type": "start",
            "generation_id": self.generation.id,
            "conversation_id": self.generation.conversation_id,
            "message_id": self.generation.message_id,
            "user_message_id": self.generation.user_message_id,
            "parent_id": self.generation.parent_id,
            "model": self.generation.model,
        }

    def _usage(self) -> TokenUsage | None:
        """What the turn cost; asked of the provider when the stream did not live to tell."""
        usage = self._upstream.usage if self._upstream else None
        upstream_id = self._upstream_id()
        if isinstance(self.error, UpstreamFailedMidStream):
            usage = usage or self.error.usage
        if usage is not None and usage.cost_pico_usd is not None:
            return _token_usage(usage, usage.cost_pico_usd)
        if upstream_id is None:
            return ending.NO_COST
        return ending.learn_usage(upstream_id, _COST_PAUSES_S)

    def _upstream_id(self) -> str | None:
        if self._upstream is not None:
            return self._upstream.generation_id
        return self.error.generation_id if isinstance(self.error, UpstreamFailedMidStream) else None

    def _end(self, usage: TokenUsage | None) -> Event:
        upstream, error = self._upstream, self.error
        if error is not None:
            self._note_facts(error)
        outcome = Outcome(
            status=self._status,
            ended_at=self._clock(),
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason="length" if self._full else upstream.finish_reason if upstream else None,
            usage=usage,
            upstream_id=self._upstream_id(),
            model_used=upstream.model if upstream else None,
            error_code=_reason(error).code if error else None,
        )
        self.ended = ending.end(
            self.generation, self._hold, outcome, keep_partial=self._keep_partial, first_turn=self._context.first_turn
        )
        event = self.ended.event
        if error is not None:
            event["error"] = self._error_object(error)
        self._log.append([event], close=True)
        return event

    def _note_facts(self, error: AppError) -> None:
        """Give the error what the request's log line shall say; callers see none of it.

        The provider's own words go along only when they are about our key or account: others may quote prompts.
        """
        facts = {"generation": self.generation.id, "upstream_id": self._upstream_id()}
        about_us = error.details.get("upstream_status") in _STATUSES_ABOUT_US
        if about_us and not isinstance(error, UpstreamRejected):
            facts["said"] = "; ".join(getattr(error, "__notes__", ()))
        _reason(error).details.update({name: value for name, value in facts.items() if value})

    def _error_object(self, error: AppError) -> dict[str, str]:
        return {"code": _reason(error).code, "message": error.message, "trace_id": self._trace.trace_id}


class RetoldTurn(Turn):
    """A turn that an earlier attempt at the same request made and ended, told again from what is stored.

    Its events are fewer than the first time: each kind of text comes in one piece.
    """

    def __init__(self, generation: Generation, user_message: StoredMessage, message: StoredMessage) -> None:
        assert message.credits is not None, "every stored answer says what it cost"
        self.generation = generation
        self.error = _retold_failure(generation) if generation.status is Status.FAILED else None
        end = {
            "type": "end",
            "status": generation.status.value,
            "finish_reason": message.finish_reason,
            "usage": message.usage.model_dump() if message.usage else None,
            "credits": message.credits.model_dump(),
            "error": {"code": generation.error} if generation.error else None,
        }
        self.ended = ending.Ended(
            generation.status, end, message.usage, message.credits, user_message=user_message, message=message
        )
        texts: list[Event] = [{"type": part.type, "text": part.text} for part in message.parts if part.text]
        self._batches = iter([[self._start_event()], *([text] for text in texts), [end]])

    @property
    def tokens(self) -> int:
        """The first attempt took them."""
        return 0


def _retold_failure(generation: Generation) -> UpstreamError:
    """What a generation that has ended failed with, as far as its record tells."""
    failed = {error.code: error for error in (UpstreamRejected, UpstreamBusy, UpstreamTimeout)}
    kind = failed.get(generation.error or "", UpstreamError)
    return kind("The model did not finish this answer; ask again.", generation_id=generation.id)


def _reason(error: AppError) -> AppError:
    """What a failure in mid-stream would have been before the first token: all formats tell it alike."""
    return error.reason if isinstance(error, UpstreamFailedMidStream) else error


def _storable(text: str) -> str:
    """The text without halves of surrogate pairs, which models do send and no encoding can hold."""
    return text.encode(errors="replace").decode()


def _token_usage(usage: Usage, cost_pico_usd: int) -> TokenUsage:
    return TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
        cost_pico_usd=cost_pico_usd,
    )


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads for the two reads beside each hold; made on first use, after the server has forked."""
    return ThreadPoolExecutor(max_workers=2 * FUNCTIONS["chat"].options.concurrency, thread_name_prefix="chat-read")
