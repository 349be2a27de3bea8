"""Chat completions: choosing the model, refusing what cannot be served, then one JSON answer or a stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import catalogue, chat_request, errors, media, providers, streaming
from emulator.openrouter.accounts import preflight
from emulator.openrouter.answers import Answer, compose
from emulator.openrouter.calls import STREAM_HEADERS, Call
from emulator.openrouter.faults import UnknownFault, split_model
from emulator.openrouter.streaming import Chunks, Ending, Plan

if TYPE_CHECKING:
    from emulator.openrouter.catalogue import Model, Resolved
    from emulator.openrouter.chat_request import ChatRequest
    from emulator.openrouter.faults import FaultSet
    from emulator.openrouter.generations import Generation

# Frames without a wait between them leave in one write, up to about this many bytes.
WRITE_BATCH_BYTES: Final = 32 * 1024
DEFAULT_FAILURE_CODE: Final = "502"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One model that was tried and failed."""

    model: str
    error: errors.ApiError


async def create(call: Call) -> None:
    """POST /chat/completions. Tries the model, then the fallbacks; the first that can answers."""
    request = chat_request.read(call.body)
    failed: list[Attempt] = []
    for name in request.models:
        try:
            answer = _prepare(call, request, name)
        except errors.ApiError as error:
            failed.append(Attempt(name, error))
            continue
        call.use_faults(answer.faults)
        await _respond(call, request, answer, failed)
        return
    raise _refusal(call, request, failed)


def _refusal(call: Call, request: ChatRequest, failed: list[Attempt]) -> errors.ApiError:
    """The last error, with those before it and, if asked for, how the request was routed."""
    error = failed[-1].error
    metadata = error.metadata
    if failed[:-1]:
        previous = [{"code": each.error.status, "message": each.error.message} for each in failed[:-1]]
        metadata = {**(metadata or {}), "previous_errors": previous}
    routed = _router_metadata(call, request, None, failed)
    return replace(error, metadata=metadata, router_metadata=routed)


def _prepare(call: Call, request: ChatRequest, name: str) -> Answer:
    """The answer of one model, or the ApiError that keeps it from answering."""
    try:
        slug, own_faults = split_model(name)
    except UnknownFault as error:
        raise errors.invalid_request(str(error)) from error
    faults = call.common_faults.merged(own_faults)
    resolved = catalogue.find(slug)
    if resolved is None:
        raise errors.invalid_request(f"{slug} is not a valid model ID")
    model, shown = _routed(resolved.model), _shown_model(resolved, slug, faults)
    preferences = {"only": list(request.only_providers), "ignore": list(request.ignored_providers)}
    provider = providers.choose(model, preferences)
    call.raise_asked_error(faults, model.id, provider)
    _check_abilities(request, model)
    _check_length(request, model, forced=faults.flag("context_overflow"))
    preflight(
        call.account.balance,
        model.price,
        prompt_tokens=request.prompt_tokens_for(model),
        max_tokens=request.max_tokens or model.max_output,
        free=model.is_free,
    )
    return compose(request, replace(resolved, model=model), shown, provider, faults)


def _routed(model: Model) -> Model:
    """The model that answers for a router such as openrouter/auto."""
    if model.routes_to is None:
        return model
    target = catalogue.find(model.routes_to)
    assert target is not None, "a router leads to a model of the catalogue"
    return target.model


def _shown_model(resolved: Resolved, slug: str, faults: FaultSet) -> str:
    model = _routed(resolved.model)
    if faults.flag("permaslug"):
        return model.canonical_slug
    return slug if model is resolved.model else model.id


def _check_abilities(request: ChatRequest, model: Model) -> None:
    if model.dimensions:
        raise errors.not_found("No endpoints found that support the requested output modalities: text")
    if request.tools and "tools" not in model.parameters:
        raise errors.not_found(
            f'No endpoints found that support tool use. Try disabling "{request.tools[0].name}". '
            "To learn more about provider routing, visit: https://openrouter.ai/docs/provider-routing"
        )
    media.check(request.media, model, request.pdf_engine)
    missing = [each for each in request.modalities if each not in model.outputs]
    if "image" in missing or (missing and not set(request.modalities) & set(model.outputs)):
        wanted = ", ".join(request.modalities)
        raise errors.not_found(f"No endpoints found that support the requested output modalities: {wanted}")


def _check_length(request: ChatRequest, model: Model, *, forced: bool) -> None:
    prompt, output = request.prompt_tokens_for(model), request.max_tokens or 0
    too_long = prompt + output > model.context_length and not request.compress
    if forced or too_long:
        raise errors.context_length_exceeded(model.context_length, prompt, output)


async def _respond(call: Call, request: ChatRequest, answer: Answer, failed: list[Attempt]) -> None:
    generation = call.new_generation(answer.model, answer.shown_model, answer.provider, "completions")
    generation.streamed = request.stream
    generation.session_id = request.session_id or call.exchange.request.headers.get("x-session-id")
    generation.user = request.user
    routed = _router_metadata(call, request, answer, failed)
    more = {} if routed is None else {"openrouter_metadata": routed}
    if request.stream:
        await _stream(call, generation, answer, more)
    else:
        await _whole(call, generation, answer, more)


def _headers(generation: Generation) -> dict[str, str]:
    return {"X-Generation-Id": generation.id, "X-Provider-Name": generation.provider}


# Without streaming.


async def _whole(call: Call, generation: Generation, answer: Answer, more: dict[str, Any]) -> None:
    await _generate(call, generation, answer)
    generation.finish_reason = answer.finish_reason
    generation.native_finish_reason = answer.native_finish_reason
    failure = answer.faults.choice("error_200")
    bill = answer.bill(waived=failure is not None)
    if failure is not None:
        generation.finish_reason, generation.native_finish_reason = "error", None
    call.settle(generation, bill)
    error = streaming.error_object(answer, answer.faults.choice("stream_error_code") or DEFAULT_FAILURE_CODE)
    if failure == "body":
        await call.send_json({"error": error, "user_id": errors.STANDIN_USER_ID}, headers=_headers(generation))
        return
    body = _completion(generation, answer)
    if failure == "choice":
        choice = body["choices"][0]
        choice |= {"error": error, "finish_reason": "error", "native_finish_reason": None}
        choice["message"]["content"] = "".join(answer.content[: len(answer.content) // 2])
    elif not answer.faults.flag("no_usage"):
        body["usage"] = bill.usage(noisy=answer.faults.flag("float_noise"))
    await call.send_json(body | more, headers=_headers(generation))


def _completion(generation: Generation, answer: Answer) -> dict[str, Any]:
    return {
        "id": generation.id,
        "provider": answer.provider,
        "model": answer.shown_model,
        "object": "chat.completion",
        "created": int(generation.created),
        "system_fingerprint": None,
        "service_tier": streaming.service_tier(answer),
        "choices": [
            {
                "index": 0,
                "logprobs": None,
                "finish_reason": answer.finish_reason,
                "native_finish_reason": answer.native_finish_reason,
                "message": answer.message(),
            }
        ],
    }


async def _generate(call: Call, generation: Generation, answer: Answer) -> None:
    """Take the time the answer takes. A client that leaves meanwhile pays for the tokens produced until then."""
    first_ms, each_ms = answer.faults.number("first_token_delay_ms") or 0, _token_delay_ms(answer)
    wait_ms = first_ms + each_ms * max(0, len(answer.content) - 1)
    if not wait_ms:
        return
    try:
        await asyncio.sleep(wait_ms / 1000)
    except asyncio.CancelledError:
        since_first_ms = call.elapsed_ms - first_ms
        produced = 0
        if since_first_ms >= 0:
            produced = answer.completion_tokens if not each_ms else 1 + int(since_first_ms / each_ms)
        _settle_cancelled(call, generation, answer, min(produced, answer.completion_tokens))
        raise


def _token_delay_ms(answer: Answer) -> int:
    asked = answer.faults.number("chunk_delay_ms")
    return answer.model.chunk_delay_ms if asked is None else asked


def _settle_cancelled(call: Call, generation: Generation, answer: Answer, produced: int) -> None:
    """The client has gone: providers that can stop bill what was produced, the others all of it."""
    in_full = answer.faults.choice("cancel_billing") == "off"
    call.settle(generation, answer.bill(None if in_full else produced), cancelled=True)


# Streaming.


async def _stream(call: Call, generation: Generation, answer: Answer, more: dict[str, Any]) -> None:
    old = answer.faults.choice("usage_shape") == "i"
    chunks = Chunks(generation.id, int(generation.created), answer, old=old, more=more)
    plan = streaming.plan(answer, chunks)
    produced = 0
    try:
        await call.exchange.start(200, {**STREAM_HEADERS, **_headers(generation)})
        batch: list[bytes] = []
        size = 0
        for frame in plan.frames:
            if (frame.pause_ms or size > WRITE_BATCH_BYTES) and batch:
                await call.exchange.write(*batch)
                batch, size = [], 0
            if frame.pause_ms:
                await asyncio.sleep(frame.pause_ms / 1000)
            if frame.produced and not produced:
                generation.first_token_ms = call.elapsed_ms
            produced = frame.produced
            batch.append(frame.data)
            size += len(frame.data)
        if plan.ending is Ending.STALLED:
            await call.exchange.write(*batch)
            await asyncio.Event().wait()
        _settle(call, generation, answer, plan)
        await _end(call, plan, batch)
    except asyncio.CancelledError:
        if not generation.settled:
            _settle_cancelled(call, generation, answer, produced)
        raise


def _settle(call: Call, generation: Generation, answer: Answer, plan: Plan) -> None:
    """Charged before the client can read the usage, so that its next look at the key agrees with it."""
    generation.finish_reason, generation.native_finish_reason = plan.finish_reason, plan.native_finish_reason
    call.settle(generation, answer.bill(plan.produced, waived=plan.waived))


async def _end(call: Call, plan: Plan, batch: list[bytes]) -> None:
    await call.exchange.write(*batch, *plan.tail)
    match plan.ending:
        case Ending.RESET:
            await call.exchange.reset()
        case Ending.DROPPED:
            await call.exchange.drop()
        case _:
            await call.exchange.finish()


def _router_metadata(
    call: Call, request: ChatRequest, answer: Answer | None, failed: list[Attempt]
) -> dict[str, Any] | None:
    """How the request was routed, for those who ask with `X-OpenRouter-Metadata: enabled`."""
    if call.exchange.request.headers.get("x-openrouter-metadata", "").lower() != "enabled":
        return None
    requested = request.models[0].partition("#")[0]
    resolved = catalogue.find(answer.shown_model if answer else requested)
    model = answer.model if answer else resolved.model if resolved else None
    available = (
        [
            {
                "provider": provider,
                "model": model.canonical_slug,
                "selected": answer is not None and provider == answer.provider,
            }
            for provider in (model.providers if model else ())
        ]
        if model
        else []
    )
    strategy = "fallback" if failed and answer else "auto" if requested == "openrouter/auto" else "direct"
    return {
        "requested": requested,
        "strategy": strategy,
        "attempt": len(failed) + (answer is not None),
        "attempts": [
            {"model": each.model.partition("#")[0], "provider": "", "status": each.error.status} for each in failed
        ],
        "endpoints": {"total": len(available), "available": available},
        "is_byok": answer is not None and answer.faults.flag("byok"),
        "region": None,
        "summary": f"available={len(available)}, selected={answer.provider if answer else 'none'}",
    }
