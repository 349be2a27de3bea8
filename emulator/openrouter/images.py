"""Images on their own route, and the sizes both routes speak of. PNG is the one format offered."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import catalogue, errors, text
from emulator.openrouter.accounts import preflight
from emulator.openrouter.calls import STREAM_HEADERS, Call, to_json
from emulator.openrouter.png import gradient
from emulator.openrouter.pricing import Bill, Tokens
from emulator.openrouter.providers import choose

if TYPE_CHECKING:
    from emulator.openrouter.catalogue import Model
    from emulator.openrouter.generations import Generation

SIZES: Final = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (864, 1184),
    "4:3": (1184, 864),
    "4:5": (896, 1152),
    "5:4": (1152, 896),
    "9:16": (768, 1344),
    "16:9": (1344, 768),
    "21:9": (1536, 672),
    "1:2": (704, 1408),
    "2:1": (1408, 704),
    "1:4": (512, 2048),
    "4:1": (2048, 512),
    "1:8": (384, 3072),
    "8:1": (3072, 384),
    "9:21": (672, 1536),
}
SCALES: Final = {"512": 0.5, "0.5K": 0.5, "1K": 1.0, "2K": 2.0, "4K": 4.0}
QUALITIES: Final = ("auto", "low", "medium", "high")
FORMATS: Final = ("png", "jpeg", "webp", "svg")
OFFERED_FORMATS: Final = ("png",)
MAX_IMAGES: Final = 10
MAX_SIDE: Final = 4096
MIN_SIDE: Final = 16
PARTIAL_IMAGES: Final = 2
_PIXELS: Final = re.compile(r"(\d{1,5})x(\d{1,5})")
_IMAGE_FAILED: Final = "Image generation failed"


def chat_size(image_config: dict[str, Any]) -> tuple[int, int]:
    """Width and height for a chat's `image_config`. Raises 400 for a ratio or size that does not exist."""
    return _scaled(image_config.get("aspect_ratio") or "1:1", image_config.get("image_size") or "1K")


def _scaled(ratio: Any, scale: Any) -> tuple[int, int]:
    if not isinstance(ratio, str) or ratio not in SIZES:
        raise errors.invalid_request(f"Invalid aspect_ratio: expected one of {', '.join(SIZES)}")
    if not isinstance(scale, str) or scale not in SCALES:
        raise errors.invalid_request(f"Invalid image size: expected one of {', '.join(SCALES)}")
    width, height = SIZES[ratio]
    return min(MAX_SIDE, int(width * SCALES[scale])), min(MAX_SIDE, int(height * SCALES[scale]))


@dataclass(frozen=True, slots=True)
class ImageRequest:
    prompt: str
    count: int
    width: int
    height: int
    seed: int | None
    stream: bool


def read(body: dict[str, Any]) -> ImageRequest:
    """Raises ApiError 400."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise errors.invalid_request("Invalid request parameters: prompt: expected a string")
    count = body.get("n", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_IMAGES:
        raise errors.invalid_request(f"Invalid request parameters: n: expected 1 to {MAX_IMAGES}")
    _check_choice(body, "quality", QUALITIES)
    _check_choice(body, "output_format", FORMATS)
    _check_choice(body, "background", ("auto", "transparent", "opaque"))
    if body.get("output_format", "png") not in OFFERED_FORMATS:
        raise errors.invalid_request("output_format: this model offers png only", supported=list(OFFERED_FORMATS))
    seed = body.get("seed")
    if seed is not None and not isinstance(seed, int):
        raise errors.invalid_request("Invalid request parameters: seed: expected an integer")
    width, height = _size(body)
    return ImageRequest(text.clean(prompt), count, width, height, seed, stream=body.get("stream") is True)


def _check_choice(body: dict[str, Any], name: str, choices: tuple[str, ...]) -> None:
    if name in body and body[name] not in choices:
        raise errors.invalid_request(f"Invalid request parameters: {name}: expected one of {', '.join(choices)}")


def _size(body: dict[str, Any]) -> tuple[int, int]:
    ratio, size = body.get("aspect_ratio"), body.get("size")
    pixels = _PIXELS.fullmatch(size) if isinstance(size, str) else None
    if pixels is None:
        return _scaled("1:1" if ratio in (None, "auto") else ratio, size or body.get("resolution") or "1K")
    width, height = int(pixels[1]), int(pixels[2])
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise errors.invalid_request(f"Invalid size: sides are {MIN_SIDE} to {MAX_SIDE} pixels")
    if ratio not in (None, "auto") and not _fits(width, height, ratio):
        raise errors.invalid_request(f"size {size} conflicts with aspect_ratio {ratio}")
    return width, height


def _fits(width: int, height: int, ratio: Any) -> bool:
    """Whether the pixels have that ratio, or are the ones that stand for it."""
    across, _, down = str(ratio).partition(":")
    if SIZES.get(str(ratio)) == (width, height):
        return True
    return across.isdigit() and down.isdigit() and width * int(down) == height * int(across)


async def create(call: Call) -> None:
    """POST /images. All or nothing: a failure is 502 and costs nothing."""
    body = call.body if isinstance(call.body, dict) else {}
    model = _model(body)
    provider = choose(model, body.get("provider"))
    call.raise_asked_error(call.faults, model.id, provider)
    request = read(body)
    tokens = Tokens(
        prompt=text.count_tokens(request.prompt),
        completion=request.count * model.image_tokens,
        image=request.count * model.image_tokens,
    )
    cost = model.price.cost(tokens)
    preflight(
        call.account.balance,
        model.price,
        prompt_tokens=tokens.prompt,
        max_tokens=tokens.completion,
        free=model.is_free,
    )
    if cost.total > call.account.balance:
        raise errors.insufficient_credits()
    generation = call.new_generation(model, model.id, provider, "image")
    bill = Bill(tokens, cost, byok=call.faults.flag("byok"))
    try:
        await asyncio.sleep((call.faults.number("first_token_delay_ms") or 0) / 1000)
        pictures = [await asyncio.to_thread(_picture, model, request, index) for index in range(request.count)]
    except asyncio.CancelledError:
        call.settle(generation, Bill(tokens, cost, waived=True), cancelled=True)
        raise
    if call.faults.choice("error_200") and not request.stream:
        await _fail(call, generation, bill)
        return
    if request.stream and model.streams_images:
        await _stream(call, generation, bill, pictures)
        return
    generation.finish_reason = "stop"
    call.settle(generation, bill)
    await call.send_json(
        {
            "created": int(generation.created),
            "data": [{"b64_json": picture, "media_type": "image/png"} for picture in pictures],
            "usage": bill.usage(noisy=call.faults.flag("float_noise")),
        },
        headers={"X-Generation-Id": generation.id},
    )


def _model(body: dict[str, Any]) -> Model:
    name = body.get("model")
    if not isinstance(name, str):
        raise errors.invalid_request("No models provided")
    resolved = catalogue.find(name.partition("#")[0])
    if resolved is None:
        raise errors.invalid_request(f"{text.clean(name)} is not a valid model ID")
    if "image" not in resolved.model.outputs:
        raise errors.not_found("No endpoints found that support the requested output modalities: image")
    return resolved.model


def _picture(model: Model, request: ImageRequest, index: int) -> str:
    png = gradient(f"{model.id} {request.prompt} {request.seed} {index}", request.width, request.height)
    return b64encode(png).decode()


async def _fail(call: Call, generation: Generation, bill: Bill) -> None:
    generation.finish_reason = "error"
    call.settle(generation, Bill(bill.tokens, bill.cost, waived=True))
    await call.send_json({"error": {"code": 502, "message": _IMAGE_FAILED, "metadata": {"error_type": "server"}}})


async def _stream(call: Call, generation: Generation, bill: Bill, pictures: list[str]) -> None:
    """Two previews of each image, then each image; the usage comes with the last."""
    await call.exchange.start(200, {**STREAM_HEADERS, "X-Generation-Id": generation.id})
    partial = [
        {"type": "image_generation.partial_image", "partial_image_index": index, "b64_json": picture}
        for picture in pictures
        for index in range(PARTIAL_IMAGES)
    ]
    failed = any(call.faults.flag(f"stream_error_{kind}") for kind in "abc") or call.faults.flag("error_200")
    try:
        for event in partial:
            await asyncio.sleep((call.faults.number("chunk_delay_ms") or 0) / 1000)
            await call.exchange.write(_event(event))
        generation.finish_reason = "error" if failed else "stop"
        call.settle(generation, Bill(bill.tokens, bill.cost, byok=bill.byok, waived=failed))
    except asyncio.CancelledError:
        if not generation.settled:
            billed = call.faults.choice("cancel_billing") == "off"
            call.settle(generation, Bill(bill.tokens, bill.cost, byok=bill.byok, waived=not billed), cancelled=True)
        raise
    if failed:
        error = {"type": "error", "error": {"message": _IMAGE_FAILED, "code": "server_error"}}
        await call.exchange.write(_event(error))
    elif not call.faults.flag("stream_error_d"):
        await call.exchange.write(*_completed(call, generation, bill, pictures), b"data: [DONE]\n\n")
    await call.exchange.finish()


def _completed(call: Call, generation: Generation, bill: Bill, pictures: list[str]) -> list[bytes]:
    events: list[dict[str, Any]] = [
        {
            "type": "image_generation.completed",
            "b64_json": picture,
            "media_type": "image/png",
            "created": int(generation.created),
        }
        for picture in pictures
    ]
    events[-1]["usage"] = bill.usage(noisy=call.faults.flag("float_noise"))
    return [_event(event) for event in events]


def _event(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % to_json(event)


async def list_models(call: Call) -> None:
    """GET /images/models."""
    await call.send_json(
        {"data": [_describe(model) for model in catalogue.MODELS if "image" in model.outputs]},
    )


def _describe(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "created": model.created,
        "description": model.description,
        "architecture": {"input_modalities": list(model.inputs), "output_modalities": list(model.outputs)},
        "endpoints": f"/api/v1/images/models/{model.id}/endpoints",
        "supported_parameters": {
            "n": {"type": "integer", "minimum": 1, "maximum": MAX_IMAGES},
            "aspect_ratio": {"type": "enum", "values": list(SIZES)},
            "resolution": {"type": "enum", "values": ["512", "1K", "2K", "4K"]},
            "quality": {"type": "enum", "values": list(QUALITIES)},
            "output_format": {"type": "enum", "values": list(OFFERED_FORMATS)},
            "seed": {"type": "integer"},
        },
        "supports_streaming": model.streams_images,
    }
