"""What a question finds, by which terms, and what of a text is shown."""
# ruff: noqa: RUF001  # letters that look like others are what is tested

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from functions.chat.search import domain
from functions.chat.search.domain import (
    MAX_ENTRIES,
    MAX_TERMS,
    PREFIX_CHARS,
    SNIPPET_CHARS,
    hits,
    index_terms,
    leading_term,
    may_answer,
    question_from,
    snippet,
    word_list,
)
from functions.chat.search.words import words

LETTERS = "abcdeéÀßfXyzабвЖαβסשحसकि中文京서울ไท019_-./'🎉"
WORD = st.text(alphabet=st.sampled_from(LETTERS), min_size=1, max_size=14)
TEXT = st.lists(WORD, min_size=1, max_size=30).map(" ".join)


def question(text: str) -> domain.Question:
    asked = question_from(text)
    assert asked is not None
    return asked


def finds(asked: str, text: str) -> bool:
    """As a search goes: the index by the leading terms, the list of words, then the text."""
    parsed = question(asked)
    terms = {term for entry in index_terms(text) for term in entry}
    return leading_term(parsed) in terms and may_answer(parsed, word_list(text)) and bool(hits(parsed, text))


@given(TEXT)
def test_every_word_of_a_text_finds_it(text):
    for word in text.split():
        if words(word):
            assert finds(word, text)
            assert finds(f'"{word}"', text)


@given(TEXT)
def test_every_beginning_of_three_letters_or_more_finds_the_text(text):
    for word in words(text):
        for length in range(PREFIX_CHARS[0], len(word.text) + 1):
            assert finds(word.text[:length], text)


@given(TEXT, st.data())
def test_any_words_of_a_text_together_find_it_and_a_part_of_it_as_a_phrase(text, data):
    every = [word for word in text.split() if words(word)]
    assume(every)
    some = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=4))
    assert finds(" ".join(some), text)
    start = data.draw(st.integers(0, len(every) - 1))
    assert finds(f'"{" ".join(every[start : start + 4])}"', " ".join(every))


@given(TEXT, TEXT)
def test_what_is_found_holds_every_word_that_was_asked_for(asked, text):
    assume(question_from(asked) is not None)
    parsed = question(asked)
    if finds(asked, text):
        there = {form for word in words(text) for form in word.forms}
        for phrase in parsed.phrases:
            *whole, last = phrase.words
            assert set(whole) <= there
            assert any(form.startswith(last) if phrase.open_end else form == last for form in there)


@pytest.mark.parametrize(
    ("asked", "text", "found"),
    [
        ("quantum computer", "A computer that is quantum", True),
        ('"quantum computer"', "A computer that is quantum", False),
        ('"quantum computer"', "the Quantum   Computer.", True),
        ("quant", "quantum", True),
        ("quant computer", "quantum computer", False),
        ('"quant"', "quantum", False),
        ("computer quant", "quantum computer", True),
        ("user_id", "the user_id column", True),
        ("user_id", "an id of a user", False),
        ("users/me", "GET /api/v1/users/me/export", True),
        ("getusername", "call getUserName()", True),
        ("name", "call getUserName()", True),
        ("c++", "in C++ one writes", True),
        ("c", "in C++ one writes", True),
        ("3.14", "π is 3.14159", True),
        ("東京", "私は東京にいる", True),
        ("京東", "私は東京にいる", False),
        ("山", "富士山", True),
        ("resume", "Mon résumé", True),
        ("ISTANBUL", "istanbul'da", True),
        ("don't", "I don’t know", True),
        ('he said "we go" now', "He said now: we go", True),
        ("a", "b", False),
    ],
)
def test_what_is_asked_for_is_found_and_nothing_else(asked, text, found):
    assert finds(asked, text) is found


@pytest.mark.parametrize("asked", ["", "   ", "?!", '""', '"…" —', "\u200b"])
def test_nothing_to_search_by_is_no_question(asked):
    assert question_from(asked) is None


def test_the_index_is_asked_by_what_says_most():
    assert leading_term(question("the encyclopaedia of a")) == "encyclopaedia"
    assert leading_term(question("the quant")) == "quan"
    assert leading_term(question("the quantu")) == "quantu"
    assert leading_term(question("of a")) == "of"
    assert leading_term(question("a")) == "a"
    assert leading_term(question("the 大学")) == "大学"


def test_a_long_text_is_spread_over_entries_that_share_no_term():
    text = " ".join(f"{number}word" for number in range(1500))
    entries = index_terms(text)
    terms = [term for entry in entries for term in entry]
    assert len(terms) == len(set(terms)) > 1500
    assert [len(entry) for entry in entries[:-1]] == [MAX_TERMS] * (len(entries) - 1)
    assert all(finds(asked, text) for asked in ("0word", "1234word", "1234wo", "1499word", "149"))


def test_the_entries_of_a_text_without_end_are_bounded():
    entries = index_terms(" ".join(f"{number:x}" for number in range(20_000)))
    assert len(entries) == MAX_ENTRIES
    assert max(map(len, entries)) <= MAX_TERMS


def test_the_heaviest_entry_is_far_below_the_size_of_a_document():
    text = " ".join(chr(0x10400 + number % 40) * 64 + str(number) for number in range(1000))
    (terms, *_) = index_terms(text)
    size = sum(len(term.encode()) + 1 for term in terms) + len(word_list(text).encode())
    assert size < 600_000


@given(TEXT, TEXT, st.text(max_size=300))
def test_a_snippet_shows_its_matches_on_one_short_line(asked, text, padding):
    assume(question_from(asked) is not None)
    whole = f"{padding}\n{text} {padding}"
    found = hits(question(asked), whole)
    shown = snippet(whole, found)
    assert len(shown.text) <= SNIPPET_CHARS
    assert len(shown.text.splitlines()) <= 1
    end_before = -1
    for start, end in shown.matches:
        assert end_before < start < end <= len(shown.text)
        end_before = end
    assert bool(shown.matches) == bool(found)


def test_a_snippet_is_what_stands_around_the_first_match():
    text = "word " * 60 + "the code word\n\n is   heron. " + "word " * 60
    shown = snippet(text, hits(question("heron"), text))
    (match,) = shown.matches
    assert shown.text[slice(*match)] == "heron"
    assert shown.text.startswith("…word word")
    assert "the code word is heron. word" in shown.text
    assert shown.text.endswith("…")


def test_a_short_text_is_shown_whole():
    assert snippet("Just this.", [(0, 4)]) == domain.Snippet("Just this.", ((0, 4),))


def test_a_match_longer_than_the_snippet_ends_with_it():
    text = "word " * 100
    shown = snippet(text, hits(question(f'"{text}"'), text))
    assert shown.matches == ((0, len(shown.text) - 1),)
