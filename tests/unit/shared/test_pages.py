"""A cursor comes back unchanged or is refused by name."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import pages
from shared.errors import InvalidRequest


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@given(st.datetimes(timezones=st.just(UTC)), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,40}", fullmatch=True))
def test_a_cursor_leads_back_to_its_document(moment, document_id):
    assert pages._decode(pages.cursor_after(moment, document_id)) == (moment, document_id)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "ä",
        "!!!!",
        encoded("no separator"),
        encoded("yesterday|doc"),
        encoded("2026-03-01T00:00:00+00:00|"),
        encoded("2026-03-01T00:00:00+00:00|a/b"),
        encoded("2026-03-01T00:00:00+00:00|.."),
        encoded("2026-03-01T00:00:00+00:00|__name__"),
        base64.urlsafe_b64encode(b"\xff\xfe|doc").decode(),
    ],
)
def test_a_cursor_of_nobodys_is_refused_by_name(cursor):
    with pytest.raises(InvalidRequest) as refusal:
        pages._decode(cursor)
    assert [problem.field for problem in refusal.value.fields] == ["cursor"]


@given(st.text())
def test_any_text_is_a_cursor_or_refused(cursor):
    try:
        moment, document_id = pages._decode(cursor)
    except InvalidRequest:
        return
    assert isinstance(moment, datetime)
    assert document_id
