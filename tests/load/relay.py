"""The machine's own yardstick: a function that only passes bytes on, the way the product's relay does.

No identity, no limits, no ledger, no log; one kept connection per thread to the provider. What the product needs beyond
this is what the product costs.
"""

import http.client
import os
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from flask import Request, Response

_connections = threading.local()
_PROVIDER = urlsplit(os.environ.get("OPENROUTER_BASE_URL", ""))


def relay(request: Request) -> Response:
    if request.path == "/__/health":
        return Response("ok")
    answer = _ask(request.get_data())
    if answer.getheader("Transfer-Encoding") == "chunked":
        return Response(_pieces(answer), content_type=answer.getheader("Content-Type"))
    return Response(answer.read(), content_type=answer.getheader("Content-Type"))


def _ask(body: bytes) -> http.client.HTTPResponse:
    connection: http.client.HTTPConnection | None = getattr(_connections, "kept", None)
    if connection is None:
        assert _PROVIDER.hostname is not None, "OPENROUTER_BASE_URL names the provider"
        connection = _connections.kept = http.client.HTTPConnection(_PROVIDER.hostname, _PROVIDER.port, timeout=60)
    connection.request("POST", f"{_PROVIDER.path}/chat/completions", body, {"Content-Type": "application/json"})
    return connection.getresponse()


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read1(65536):
        yield piece
