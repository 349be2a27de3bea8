"""Requests as a server hands them to a function, and unsigned tokens such as the Auth emulator makes."""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

from flask import Request
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

PROJECT = "demo-craftpilot"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UNSIGNED = {"alg": "none", "typ": "JWT"}


def request(
    method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None, query: str = ""
) -> Request:
    """A request whose body has a declared length."""
    builder = EnvironBuilder(
        method=method, path=path, query_string=query, data=body, headers=Headers(dict(headers or {}))
    )
    return Request(builder.get_environ())


def chunked_request(path: str, pieces: Iterable[bytes], *, method: str = "POST") -> Request:
    """A request without a length; its body ends where the stream ends."""
    environ = EnvironBuilder(method=method, path=path, headers=Headers({"Transfer-Encoding": "chunked"})).get_environ()
    environ.pop("CONTENT_LENGTH", None)
    environ["wsgi.input"] = BytesIO(b"".join(pieces))
    environ["wsgi.input_terminated"] = True
    return Request(environ)


def claims(**changes: Any) -> dict[str, Any]:
    """What a fresh token of `user-1` says; a claim changed to None is left out."""
    issued_at = NOW - timedelta(minutes=5)
    whole = {
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "aud": PROJECT,
        "sub": "user-1",
        "user_id": "user-1",
        "iat": int(issued_at.timestamp()),
        "auth_time": int(issued_at.timestamp()),
        "exp": int((issued_at + timedelta(hours=1)).timestamp()),
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def token(payload: Any = None, header: Any = UNSIGNED) -> str:
    return f"{_segment(header)}.{_segment(claims() if payload is None else payload)}."


def bearer(**changes: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(claims(**changes))}"}


def _segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
