"""Too much of everything, at the function's own socket: refused, and the next request is served."""

import http.client
import uuid
from contextlib import closing

import pytest

from tests.processes import FunctionProcess
from tests.store.chat.support import id_token

ME = "/api/v1/users/me"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def process(tmp_path_factory, firestore_emulator):
    log = tmp_path_factory.mktemp("flood") / "users.log"
    running = FunctionProcess("users", log, FIREBASE_AUTH_EMULATOR_HOST="127.0.0.1:9")
    yield running
    running.kill()


def headers(uid: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {id_token(uid)}"}


def is_served(process: FunctionProcess, uid: str) -> bool:
    with closing(process.connect()) as connection:
        connection.request("GET", ME, headers=headers(uid))
        return connection.getresponse().status == 200


@pytest.mark.parametrize(("method", "path"), [("PATCH", ME), ("DELETE", f"{ME}/avatar"), ("GET", ME)])
def test_33_megabytes_are_refused_by_their_announcement(process, uid, method, path):
    """Whether or not the route wants a body, and before any of it was sent."""
    with closing(process.connect()) as connection:
        connection.putrequest(method, path)
        for name, value in headers(uid).items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(33 * MIB))
        connection.endheaders()
        connection.send(b"x" * 1024)
        assert connection.getresponse().status == 413
    assert is_served(process, uid)


def test_a_body_without_an_announced_length_ends_at_the_limit(process, uid):
    """Gunicorn hands on what arrives; reading stops one byte after the limit."""
    with closing(process.connect()) as connection:
        connection.putrequest("PATCH", ME)
        for name, value in headers(uid).items():
            connection.putheader(name, value)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        try:
            for _ in range(33):
                connection.send(b"100000\r\n" + b"x" * MIB + b"\r\n")
            status = connection.getresponse().status
        except (BrokenPipeError, ConnectionResetError):
            status = 413  # it hung up on us, which is a refusal too
        assert status == 413
    assert is_served(process, uid)


@pytest.mark.parametrize("method", ["PATCH", "GET"])
def test_chunks_that_are_none_are_never_our_fault(process, uid, method):
    """Whether the route wants a body or nobody reads it."""
    with closing(process.connect()) as connection:
        connection.putrequest(method, ME)
        for name, value in headers(uid).items():
            connection.putheader(name, value)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"zz\r\nhello\r\n")
        assert connection.getresponse().status == (400 if method == "PATCH" else 200)
    assert is_served(process, uid)


@pytest.mark.parametrize(
    "bomb",
    [
        {f"X-Bomb-{number}": "x" for number in range(5000)},
        {"X-Bomb": "x" * 100_000},
        {"Cookie": "; ".join(f"c{number}=x" for number in range(20_000))},
        {"Authorization": "Bearer " + "x" * 60_000},
    ],
    ids=["many headers", "a long header", "many cookies", "a long token"],
)
def test_a_bomb_of_headers_is_refused(process, uid, bomb):
    with closing(process.connect()) as connection:
        try:
            connection.request("GET", ME, headers={**headers(uid), **bomb})
            status = connection.getresponse().status
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            status = 431
    assert status in {400, 401, 431}
    assert is_served(process, uid)


def test_a_scan_with_random_keys_is_limited_by_its_address_and_nobody_elses(process):
    """Well-formed or not; a stranger at another address is answered as ever."""

    def statuses(address: str, count: int) -> list[int]:
        found = []
        with closing(process.connect()) as connection:
            for _ in range(count):
                key = f"cp_live_{uuid.uuid4().hex}abcdef"
                connection.request("GET", ME, headers={"X-API-Key": key, "X-Forwarded-For": address})
                answer = connection.getresponse()
                answer.read()
                found.append(answer.status)
        return found

    scan = statuses("203.0.113.66", 40)
    assert scan[0] == 401
    assert set(scan[-15:]) == {429}
    assert statuses("203.0.113.67", 1) == [401]
