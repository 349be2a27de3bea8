"""Server-sent events come out the same however they are cut, and no sender can fill the memory."""

from hypothesis import given
from hypothesis import strategies as st

from shared.openrouter.sse import EventDecoder


def decode(*pieces: bytes, limit: int = 1000) -> tuple[list[bytes], bool]:
    decoder = EventDecoder(limit)
    payloads = [payload for piece in pieces for payload in decoder.feed(piece)]
    if not decoder.oversized:
        payloads += decoder.end()
    return payloads, decoder.oversized


def test_comments_and_other_fields_are_skipped():
    stream = b": OPENROUTER PROCESSING\n\nevent: x\nid: 7\nretry: 9\ndata: a\n\n: ping\n\ndata:b\n\n"
    assert decode(stream) == ([b"a", b"b"], False)


def test_lines_may_end_with_carriage_returns():
    assert decode(b": ping\r\n\r\ndata: a\r\n\r\ndata: b\r\n\r\n") == ([b"a", b"b"], False)


def test_data_lines_of_one_event_are_joined_by_line_feeds():
    assert decode(b"data: a\ndata:\ndata:  b\n\n") == ([b"a\n\n b"], False)


def test_a_comment_inside_an_event_does_not_end_it():
    assert decode(b"data: a\n: ping\ndata: b\n\n") == ([b"a\nb"], False)


def test_an_event_without_its_blank_line_comes_out_at_the_end():
    assert decode(b"data: a\n\ndata: b") == ([b"a", b"b"], False)
    assert decode(b"data: a\n\ndata: b\n") == ([b"a", b"b"], False)


def test_a_cut_field_name_comes_out_at_the_end_and_a_cut_comment_does_not():
    assert decode(b"data: a\n\ndat") == ([b"a", b"dat"], False)
    assert decode(b"data: a\n\n: OPENROU") == ([b"a"], False)


def test_a_line_over_the_limit_stops_the_decoder_after_what_came_before():
    endless = b"data: " + b"x" * 100
    assert decode(b"data: a\n\n" + endless, limit=50) == ([b"a"], True)
    assert decode(b"data: a\n\n" + endless + b"\n\ndata: c\n\n", limit=50) == ([b"a"], True)
    assert decode(b"data: a\n\n", b"data: ", b"x" * 60, limit=50) == ([b"a"], True)


def test_an_event_of_many_lines_counts_as_a_whole():
    assert decode(b"data: x\n" * 10 + b"\n", limit=50) == ([], True)
    assert decode(b"data: x\n\n" * 10, limit=50) == ([b"x"] * 10, False)


LINES = st.lists(
    st.sampled_from(
        [b"data: a", b"data:", b"data:b c", b"data: \xc3\xa7", b": ping", b":", b"", b"", b"event: x", b"junk", b"data"]
    )
    | st.binary(max_size=60).map(lambda line: b"data: " + line.replace(b"\n", b"").replace(b"\r", b"")),
    max_size=12,
)


@given(st.data(), LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_the_way_the_bytes_are_cut_changes_nothing(data, lines, line_end, ended_in_the_middle):
    stream = line_end.join(lines) + (b"" if ended_in_the_middle else line_end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = decode(stream, limit=50)
    assert decode(*pieces, limit=50) == whole
    assert decode(*(stream[at : at + 1] for at in range(len(stream))), limit=50) == whole
