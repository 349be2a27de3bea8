"""Real PNG pictures from nothing: deterministic gradients with zlib and struct."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import Final

from emulator.openrouter.text import seeded

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOURS: Final = 256
_INDEXED_8_BIT: Final = struct.pack(">BBBBB", 8, 3, 0, 0, 0)


@lru_cache(maxsize=64)
def gradient(seed: str, width: int, height: int) -> bytes:
    """A diagonal gradient between two colours that depend on the seed alone.

    A palette keeps it at a byte per pixel, so that even 4096 x 4096 takes a fraction of a second.
    """
    random = seeded("png", seed)
    first, last = ([random.randrange(256) for _ in range(3)] for _ in range(2))
    palette = bytes(
        start + (end - start) * step // (_COLOURS - 1)
        for step in range(_COLOURS)
        for start, end in zip(first, last, strict=True)
    )
    ramp = bytes(position * _COLOURS // (width + height) for position in range(width + height))
    rows = b"".join(b"\0" + ramp[y : y + width] for y in range(height))
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", struct.pack(">II", width, height) + _INDEXED_8_BIT),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(rows, 1)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def dimensions(png: bytes) -> tuple[int, int]:
    """Width and height. ValueError when it is no PNG."""
    if not png.startswith(SIGNATURE):
        raise ValueError("not a PNG")
    width, height = struct.unpack(">II", png[16:24])
    return width, height
