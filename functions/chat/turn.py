"""One turn, from asking the model to the stored, paid answer: the main job of the product.

    begin    hold credits ∥ read the conversation          `beginning`: one round trip of waiting
    connect  ask the model, or the next of its chain        raises while an HTTP status can still tell
    iterate  batches of events, logged before delivered
    end      messages, settlement, usage, event             `ending`: one batch

A turn goes on when its client has gone: closing it reads the rest from the model without delivering it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from functions.chat import ending, watch
from functions.chat.answer import Answer
from functions.chat.domain import NO_COST, Generation, Outcome, Status, TokenUsage, overflowing_field
from functions.chat.generation_log import Append, Event, GenerationLog
from functions.chat.schemas import Message as StoredMessage
from functions.chat.schemas import TurnAnswer
from functions.models import service as models
from functions.models.domain import answer_tokens
from shared import log, metrics
from shared.clients import openrouter
from shared.errors import (
    AppError,
    FieldError,
    InternalError,
    NotFound,
    Unavailable,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
)
from shared.openrouter import (
    CONTEXT_LENGTH_EXCEEDED,
    Cancellation,
    ChatStream,
    StreamCancelled,
    UpstreamFailedMidStream,
    Usage,
    asking,
)
from shared.trace import current_trace, set_trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from functions.chat.ending import Place
    from functions.credits.service import Hold
    from functions.models.domain import Model
    from shared.clock import Clock
    from shared.openrouter import Delta
    from shared.openrouter.asking import Attempt

_COST_PAUSES_S = (0.7, 1.3)
_STATUSES_ABOUT_US = {401, 402, 403}
UNREAD_LOGGED_EVERY_S = 0.1
"""How often an answer that its client wants in one piece, or whose client has gone, is logged while it is made."""
FEW_TURNS = 16
"""Up to so many at once in one process, what a model says is passed on the moment it comes."""
PAUSE_PER_TURN_S = 0.0008
"""About as long as it takes to log and deliver one piece. For each turn beyond the few, all wait so much longer for
what belongs to the next piece: a crowd gets its words in larger pieces, and in time."""
LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True)
class Request:
    """What is asked, and whom: the first of the chain, and the others in turn while nothing has been said."""

    chain: Sequence[Model]
    messages: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    max_tokens: int | None = None
    names_model: bool = False

    def body_for(self, model: Model) -> dict[str, Any]:
        return {
            **model.default_parameters,
            **self.parameters,
            "model": model.slug,
            "messages": list(self.messages),
            "max_tokens": answer_tokens(model, self.max_tokens),
        }


class TakenOver(Exception):
    """The generation was ended by somebody who took its producer for dead, before the model was asked."""


class Turn:
    """A turn that may be iterated once, for batches of events; `close` it in any case."""

    def __init__(
        self, generation: Generation, hold: Hold, request: Request, place: Place, *, clock: Clock, keep_partial: bool
    ) -> None:
        self.generation = generation
        self._hold, self._request, self._place = hold, request, place
        self._clock, self._keep_partial = clock, keep_partial
        self._log = GenerationLog(generation.id, generation.uid)
        self._answer = Answer()
        self._fenced = False
        self._noted_upstream_id: str | None = None
        self._status = Status.COMPLETED
        self._cancellation = Cancellation()
        self._trace = current_trace()
        self._asked = 0
        self._is_read = True
        self._unlogged: list[Event] = []
        self._log_at = 0.0
        self._upstream: ChatStream | None = None
        self._attempt: Attempt | None = None
        self._batches = self._produce()
        self.error: AppError | None = None
        self.ended: ending.Ended | None = None
        self.outcome: Outcome | None = None
        """Known after the end, unless the end could not be stored."""

    def connect(self) -> None:
        """Ask the model, again when that may help, then the others of its chain, unless their circuits are open.

        Raises UpstreamError before anything was said; the turn has then ended and kept nothing. An attempt that is
        followed by another gave no answer and has no price, so a turn has one cost to settle: that of its last attempt.
        From here to its end the turn is watched: it says that it lives, and hears when it shall stop.

        Raises TakenOver when it took so long to begin that it was ended: nothing is asked that nobody would keep.
        """
        if self._log.open() is Append.FENCED:
            raise TakenOver
        try:
            watch.watch(self.generation.id, self._cancellation.cancel)
            self._ask()
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
        self._is_read = False
        for _ in self._batches:
            pass

    def answer(self) -> TurnAnswer:
        """The whole turn in one piece. Raises what the model failed with."""
        self.close()
        if self.error is not None:
            raise _reason(self.error)
        ended, conversation_id = self.ended, self.generation.conversation_id
        if ended is not None and ended.message is None and self.outcome is not None and self.outcome.says_something:
            raise NotFound("The conversation was deleted while this answer was made.", generation_id=self.generation.id)
        if ended is None or ended.message is None or conversation_id is None:
            raise UpstreamError("The model gave no answer.", generation_id=self.generation.id)
        return TurnAnswer(
            conversation_id=conversation_id,
            generation_id=self.generation.id,
            user_message=ended.user_message,
            message=ended.message,
            usage=ended.usage,
            credits=ended.credits,
        )

    def result(self) -> Outcome:
        """What a turn outside any conversation gave. Raises what the model failed with."""
        self.close()
        if self.error is not None:
            raise _reason(self.error)
        if self.outcome is None or not (self.outcome.says_something or self.outcome.finish_reason):
            raise UpstreamError("The model gave no answer.", generation_id=self.generation.id)
        return self.outcome

    @property
    def tokens(self) -> int:
        """What it took of the limit on tokens, once it has ended and as far as that is known."""
        usage = self.ended.usage if self.ended else None
        return usage.prompt_tokens + usage.completion_tokens if usage else 0

    @property
    def failure(self) -> AppError | None:
        """What the model failed with, if it did."""
        return _reason(self.error) if self.error else None

    def _ask(self) -> None:
        """Ask the next of the chain, and those after it while they fail before they have said anything."""
        while True:
            model = self._request.chain[self._asked]
            self._asked += 1
            self.generation = replace(self.generation, model=model.slug, markup_percent=model.markup_percent)
            try:
                self._upstream, self._attempt = asking.ask(
                    model.slug,
                    partial(self._stream_chat, model),
                    cancellation=self._cancellation,
                    insist=not self._request.names_model and models.all_for_anyone_fail(),
                )
            except UpstreamError as error:
                if not self._may_ask_another(error):
                    raise
            else:
                return

    def _may_ask_another(self, error: UpstreamError) -> bool:
        """Whether another model may answer where this one failed. What has a price is never asked for twice."""
        if self._asked == len(self._request.chain) or not asking.another_model_may_help(error):
            return False
        if isinstance(error, UpstreamFailedMidStream) and error.usage is not None and error.usage.cost_pico_usd != 0:
            return False
        metrics.count("model_fallbacks_total")
        log.info("another model is asked", generation_id=self.generation.id, failed=self.generation.model)
        return True

    def _stream_chat(self, model: Model) -> ChatStream:
        return openrouter().stream_chat(
            self._request.body_for(model),
            traceparent=self._trace.traceparent,
            user=log.uid_hash(self.generation.uid),
            cancellation=self._cancellation,
        )

    def _produce(self) -> Iterator[list[Event]]:
        set_trace(self._trace)
        try:
            start = self._start_event()
            self._log.append([start], upstream_id=self._new_upstream_id())
            yield [start]
            if self._upstream is not None:
                yield from self._relay()
            yield [self._last_event()]
        finally:
            watch.unwatch(self.generation.id)

    def _relay(self) -> Iterator[list[Event]]:
        """What the model says, logged before it is delivered; sets how that ended."""
        try:
            while True:
                try:
                    yield from self._relay_one()
                except UpstreamError as error:
                    if self._answer.says_something or not self._may_ask_another(error):
                        raise
                    self._end_attempt(error)
                    self._ask()
                    self._log.append([], upstream_id=self._new_upstream_id())
                else:
                    return
        except StreamCancelled:
            self._status = Status.STOPPED
        except UpstreamError as error:
            self._status, self.error = Status.FAILED, error
        except Exception as error:  # noqa: BLE001  # whatever broke, the hold must get its end
            log.error("turn broke", cause=error, generation_id=self.generation.id)
            self._status, self.error = Status.FAILED, InternalError()
        finally:
            self._end_attempt(self.error)

    def _relay_one(self) -> Iterator[list[Event]]:
        upstream, attempt = self._upstream, self._attempt
        assert upstream is not None, "whoever relays has asked"
        assert attempt is not None, "whoever relays has asked"
        try:
            for deltas in self._paced(upstream):
                batch = [*self._unlogged, *self._answer.take(deltas)]
                if batch:
                    attempt.answering()
                if self._may_wait(batch):
                    continue
                appended = self._log.append(batch, upstream_id=self._new_upstream_id()) if batch else Append.DONE
                if appended is Append.FENCED:
                    self._fenced = True
                    return
                if batch:
                    yield batch
                if self._answer.is_full:
                    return
                if appended is Append.STOP_REQUESTED:
                    self._status = Status.STOPPED
                    return
        finally:
            upstream.close()

    def _paced(self, upstream: ChatStream) -> Iterator[Sequence[Delta]]:
        """What the model says, in larger pieces the more turns this process carries. The first words never wait, and
        nothing waits behind the last ones.
        """
        for deltas in upstream:
            yield deltas
            pause_s = min((watch.count() - FEW_TURNS) * PAUSE_PER_TURN_S, LONGEST_PAUSE_S)
            if pause_s > 0 and self._answer.says_something and not upstream.has_ended:
                self._cancellation.wait(pause_s)

    def _may_wait(self, batch: list[Event]) -> bool:
        """Whether these events need not be logged yet: nobody is about to read them from this process, and whoever
        follows the log from elsewhere hears of them in a moment.
        """
        now = time.monotonic()
        if self._is_read or self._answer.is_full or now >= self._log_at or self._has_new_upstream_id:
            self._unlogged = []
            self._log_at = now + UNREAD_LOGGED_EVERY_S
            return False
        self._unlogged = batch
        return True

    def _end_attempt(self, error: AppError | None) -> None:
        """Tell the circuit breakers how the model did, which is not always how the turn did."""
        if self._attempt is None:
            return
        if isinstance(error, UpstreamError):
            self._attempt.failed(error)
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
            self.error = _interruption()
        except Exception as error:  # noqa: BLE001  # the client is owed a last event, whatever broke
            log.error("turn not stored", cause=error, generation_id=self.generation.id)
            self.error = error if isinstance(error, AppError) else InternalError()
        return self._interrupted(self.error)

    def _interrupted(self, error: AppError) -> Event:
        return {"type": "end", "status": Status.INTERRUPTED.value, "error": self._error_object(error)}

    @property
    def _has_new_upstream_id(self) -> bool:
        """Whether the provider's id of this answer is known, and the log does not have it yet."""
        return self._upstream is not None and self._upstream.generation_id != self._noted_upstream_id

    def _new_upstream_id(self) -> str | None:
        """That id, for the log; None when there is none to tell."""
        if self._upstream is None or not self._has_new_upstream_id:
            return None
        self._noted_upstream_id = self._upstream.generation_id
        return self._noted_upstream_id

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
            return NO_COST
        return ending.learn_usage(upstream_id, _COST_PAUSES_S)

    def _upstream_id(self) -> str | None:
        if self._upstream is not None:
            return self._upstream.generation_id
        return self.error.generation_id if isinstance(self.error, UpstreamFailedMidStream) else None

    def _end(self, usage: TokenUsage | None) -> Event:
        upstream, error = self._upstream, self.error
        if error is not None:
            self._name_the_field(error)
            self._note_facts(error)
        self.outcome = Outcome(
            status=self._status,
            ended_at=self._clock(),
            **self._answer.said(),
            finish_reason="length" if self._answer.is_full else upstream.finish_reason if upstream else None,
            usage=usage,
            upstream_id=self._upstream_id(),
            model_used=self._model_used(),
            error_code=_reason(error).code if error else None,
        )
        self.ended = ending.end(
            self.generation, self._hold, self.outcome, keep_partial=self._keep_partial, place=self._place
        )
        event = self.ended.event
        if self.ended.status is not self._status:
            # Somebody took this process for dead in its last moment: its client is told what is stored.
            error = self.error = _interruption()
        if error is not None:
            event["error"] = self._error_object(error)
        self._log.append([*self._unlogged, event], close=True)
        return event

    def _model_used(self) -> str | None:
        """By the catalogue's name: answers call themselves by dated names, which several models may share."""
        said = self._upstream.model if self._upstream else None
        asked = self._request.chain[self._asked - 1]
        return asked.slug if said in (asked.slug, asked.canonical_slug) else said and models.slug_of(said)

    def _name_the_field(self, error: AppError) -> None:
        """Of a prompt that was too long: models do not say what of our request it came from."""
        reason = _reason(error)
        if reason.details.get("error_type") == CONTEXT_LENGTH_EXCEEDED:
            field = overflowing_field(self.generation)
            reason.fields = (FieldError(field, "is more than the model can read with all that goes along"),)

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

    def __init__(self, generation: Generation, user_message: StoredMessage | None, message: StoredMessage) -> None:
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
        said = [[event] for event in _retold_events(message)]
        self._batches = iter([[self._start_event()], *said, [end]])

    @property
    def tokens(self) -> int:
        """The first attempt took them."""
        return 0


def _retold_events(message: StoredMessage) -> Iterator[Event]:
    index = 0
    citations = []
    for part in message.parts:
        if part.type in ("text", "reasoning") and part.text:
            yield {"type": part.type, "text": part.text}
        elif part.type == "tool_call":
            yield {"type": "tool_call", "index": index, "id": part.id, "name": part.name, "arguments": part.arguments}
            index += 1
        elif part.type == "citation":
            citations.append(part.model_dump(exclude={"type"}))
    if citations:
        yield {"type": "citations", "items": citations}


def _retold_failure(generation: Generation) -> UpstreamError:
    """What a generation that has ended failed with, as far as its record tells."""
    failed = {error.code: error for error in (UpstreamRejected, UpstreamBusy, UpstreamTimeout)}
    kind = failed.get(generation.error or "", UpstreamError)
    return kind("The model did not finish this answer; ask again.", generation_id=generation.id)


def _interruption() -> AppError:
    return Unavailable("The answer was interrupted; what there is of it is stored.")


def _reason(error: AppError) -> AppError:
    """What a failure in mid-stream would have been before the first token: all formats tell it alike."""
    return error.reason if isinstance(error, UpstreamFailedMidStream) else error


def _token_usage(usage: Usage, cost_pico_usd: int) -> TokenUsage:
    return TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
        cost_pico_usd=cost_pico_usd,
    )
