"""Chunked bodies come out the same however they are cut; what is no chunked body is refused."""

import http.client

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.openrouter.framing import ChunkedBody


def framed(chunks: list[bytes], end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + end


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 30), st.sampled_from([b"", b"X-Trailer: 1\r\n"]))
def test_content_is_the_same_at_any_cut(chunks, step, trailer):
    wire = framed(chunks, b"0\r\n" + trailer + b"\r\n")
    body = ChunkedBody()
    content = b"".join(body.feed(wire[at : at + step]) for at in range(0, len(wire), step))
    assert (content, body.ended, body.overrun) == (b"".join(chunks), True, False)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.data())
def test_a_cut_body_gives_a_prefix_and_has_not_ended(chunks, data):
    wire = framed(chunks)
    body = ChunkedBody()
    content = body.feed(wire[: data.draw(st.integers(0, len(wire) - 1))])
    assert b"".join(chunks).startswith(content)
    assert not body.ended


def test_extensions_and_bare_line_feeds_are_understood():
    body = ChunkedBody()
    assert body.feed(b"3;name=value\r\nabc\r\n2\nde\n0\n\n") == b"abcde"
    assert body.ended


def test_bytes_after_the_end_are_noticed():
    body = ChunkedBody()
    assert body.feed(framed([b"abc"]) + b"HTTP/1.1 200 OK") == b"abc"
    assert (body.ended, body.overrun) == (True, True)


@pytest.mark.parametrize(
    "wire", [b"xyz\r\n", b"\r\n", b"-5\r\nabc", b"3\r\nabcd\r\n", b"3\r\nabc\rX\n", b"1" * 5000, b"5; " + b"x" * 5000]
)
def test_what_is_no_chunked_body_is_a_fault(wire):
    body = ChunkedBody()
    body.feed(framed([b"before"], end=b""))
    body.feed(wire)
    assert isinstance(body.fault, http.client.HTTPException)
    assert body.feed(framed([b"after"])) == b""
    assert not body.ended


def test_content_before_the_fault_is_kept():
    body = ChunkedBody()
    assert body.feed(framed([b"abc"], end=b"not a size\r\n")) == b"abc"
    assert body.fault is not None
