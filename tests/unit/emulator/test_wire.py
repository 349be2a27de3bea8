"""The HTTP layer without sockets: requests in any slicing, and cuts at any byte."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter.wire import MAX_BODY_BYTES, Rechunker, RequestParser, WireError, head_bytes

TWO = (
    b"POST /a%20b?x=1&x=2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    b"\r\nPOST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n"
    b"GET /d HTTP/1.0\r\n\r\n"
)


def _parse(pieces):
    parser, requests = RequestParser(), []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.next_request()) is not None:
            requests.append(request)
    return requests


@given(st.lists(st.integers(0, len(TWO)), max_size=12))
def test_requests_are_the_same_however_the_bytes_are_sliced(cuts):
    edges = [0, *sorted(cuts), len(TWO)]
    requests = _parse([TWO[start:end] for start, end in pairwise(edges)])
    assert [(each.method, each.path, each.body) for each in requests] == [
        ("POST", "/a b", b"hello"),
        ("POST", "/c", b"abc0123456789"),
        ("GET", "/d", b""),
    ]
    assert requests[0].query == {"x": "2"}
    assert [each.keep_alive for each in requests] == [True, True, False]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nName : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
    ],
)
def test_what_cannot_be_read_is_refused(data, status):
    with pytest.raises(WireError) as refused:
        _parse([data])
    assert refused.value.status == status


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 17))
def test_rechunking_cuts_at_every_n_bytes_and_loses_none(frames, size):
    rechunker = Rechunker(size)
    pieces = [piece for frame in frames for piece in rechunker.cut(frame)]
    rest = rechunker.rest()
    assert all(len(piece) == size for piece in pieces)
    assert len(rest) < size
    assert b"".join(pieces) + rest == b"".join(frames)


def test_statuses_of_proxies_have_a_reason_too():
    assert head_bytes(529, {"A": "b"}) == b"HTTP/1.1 529 Site Is Overloaded\r\nA: b\r\n\r\n"
