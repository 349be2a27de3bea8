"""The Cloud Storage of the local suite: `gcp-storage-emulator` behind a door that asks for signed links.

The emulator itself serves every object to everybody. Cloud Storage does not, so what a client does with a link is
checked here as it is there: the signature, its end, the headers signed along, the size that was agreed. Browsers get
the CORS headers that the real bucket is configured to give. The JSON API, which functions use, is passed on as it is.

`python -m emulator.storage --port 9199 --bucket NAME`; what was stored is gone when it ends.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import logging
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

from shared.local_signer import LocalSigner
from shared.storage import SIZE_LIMIT_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

_API_PREFIXES = ("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/")
_SIGNATURE = "&X-Goog-Signature="
_CLOCK_SKEW = timedelta(minutes=15)
_IDLE_SECONDS = 30


class Refused(Exception):
    """Cloud Storage would not do this: the status, and the code its XML answer names."""

    def __init__(self, status: HTTPStatus, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def check_link(method: str, target: str, headers: Mapping[str, str], now: datetime) -> None:
    """Raises Refused unless `target` is a link that was signed for this method, these headers and this moment.

    The canonical request: https://cloud.google.com/storage/docs/authentication/canonical-requests
    """
    path, _, query = target.partition("?")
    signed_query, _, signature = query.rpartition(_SIGNATURE)
    said = {name: values[0] for name, values in parse_qs(signed_query).items()}
    try:
        made_at = datetime.strptime(said["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lifetime = timedelta(seconds=int(said["X-Goog-Expires"]))
        names = said["X-Goog-SignedHeaders"].split(";")
        scope = said["X-Goog-Credential"].partition("/")[2]
    except (KeyError, ValueError) as error:
        raise Refused(HTTPStatus.FORBIDDEN, "AccessDenied") from error
    lines = [f"{name}:{' '.join((headers.get(name) or '').split())}" for name in names]
    canonical = "\n".join([method, path, signed_query, *lines, "", said["X-Goog-SignedHeaders"], "UNSIGNED-PAYLOAD"])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join([said.get("X-Goog-Algorithm", ""), said["X-Goog-Date"], scope, digest])
    expected = LocalSigner().sign_bytes(to_sign.encode()).hex()  # type: ignore[no-untyped-call]  # google-auth's
    if not hmac.compare_digest(expected, signature):
        raise Refused(HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch")
    if not made_at - _CLOCK_SKEW <= now < made_at + lifetime:
        raise Refused(HTTPStatus.BAD_REQUEST, "ExpiredToken")


def check_size(headers: Mapping[str, str]) -> None:
    """Raises Refused when the body is not as large as the link allows, or does not say how large it is."""
    length = headers.get("Content-Length")
    if length is None:
        raise Refused(HTTPStatus.LENGTH_REQUIRED, "MissingContentLength")
    limits = headers.get(SIZE_LIMIT_HEADER)
    if limits is None:
        return
    least, most = (int(number) for number in limits.split(","))
    if int(length) > most:
        raise Refused(HTTPStatus.BAD_REQUEST, "EntityTooLarge")
    if int(length) < least:
        raise Refused(HTTPStatus.BAD_REQUEST, "EntityTooSmall")


class Door(RequestHandler):  # type: ignore[misc]  # the emulator ships no types
    """One request. The emulator below keeps its files in plain dictionaries, so one at a time goes through."""

    timeout = _IDLE_SECONDS
    path = ""  # a request that cannot be parsed has none
    _one_at_a_time = threading.Lock()

    def _answer_preflight(self) -> None:
        """A browser asks before it puts a file."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header("Access-Control-Allow-Methods", "GET, PUT")
        self.send_header("Access-Control-Allow-Headers", f"content-type, {SIZE_LIMIT_HEADER}")
        self.send_header("Access-Control-Max-Age", "3600")
        self.end_headers()

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def _pass(self) -> None:
        try:
            if not self._is_for_functions():
                check_link(self.command, self.path, self.headers, datetime.now(UTC))
                if self.command == "PUT":
                    check_size(self.headers)
                    # Without it the emulator below takes a file of type application/json for a request of its API.
                    self.path += "&upload_id=none"
        except Refused as refusal:
            self._refuse(refusal)
            return
        with self._one_at_a_time:
            getattr(super(), f"do_{self.command}")()

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815  # names that http.server looks for
    do_OPTIONS = _answer_preflight  # noqa: N815

    def _is_for_functions(self) -> bool:
        return self.path == "/" or self.path.startswith(_API_PREFIXES)

    def _refuse(self, refusal: Refused) -> None:
        self.close_connection = True  # the body was not read
        answer = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{refusal.code}</Code></Error>".encode()
        self.send_response(refusal.status)
        self.send_header("Content-Type", "application/xml; charset=UTF-8")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_request(self, code: int | str = "-", _size: int | str = "-") -> None:
        """Without the query, which holds signatures."""
        print(self.command, urlsplit(self.path).path, int(code), flush=True)


def make_server(host: str, port: int, bucket: str) -> ThreadingHTTPServer:
    """A server that listens, with one empty bucket; port 0 takes a free one."""
    files = Storage(use_memory_fs=True)
    create_bucket(bucket, files)
    return ThreadingHTTPServer((host, port), partial(Door, files))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m emulator.storage", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9199, help="port to listen on (default: %(default)s)")
    parser.add_argument("--bucket", required=True, help="the bucket to make")
    options = parser.parse_args()
    try:
        server = make_server(options.host, options.port, options.bucket)
    except OSError as error:
        print(f"The storage emulator cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Cloud Storage at http://{options.host}:{options.port}, bucket {options.bucket}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
