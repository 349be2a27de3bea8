"""The OpenRouter client of the relay path: chat streamed and plain, embeddings, generation records, the catalogue.

Nothing that costs money is sent twice here (a look-up is, when a dying kept-alive connection never answered it):
`asking` is the one layer that retries, and the one that knows the circuit breakers.
https://openrouter.ai/docs/api-reference
"""

import json
import ssl
from collections.abc import Iterator, Mapping
from decimal import Decimal
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from shared.clock import Clock, utc_now
from shared.errors import UpstreamError
from shared.openrouter.answers import Completion, Delta, Embeddings, GenerationRecord, Usage, generation_of
from shared.openrouter.errors import UpstreamFailedMidStream, broken, refused
from shared.openrouter.parse import ChatEvents, completion_of, embeddings_of
from shared.openrouter.pool import ConnectionPool
from shared.openrouter.transport import Answer, Cancellation, Request, Timeouts, Transport

_TITLE = "CraftPilot"
_MAX_ERROR_BYTES = 64 * 1024
_MAX_BODY_BYTES = 64 * 1024 * 1024
_ERROR_BODY_WAIT_S = 5.0
_LOOK_UP_WAIT_S = 10.0
_MODELS_PER_PAGE = 500
_MAX_MODEL_PAGES = 100


class ChatStream:
    """A streamed answer: iterate once, inside `with`. Each list holds the deltas of one read of the socket.

    After the iteration `usage`, `finish_reason` and `model` are known as far as OpenRouter told them. The iteration
    raises UpstreamFailedMidStream when the answer did not end well and StreamCancelled after `cancel()`.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._events = ChatEvents(answer.headers.get("X-Generation-Id"))

    @property
    def generation_id(self) -> str | None:
        return self._events.generation_id

    @property
    def model(self) -> str | None:
        """The model that answers, which may be another one than was asked for."""
        return self._events.model

    @property
    def provider(self) -> str | None:
        return self._events.provider

    @property
    def usage(self) -> Usage | None:
        return self._events.usage

    @property
    def finish_reason(self) -> str | None:
        return self._events.finish_reason

    @property
    def native_finish_reason(self) -> str | None:
        return self._events.native_finish_reason

    @property
    def content_delivered(self) -> bool:
        return self._events.content_delivered

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come, because everything was said or because it broke."""
        return self._events.ended

    @property
    def cancelled(self) -> bool:
        return self._answer.cancellation.cancelled

    def __iter__(self) -> Iterator[list[Delta]]:
        while not self._events.ended:
            deltas = self._next()
            if deltas:
                yield deltas
        if self._events.failure is not None:
            raise self._events.failure

    def cancel(self) -> None:
        """Stop reading, from any thread: a blocked iteration ends at once with StreamCancelled.

        What OpenRouter charges for the rest depends on the provider; `find_generation` tells.
        """
        self._answer.cancellation.cancel()

    def close(self) -> None:
        """Free the connection: for the next call if the answer was read to its end."""
        self._answer.close(end_is_near=self._events.ended and self._events.failure is None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> list[Delta]:
        try:
            received = self._answer.read_some()
        except UpstreamError as error:
            deltas = self._events.end(error)
            if self._events.failure is not None:
                self._events.failure.__cause__ = error
            return deltas
        return self._events.feed(received) if received else self._events.end()


class OpenRouter:
    """One per process; all methods may be called from many threads at once."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        referer: str | None = None,
        timeouts: Timeouts | None = None,
        max_idle_connections: int = 64,
        max_idle_age_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
        now: Clock = utc_now,
    ) -> None:
        timeouts = timeouts or Timeouts()
        pool = ConnectionPool(
            base_url,
            connect_timeout_s=timeouts.connect_s,
            max_idle=max_idle_connections,
            max_idle_age_s=max_idle_age_s,
            tls=tls,
        )
        self._transport = Transport(pool, timeouts)
        self._look_ups = Transport(pool, Timeouts(timeouts.connect_s, _LOOK_UP_WAIT_S, _LOOK_UP_WAIT_S))
        self._now = now
        self._headers = {
            "Authorization": f"Bearer {api_key.strip()}",
            "Content-Type": "application/json",
            "X-OpenRouter-Title": _TITLE,
        }
        if referer is not None:
            self._headers["HTTP-Referer"] = referer

    def stream_chat(
        self,
        body: Mapping[str, Any],
        *,
        traceparent: str | None = None,
        user: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> ChatStream:
        """Ask for a streamed answer; returns when its head has come, which may be long before the first token.

        `cancellation` lets another thread cancel the call already while it waits for that head. Raises the
        UpstreamError that stands for the refusal, or StreamCancelled.
        """
        request = _chat_body(body, user, stream=True)
        answer = self._post(request, "text/event-stream", traceparent, cancellation)
        if answer.headers.get_content_type() != "application/json":
            return ChatStream(answer)
        # Refusals with status 200 exist; a whole answer where a stream was asked for is one we cannot relay.
        generation_id = answer.headers.get("X-Generation-Id")
        completion = completion_of(self._whole_body(answer), generation_id)
        raise UpstreamFailedMidStream(
            broken("not_a_stream"),
            usage=completion.usage,
            content_delivered=False,
            generation_id=completion.generation_id,
            partial=completion,
        )

    def complete_chat(
        self, body: Mapping[str, Any], *, traceparent: str | None = None, user: str | None = None
    ) -> Completion:
        """The whole answer at once; UpstreamFailedMidStream when a 200 holds an error, with what it held besides."""
        answer = self._post(_chat_body(body, user, stream=False), "application/json", traceparent, None)
        generation_id = answer.headers.get("X-Generation-Id")
        return completion_of(self._whole_body(answer), generation_id)

    def embed(
        self,
        body: Mapping[str, Any],
        *,
        count: int,
        traceparent: str | None = None,
        user: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> Embeddings:
        """The embeddings of `count` inputs, in their order, packed whatever the provider made of that wish.

        UpstreamFailedMidStream when a 200 holds an error or something else than what was asked for.
        """
        request = {**body, "encoding_format": "base64", **({"user": user} if user is not None else {})}
        wire = json.dumps(request, separators=(",", ":")).encode()
        answer = self._post(wire, "application/json", traceparent, cancellation, path="/embeddings")
        generation_id = answer.headers.get("X-Generation-Id")
        return embeddings_of(self._whole_body(answer), count, generation_id)

    def find_generation(self, generation_id: str) -> GenerationRecord | None:
        """OpenRouter's record; None while it does not exist, which right after a generation is normal."""
        answer = self._get(f"/generation?id={quote(generation_id, safe='')}")
        if answer.status == HTTPStatus.NOT_FOUND:
            self._refusal(answer)
            return None
        data = self._object(answer, exact=True).get("data")
        if not isinstance(data, dict):
            raise broken("malformed_answer")
        return generation_of(data, generation_id)

    def list_models(self) -> Iterator[dict[str, Any]]:
        """Every model as OpenRouter describes it; prices are decimal strings in USD per unit, "-1" where they vary."""
        return self._list_models("/models")

    def list_embedding_models(self) -> Iterator[dict[str, Any]]:
        """Every model that makes embeddings, described like the others."""
        return self._list_models("/embeddings/models")

    def _list_models(self, path: str) -> Iterator[dict[str, Any]]:
        offset = 0
        for _ in range(_MAX_MODEL_PAGES):
            page = self._object(self._get(f"{path}?offset={offset}&limit={_MODELS_PER_PAGE}"), exact=False)
            models = page.get("data")
            if not isinstance(models, list):
                raise broken("malformed_answer")
            for model in models:
                if isinstance(model, dict):
                    yield _with_prices_as_text(model)
            links = page.get("links")
            if not models or not isinstance(links, dict) or not links.get("next"):
                return
            offset += len(models)

    def close(self) -> None:
        """Close the idle connections; those in use are closed or pooled by their own calls."""
        self._transport.pool.close()

    def _post(
        self,
        body: bytes,
        accept: str,
        traceparent: str | None,
        cancellation: Cancellation | None,
        path: str = "/chat/completions",
    ) -> Answer:
        headers = {**self._headers, "Accept": accept}
        if traceparent is not None:
            headers["traceparent"] = traceparent
        answer = self._transport.send(Request("POST", path, headers, body), cancellation)
        if answer.status != HTTPStatus.OK:
            raise self._refusal(answer)
        return answer

    def _get(self, path: str) -> Answer:
        return self._look_ups.send(Request("GET", path, {**self._headers, "Accept": "application/json"}))

    def _refusal(self, answer: Answer) -> UpstreamError:
        """Read the error an answer holds; a body that does not come takes nothing away from its status."""
        try:
            body = answer.read(_MAX_ERROR_BYTES, next_byte_s=_ERROR_BODY_WAIT_S)
        except UpstreamError:
            body = b""
        finally:
            answer.close()
        return refused(answer.status, answer.headers, body, self._now())

    def _whole_body(self, answer: Answer) -> bytes:
        try:
            return answer.read(_MAX_BODY_BYTES)
        except UpstreamError as error:
            raise UpstreamFailedMidStream(
                error, usage=None, content_delivered=False, generation_id=answer.headers.get("X-Generation-Id")
            ) from error
        finally:
            answer.close()

    def _object(self, answer: Answer, *, exact: bool) -> dict[str, Any]:
        if answer.status != HTTPStatus.OK:
            raise self._refusal(answer)
        body = self._whole_body(answer)
        try:
            parsed = json.loads(body, parse_float=Decimal if exact else None)
        except (ValueError, RecursionError) as error:
            raise broken("malformed_answer") from error
        if not isinstance(parsed, dict):
            raise broken("malformed_answer")
        return parsed


def _chat_body(body: Mapping[str, Any], user: str | None, *, stream: bool) -> bytes:
    request = {**body, "stream": stream}
    if user is not None:
        request["user"] = user
    return json.dumps(request, separators=(",", ":")).encode()


def _with_prices_as_text(model: dict[str, Any]) -> dict[str, Any]:
    """Prices are strings by contract; a number among them (`discount`) becomes one with the same digits."""
    pricing = model.get("pricing")
    if not isinstance(pricing, dict):
        return model
    as_text = {
        name: format(Decimal(repr(value)), "f") if type(value) in (int, float) else value
        for name, value in pricing.items()
    }
    return {**model, "pricing": as_text}
