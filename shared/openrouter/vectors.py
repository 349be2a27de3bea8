"""Embeddings as they are packed on the wire: base64 of float32 in little-endian order.

That is a quarter of what the same numbers take as JSON, and the OpenAI SDKs ask for it.
"""

from __future__ import annotations

import math
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

_FLOAT_BYTES = 4


def numbers_of(packed: str) -> array[float]:
    """Raises ValueError for what is no such text."""
    raw = b64decode(packed, validate=True)
    if len(raw) % _FLOAT_BYTES:
        raise ValueError("Not a whole number of float32")
    numbers = array("f", raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def packed(numbers: Sequence[float]) -> str:
    """Raises TypeError for what is no number, OverflowError for one that float32 does not hold."""
    floats = array("f", numbers)
    if sys.byteorder == "big":
        floats.byteswap()
    return b64encode(floats.tobytes()).decode()


def packed_if_embedding(value: Any) -> str | None:
    """An embedding as a provider sent it, packed or as numbers; None for anything else, or for what is not finite."""
    try:
        text = packed(value) if isinstance(value, list) else value
        return text if isinstance(text, str) and text and all(map(math.isfinite, numbers_of(text))) else None
    except (ValueError, TypeError, OverflowError):
        return None
