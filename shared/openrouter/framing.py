"""The chunked transfer coding of HTTP/1.1 (RFC 9112 §7.1), undone as the bytes arrive."""

import http.client

_LONGEST_LINE = 4096


class ChunkedBody:
    """Takes the framing out of a chunked body, however the network cuts it.

    `http.client` reads one chunk a call; here all chunks of one socket read come out together. `ended` after the last
    chunk and its trailer; `overrun` when bytes followed that nobody asked for; `fault` when this is no chunked body,
    after which nothing more comes out.
    """

    def __init__(self) -> None:
        self.ended = False
        self.overrun = False
        self.fault: http.client.HTTPException | None = None
        self._left = 0
        self._after_data = False
        self._in_trailer = False
        self._cut_line = b""

    def feed(self, received: bytes) -> bytes:
        """The content in `received`, up to where it stops being a chunked body."""
        pieces: list[bytes] = []
        if self.fault is None:
            try:
                self._split(received, pieces)
            except http.client.HTTPException as fault:
                self.fault = fault
        return b"".join(pieces)

    def _split(self, received: bytes, pieces: list[bytes]) -> None:
        data = self._cut_line + received if self._cut_line else received
        self._cut_line = b""
        position, size = 0, len(data)
        while position < size and not self.ended:
            if self._left:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                continue
            line_end = data.find(b"\n", position)
            if line_end < 0:
                self._keep(data[position:])
                break
            if self._after_data or self._in_trailer:
                self._read_line(data[position:line_end])
                position = line_end + 1
                continue
            left = _chunk_size(data[position:line_end])
            start = line_end + 1
            end = start + left
            if left and data.startswith(b"\r\n", end):
                # The whole chunk is here, as nearly always: no need to go round twice.
                pieces.append(data[start:end])
                position = end + 2
                continue
            self._left, self._after_data, self._in_trailer = left, left > 0, left == 0
            position = start
        else:
            self.overrun = position < size

    def _read_line(self, line: bytes) -> None:
        blank = line in (b"", b"\r")
        if self._in_trailer:
            self.ended = blank
        elif not blank:
            raise http.client.HTTPException("A chunk is longer than its size")
        self._after_data = False

    def _keep(self, line: bytes) -> None:
        if len(line) > _LONGEST_LINE:
            raise http.client.HTTPException("A line between chunks does not end")
        self._cut_line = line


def _chunk_size(line: bytes) -> int:
    try:
        size = int(line, 16)
    except ValueError:
        size = _size_before_extension(line)
    if size < 0:
        raise http.client.HTTPException("A chunk of negative size")
    return size


def _size_before_extension(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise http.client.HTTPException("A chunk without a size") from error
