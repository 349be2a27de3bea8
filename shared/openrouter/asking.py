"""Asking a model through its circuit breakers, again when that may help: the one layer that retries a provider's call.

Two circuits stand before each call: OpenRouter's own, and the model's. A failure counts for the one it speaks of
(`errors.blame`); an answer of any kind shows that OpenRouter lives. The outcome of a stream is known at its end, so the
caller keeps the `Attempt` and tells it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from shared import log, metrics, retries
from shared.breaker import CircuitOpen, breakers
from shared.errors import AppError, UpstreamBusy, UpstreamError
from shared.openrouter.errors import Blame, UpstreamFailedMidStream, blame, may_be_asked_again

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.breaker import Permit
    from shared.openrouter.transport import Cancellation

T = TypeVar("T")

SERVICE = "openrouter"


def circuit_of(model: str) -> str:
    """The name of a model's circuit; the model must be one of the catalogue."""
    return f"model:{model}"


def another_model_may_help(error: UpstreamError) -> bool:
    """Whether it was this model that failed, and it said so: what only took too long may yet be answered and paid."""
    circuit = error.details.get("circuit")
    if circuit is not None:
        return circuit != SERVICE
    if isinstance(error, UpstreamFailedMidStream):
        return blame(error) is Blame.MODEL
    status = error.details.get("upstream_status")
    return status == HTTPStatus.NOT_FOUND or (status is not None and blame(error) is Blame.MODEL)


def refuse_if_open(*circuits: str) -> None:
    """Raise UpstreamBusy if one of the circuits is open: before anything is prepared for a request."""
    for name in circuits:
        retry_after_s = breakers().get(name).blocked_for_s()
        if retry_after_s is not None:
            metrics.count("breaker_refused_total", breaker=name)
            raise _busy(name, retry_after_s)


class Attempt:
    """One request to a model, and what its end says about the model and about OpenRouter. Only the first end counts."""

    def __init__(self, model: str, *, insist: bool) -> None:
        """Raises UpstreamBusy when one of the circuits is open. With `insist` that of the model lets it through."""
        name = SERVICE
        self._permits: list[Permit] = []
        try:
            self._service = breakers().get(SERVICE).admit()
            self._permits.append(self._service)
            name = circuit_of(model)
            self._model = breakers().get(name).admit(insist=insist)
            self._permits.append(self._model)
        except CircuitOpen as error:
            self.dropped()
            raise _busy(name, error.retry_after_s) from error

    @property
    def bypass(self) -> bool:
        """Whether the model's circuit is open, and the model asked for want of another."""
        return self._model.bypass

    def answering(self) -> None:
        """The first content has come. May be called again and again."""
        for permit in self._permits:
            permit.answering()

    def succeeded(self) -> None:
        for permit in self._permits:
            permit.succeeded()

    def failed(self, error: UpstreamError) -> None:
        blamed = blame(error)
        if blamed is Blame.SERVICE:
            self._service.failed()
            self._model.dropped()
            return
        if error.details.get("fault") == "kept_connection_closed":
            self._service.dropped()
        else:
            self._service.succeeded()
        if blamed is Blame.MODEL:
            self._model.failed()
        else:
            self._model.dropped()

    def dropped(self) -> None:
        """Its caller left, or broke: nothing is known about the other side."""
        for permit in self._permits:
            permit.dropped()


def ask(model: str, call: Callable[[], T], *, cancellation: Cancellation, insist: bool = False) -> tuple[T, Attempt]:
    """What `call` gives and the attempt that it belongs to, which the caller ends.

    `call` sends the request and returns as soon as an answer has begun; from then on nothing is sent again. Raises
    UpstreamError, UpstreamBusy without any request while a circuit is open, and StreamCancelled, also while it waits.
    """
    attempts, bypass = 0, False

    def attempt() -> tuple[T, Attempt]:
        nonlocal attempts, bypass
        begun = Attempt(model, insist=insist)
        attempts, bypass = attempts + 1, begun.bypass
        if attempts > 1:
            metrics.count("upstream_retries_total")
        try:
            return call(), begun
        except UpstreamError as error:
            begun.failed(error)
            raise
        except BaseException:
            begun.dropped()
            raise

    def pause_after(error: AppError) -> float | None:
        # What is asked against an open circuit is asked once.
        if bypass or not isinstance(error, UpstreamError) or not may_be_asked_again(error):
            return None
        log.info("upstream failed an attempt", model=model, attempt=attempts, code=error.code, why=error.details)
        asked_ms = error.details.get("retry_after_ms")
        return asked_ms / 1000 if isinstance(asked_ms, int) else 0.0

    return retries.call(attempt, pause_after=pause_after, wait=cancellation.wait)


def _busy(circuit: str, retry_after_s: int | None) -> UpstreamBusy:
    text = (
        "The model provider is not available right now; try again a little later."
        if circuit == SERVICE
        else "This model has been failing; try again a little later, or choose another model."
    )
    return UpstreamBusy(text, retry_after_s=retry_after_s, circuit=circuit)
