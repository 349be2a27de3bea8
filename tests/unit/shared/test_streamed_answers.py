"""A stream is closed once and logged once, wherever its client goes away."""

import pytest
from flask import Response

from tests.unit.shared.exchange import bearer, request
from tests.unit.shared.things import Things

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "Origin": "http://localhost:3000"}


def streamed(things: Things) -> Response:
    return things.ask(request("GET", "/stream", headers={**HEADERS, **bearer()}))


def close_response(response: Response) -> None:
    response.close()


def close_iterable(response: Response) -> None:
    response.response.close()  # type: ignore[union-attr]  # what a WSGI server does with the iterable it was given


CLOSERS = pytest.mark.parametrize("close", [close_response, close_iterable])


@CLOSERS
@pytest.mark.parametrize("read", [0, 1, 2, 3], ids=["unread", "after one chunk", "after the last chunk", "at its end"])
def test_a_stream_is_closed_and_logged_once_however_far_it_was_read(logged, close, read):
    things = Things()
    response = streamed(things)
    chunks = iter(response.response)
    got = [chunk for chunk in (next(chunks, None) for _ in range(read)) if chunk is not None]
    assert got == [b"one", b"two"][: min(read, 2)]
    assert things.chunks.closed == 0
    close(response)
    close(response)
    assert things.chunks.closed == 1
    [record] = logged()
    assert (record["message"], record["status"], record["route"]) == ("request", 200, "/stream")
    assert record["logging.googleapis.com/trace"].endswith(TRACE_ID)


def test_a_stream_is_not_logged_before_it_ends(logged):
    response = streamed(Things())
    assert logged() == []
    response.close()
    assert len(logged()) == 1


def test_a_stream_is_logged_even_when_closing_it_fails(logged, monkeypatch):
    things = Things()

    def refuse() -> None:
        raise RuntimeError("cannot close")

    monkeypatch.setattr(things.chunks, "close", refuse)
    with pytest.raises(RuntimeError, match="cannot close"):
        streamed(things).close()
    assert [record["message"] for record in logged()] == ["request"]


def test_a_stream_has_its_own_headers_beside_everybodys():
    response = streamed(Things())
    assert response.content_type == "text/event-stream; charset=utf-8"
    assert response.headers["X-Mine"] == "yes"
    assert response.headers["Cache-Control"] == "private, no-store, no-transform"
    assert response.headers["X-Request-Id"] == TRACE_ID
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert "Content-Length" not in response.headers
    response.close()


def test_a_stream_is_not_begun_before_its_server_asks_for_it():
    things = Things()
    response = streamed(things)
    assert list(things.chunks) == [b"one", b"two"]
    response.close()


def test_a_handler_learns_that_its_client_wants_a_stream():
    things = Things()
    for accept in ("text/event-stream", "application/json, text/event-stream;q=0.9", "application/json", ""):
        things.ask(request("GET", "/stream", headers={"Accept": accept, **bearer()})).close()
    assert [call.wants_stream for call in things.calls] == [True, True, False, False]
