"""Rules of content search: what a text is found by, what a question asks for, and where a text answers it. Pure.

A word is found whole, by its pieces, and at the end of a question by its beginning. What is written together in a
question (`user_id`, `v1.2`, a run of Chinese) or quoted is found only where its words follow each other.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from functions.chat.search.words import Word, words

PREFIX_CHARS = (3, 4, 6, 9, 12)
"""The lengths of the beginnings that are stored: a longer one is looked up by the longest that fits, then compared."""
MAX_TERMS = 1000
"""Of one entry: each is an index entry of the database, and a document has room for some ten thousand."""
MAX_ENTRIES = 8
"""Of one text. Words beyond do not find it: some two thousand different ones come before."""
SNIPPET_CHARS = 160
MAX_MATCHES = 40
"""Of one snippet."""
_BEFORE_HIT_CHARS = 40
_DENSE_WEIGHT = 4
"""A pair of Chinese characters says as much as this many times its letters."""
_QUOTED = re.compile(r'["“”„«»]([^"“”„«»]*)["“”„«»]')


@dataclass(frozen=True)
class Entry:
    """One document of the index, without its terms. `message_id` and `role` are None for a title."""

    id: str
    conversation_id: str
    message_id: str | None
    role: str | None
    at: datetime
    words: str | None
    """All words of the text, each on a line of its own; None when the text has several entries."""


@dataclass(frozen=True)
class Phrase:
    """Words that follow each other. `open_end`: the last one may go on."""

    words: tuple[str, ...]
    terms: frozenset[str]
    """By what all texts that hold it are indexed; without its open end."""
    open_end: bool = False


@dataclass(frozen=True)
class Question:
    """What a text must hold: each of the phrases."""

    phrases: tuple[Phrase, ...]

    @property
    def terms(self) -> frozenset[str]:
        return frozenset().union(*(phrase.terms for phrase in self.phrases))

    @property
    def beginning(self) -> str | None:
        """What some word of the text must begin with."""
        last = self.phrases[-1]
        return last.words[-1] if last.open_end else None


@dataclass(frozen=True)
class Snippet:
    """A part of a text, and where in it the matches are."""

    text: str
    matches: tuple[tuple[int, int], ...]


def index_terms(text: str) -> list[tuple[str, ...]]:
    """What finds the text, spread over as many entries as that takes: no term twice, no word without its beginnings."""
    found: dict[str, None] = {}
    for word in _terms_of(words(text)):
        if len(found) + 1 + len(PREFIX_CHARS) > MAX_TERMS * MAX_ENTRIES:
            break
        found[word] = None
        found.update(dict.fromkeys(word[:length] for length in PREFIX_CHARS if length < len(word)))
    terms = list(found)
    return [tuple(terms[start : start + MAX_TERMS]) for start in range(0, len(terms), MAX_TERMS)]


def word_list(text: str) -> str:
    """All words of a text for `may_answer`."""
    return "\n".join(["", *_terms_of(words(text)), ""])


def question_from(text: str) -> Question | None:
    """What somebody asks for; None when there is nothing to search by, as in `?!`."""
    quotes = list(_QUOTED.finditer(text))
    quoted = [phrase for match in quotes if (phrase := _phrase(match[1])).words]
    spaced = [phrase for chunk in _QUOTED.sub(" ", text).split() if (phrase := _phrase(chunk)).words]
    ends_quoted = bool(quotes) and quotes[-1].end() == len(text.rstrip())
    if spaced and not ends_quoted:
        spaced[-1] = _with_open_end(spaced[-1])
    asked = tuple(dict.fromkeys([*quoted, *spaced]))
    return Question(asked) if asked else None


def leading_term(question: Question) -> str:
    """By which the index is asked: what each text that answers is found by, and few others are."""
    beginning = question.beginning
    terms = set(question.terms)
    if beginning is not None and len(beginning) >= PREFIX_CHARS[0]:
        terms.add(beginning[: max(length for length in PREFIX_CHARS if length <= len(beginning))])
    if not terms:
        # Shorter beginnings are not stored. Alone, one is looked up as a whole word.
        assert beginning is not None, "every question holds a word"
        return beginning
    return max(terms, key=lambda term: (_weight(term), term))


def may_answer(question: Question, listed: str) -> bool:
    """Whether the words of a text (`word_list`) are those of the question, in any order."""
    beginning = question.beginning
    if beginning is not None and f"\n{beginning}" not in listed:
        return False
    return all(f"\n{term}\n" in listed for term in question.terms)


def hits(question: Question, text: str) -> list[tuple[int, int]]:
    """Where the text answers, in order; empty unless it holds every phrase."""
    there = words(text)
    places: dict[str, list[int]] = {}
    for at, word in enumerate(there):
        for form in word.forms:
            places.setdefault(form, []).append(at)
    found: list[tuple[int, int]] = []
    for phrase in question.phrases:
        starts = [at for at in _first_places(phrase, places) if _stands_at(phrase, there, at)]
        if not starts:
            return []
        found += [(there[at].start, there[at + len(phrase.words) - 1].end) for at in starts]
    return sorted(set(found))


def snippet(text: str, found: Sequence[tuple[int, int]]) -> Snippet:
    """At most SNIPPET_CHARS characters around the first hit, on one line; without hits the beginning of the text."""
    start = _window_start(text, found[0][0]) if found else 0
    shown: list[str] = ["…"] if start else []
    places: dict[int, int] = {}
    at = start
    while at < len(text) and len(shown) < SNIPPET_CHARS:
        if not text[at].isspace():
            places[at] = len(shown)
            shown.append(text[at])
        elif at > start and shown[-1:] != [" "]:
            shown.append(" ")
        at += 1
    goes_on = bool(text[at:].strip())
    if goes_on:
        shown[-1] = "…"
    line = "".join(shown).rstrip()
    last = len(line) - goes_on
    marks = [
        (places[first], min(places[end - 1] + 1, last) if end - 1 in places else last)
        for first, end in found
        if first in places and places[first] < last
    ]
    return Snippet(line, tuple(_merged(marks))[:MAX_MATCHES])


def _window_start(text: str, hit: int) -> int:
    """A little before the hit, at the beginning of a word when one is near."""
    if hit <= _BEFORE_HIT_CHARS:
        return 0
    start = hit - _BEFORE_HIT_CHARS
    space = re.search(r"\s", text[start:hit])
    return start + space.end() if space else start


def _merged(marks: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in marks:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _terms_of(found: Sequence[Word]) -> dict[str, None]:
    """Words and their pieces; of dense scripts single characters, after the pairs that say more."""
    terms: dict[str, None] = {}
    single: dict[str, None] = {}
    for before, word in zip([None, *found], found, strict=False):
        if word.follows and before is not None:
            terms[before.text + word.text] = None
        (single if word.dense else terms).update(dict.fromkeys(word.forms))
    return terms | single


def _phrase(text: str) -> Phrase:
    found = words(text)
    terms: set[str] = set()
    for at, word in enumerate(found):
        if word.follows:
            terms.add(found[at - 1].text + word.text)
        elif not (word.dense and at + 1 < len(found) and found[at + 1].follows):
            terms.add(word.text)
    return Phrase(tuple(word.text for word in found), frozenset(terms))


def _with_open_end(phrase: Phrase) -> Phrase:
    """The last word as a beginning; characters of dense scripts have none."""
    if not phrase.words or phrase.words[-1] not in phrase.terms:
        return phrase
    rest = phrase.words[:-1]
    return Phrase(phrase.words, phrase.terms - ({phrase.words[-1]} - set(rest)), open_end=True)


def _weight(term: str) -> int:
    return len(term) * (1 if term.isascii() or not words(term)[0].dense else _DENSE_WEIGHT)


def _first_places(phrase: Phrase, places: dict[str, list[int]]) -> list[int]:
    first = phrase.words[0]
    if len(phrase.words) > 1 or not phrase.open_end:
        return places.get(first, [])
    return sorted({at for form, where in places.items() if form.startswith(first) for at in where})


def _stands_at(phrase: Phrase, there: Sequence[Word], at: int) -> bool:
    if at + len(phrase.words) > len(there):
        return False
    *rest, last = phrase.words
    if any(word not in there[at + step].forms for step, word in enumerate(rest)):
        return False
    forms = there[at + len(rest)].forms
    return any(form.startswith(last) for form in forms) if phrase.open_end else last in forms
