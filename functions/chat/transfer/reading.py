"""A file as it arrives: bytes that say they are JSON."""

import json
from typing import Any, NoReturn

from shared.errors import FieldError, InvalidRequest

_PACKED = {b"PK\x03\x04": "ZIP", b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z"}


def parsed(raw: bytes) -> Any:
    """The JSON of a file, in UTF-8, UTF-16 or UTF-32. Raises InvalidRequest that says what is wrong with it."""
    for beginning, name in _PACKED.items():
        if raw.startswith(beginning):
            raise _unreadable(f"The file is a {name} archive: unpack it and send the JSON file that is in it.")
    if not raw.strip():
        raise _unreadable("The file is empty.")
    try:
        return json.loads(raw, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise _unreadable(f"The file is no text: byte {error.start} cannot be read as {error.encoding}.") from error
    except RecursionError as error:
        raise _unreadable("The file is nested too deeply; LibreChat writes flat ones without `recursive`.") from error
    except ValueError as error:
        raise _unreadable(f"The file is not valid JSON: {error}.") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")


def _unreadable(message: str) -> InvalidRequest:
    return InvalidRequest(message, fields=[FieldError("body", message)])
