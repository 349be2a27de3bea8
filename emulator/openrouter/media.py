"""What a prompt holds besides text: images, files, sound, film. How many tokens it makes, and who can take it.

Nothing is downloaded, so a link counts the same whatever it leads to.
"""

from __future__ import annotations

import binascii
import re
import struct
from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import text
from emulator.openrouter.errors import ApiError, invalid_request, not_found

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emulator.openrouter.catalogue import Model

# What a model counts for an image or a piece of sound or film that has no way of its own to count; Gemini's for a tile.
MEDIA_TOKENS: Final = 258
# Of a file that is only a link: about a page of text.
LINKED_FILE_TOKENS: Final = 750
# Of a file that came along: one for so many bytes, since most of a PDF is not text.
FILE_BYTES_PER_TOKEN: Final = 6
NATIVE_ENGINE: Final = "native"
OCR_ENGINE: Final = "mistral-ocr"
ENGINES: Final = (OCR_ENGINE, NATIVE_ENGINE, "cloudflare-ai", "pdf-text")
IMAGE_FORMATS: Final = ("png", "jpeg", "webp", "gif")

_KINDS: Final = {
    "image_url": "image",
    "file": "file",
    "input_audio": "audio",
    "input_video": "video",
    "video_url": "video",
}
_REFUSED_AS: Final = {"image": "image input", "audio": "input audio", "video": "input video"}
_DATA_URL: Final = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)?(?:;[a-z0-9=-]+)*;base64,", re.IGNORECASE)
_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_PNG_HEAD: Final = struct.Struct(">8s4x4sII")
_PNG_HEAD_BASE64: Final = 32


@dataclass(frozen=True, slots=True)
class Media:
    """One part. `tiles` are those of an image that is looked at closely, `pages` those of a PDF."""

    kind: str
    tokens: int
    tiles: int = 0
    pages: int = 0
    name: str = ""
    digest: str = ""

    def tokens_for(self, model: Model) -> int:
        if self.kind == "image" and model.image_input_tokens is not None:
            whole, tile = model.image_input_tokens
            return whole + self.tiles * tile
        return self.tokens


def read(part: dict[str, Any], where: str) -> Media:
    """A part that is no text. Raises ApiError 400 for one that holds nothing to look at."""
    kind = _KINDS.get(part["type"])
    if kind == "image":
        return _image(part, f"{where}.image_url")
    if kind == "file":
        return _file(part, f"{where}.file")
    return Media(kind or "", min(MEDIA_TOKENS, _reference_bytes(part)))


def read_engine(plugins: Any) -> str | None:
    """What parses PDFs, as the file-parser plugin asks; None when it does not say. Raises ApiError 400."""
    for plugin in plugins if isinstance(plugins, list) else ():
        if isinstance(plugin, dict) and plugin.get("id") == "file-parser" and plugin.get("enabled") is not False:
            pdf = plugin.get("pdf")
            engine = pdf.get("engine") if isinstance(pdf, dict) else None
            if engine is not None and engine not in ENGINES:
                raise _invalid("plugins.pdf.engine", f"expected one of {', '.join(ENGINES)}")
            return engine
    return None


def engine_for(model: Model, asked: str | None) -> str:
    """Who reads the PDFs: without a wish the model itself where it can, else the engine that costs by the page."""
    return asked or (NATIVE_ENGINE if "file" in model.inputs else OCR_ENGINE)


def check(media: Iterable[Media], model: Model, asked_engine: str | None) -> None:
    """Raises ApiError 404 for what the model cannot take. Files it can: what it does not read itself is parsed."""
    kinds = {each.kind for each in media}
    for kind, words in _REFUSED_AS.items():
        if kind in kinds and kind not in model.inputs:
            raise not_found(f"No endpoints found that support {words}")
    if "file" in kinds and asked_engine == NATIVE_ENGINE and "file" not in model.inputs:
        raise not_found("No endpoints found that support file input")


def annotation(file: Media) -> dict[str, Any]:
    """What an answer says of a file that was parsed, so that it need not be parsed again."""
    content = [f'<file name="{file.name}">', f"The text of {file.name}.", "</file>"]
    parts = [{"type": "text", "text": line} for line in content]
    return {"type": "file", "file": {"hash": file.digest, "name": file.name, "content": parts}}


def tiles_of(width: int, height: int) -> int:
    """Squares of 512 pixels, once an image is scaled into 2,048 by 2,048 and its shorter side to 768: OpenAI's way."""
    if width < 1 or height < 1:
        return 1
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return max(1, -(-int(width * scale) // 512)) * max(1, -(-int(height * scale) // 512))


def _image(part: dict[str, Any], where: str) -> Media:
    inner = part.get("image_url")
    url = inner.get("url") if isinstance(inner, dict) else inner
    if not isinstance(url, str):
        raise _invalid(f"{where}.url", "expected a string")
    is_close = not (isinstance(inner, dict) and inner.get("detail") == "low")
    if _is_link(url):
        return Media("image", MEDIA_TOKENS, tiles=int(is_close))
    data_url = _DATA_URL.match(url)
    if data_url is None:
        raise _bad_image("invalid_image", f"{where}.url: expected an http(s) link or a base64 data URL")
    if (data_url[1] or "").lower() not in {f"image/{name}" for name in IMAGE_FORMATS}:
        raise _bad_image("unsupported_image_format", f"{where}.url: expected one of {', '.join(IMAGE_FORMATS)}")
    tiles = _tiles_of_png(url[data_url.end() :][:_PNG_HEAD_BASE64]) if is_close else 0
    return Media("image", MEDIA_TOKENS, tiles=tiles)


def _tiles_of_png(beginning: str) -> int:
    """One for what is no PNG: other formats say their size elsewhere."""
    try:
        head = b64decode(beginning)
        magic, chunk, width, height = _PNG_HEAD.unpack(head[: _PNG_HEAD.size])
    except (binascii.Error, ValueError, struct.error):
        return 1
    return tiles_of(width, height) if (magic, chunk) == (b"\x89PNG\r\n\x1a\n", b"IHDR") else 1


def _file(part: dict[str, Any], where: str) -> Media:
    inner = part.get("file")
    data = inner.get("file_data") or inner.get("file_id") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(data, str):
        raise _invalid(f"{where}.file_data", "expected a link, a base64 data URL or base64")
    name = text.clean(str(inner.get("filename") or "document.pdf"))
    if _is_link(data) or "file_data" not in inner:
        return Media("file", LINKED_FILE_TOKENS, pages=1, name=name, digest=_digest(_without_query(data)))
    data_url = _DATA_URL.match(data)
    try:
        content = b64decode(data[data_url.end() :] if data_url else data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"{where}.file_data", "expected a link, a base64 data URL or base64") from error
    tokens = max(1, len(content) // FILE_BYTES_PER_TOKEN)
    return Media("file", tokens, pages=max(1, len(_PAGE.findall(content))), name=name, digest=_digest(data))


def _reference_bytes(part: dict[str, Any]) -> int:
    """How long the URL or the data of a part is, wherever the part keeps it."""
    inner = part.get(part["type"])
    values = inner.values() if isinstance(inner, dict) else [inner]
    return sum(len(value) for value in values if isinstance(value, str))


def _is_link(url: str) -> bool:
    return url.startswith(("https://", "http://"))


def _without_query(url: str) -> str:
    """Signed links to one file differ only there."""
    return url.partition("?")[0]


def _digest(reference: str) -> str:
    return sha256(reference.encode("utf-8", "replace")).hexdigest()


def _bad_image(error_type: str, message: str) -> ApiError:
    return ApiError(400, f"Invalid request parameters: {message}", {"error_type": error_type})


def _invalid(field: str, problem: str) -> ApiError:
    return invalid_request(f"Invalid request parameters: {field}: {problem}", parameter=field)
