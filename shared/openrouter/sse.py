"""Server-sent events as bytes: whatever way the network cuts them, the same payloads come out.

https://html.spec.whatwg.org/multipage/server-sent-events.html, of which OpenRouter uses `data:` and comments.
"""

MAX_EVENT_BYTES = 32 * 1024 * 1024


class EventDecoder:
    """Payloads of `data:` lines. Everything else (comments, `event:`, `id:`, `retry:`) is skipped.

    Once `oversized` is set, a line or an event went over the limit and there is no going on: its sender is broken
    or hostile. What was given out before still holds.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.oversized = False
        self._max_event_bytes = max_event_bytes
        self._cut_line: list[bytes] = []
        self._cut_line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0

    @property
    def is_between_events(self) -> bool:
        """Whether nothing of an event was fed whose rest is still to come."""
        return not self._cut_line and not self._data

    def feed(self, received: bytes) -> list[bytes]:
        """The payloads that `received` completes."""
        lines, newline, tail = received.rpartition(b"\n")
        payloads: list[bytes] = []
        if newline:
            if self._cut_line:
                lines = b"".join((*self._cut_line, lines))
                self._cut_line.clear()
                self._cut_line_bytes = 0
            payloads = self._read(lines)
        if tail:
            # Pieces are joined once, when the line is whole: an image of megabytes must not be copied at every read.
            self._cut_line.append(tail)
            self._cut_line_bytes += len(tail)
            self._check(self._cut_line_bytes)
        return payloads

    def end(self) -> list[bytes]:
        """What was left without its blank line, or cut in the middle; the caller finds out whether it is whole."""
        line = b"".join(self._cut_line)
        self._cut_line.clear()
        payloads = self._read(line + b"\n")
        if line.strip() and not line.startswith((b":", b"data:")):
            payloads.append(line)
        return payloads

    def _read(self, lines: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        may_be_oversized = len(lines) > self._max_event_bytes
        for line in lines.split(b"\n"):
            if may_be_oversized:
                self._check(len(line))
            if self.oversized:
                break
            if line.startswith(b"data:"):
                value = line[6:] if line.startswith(b"data: ") else line[5:]
                self._data.append(value[:-1] if value.endswith(b"\r") else value)
                self._data_bytes += len(line)
                if self._data_bytes > self._max_event_bytes:
                    self.oversized = True
            elif self._data and (not line or line == b"\r"):
                payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
        return payloads

    def _check(self, size: int) -> None:
        if size > self._max_event_bytes:
            self.oversized = True
