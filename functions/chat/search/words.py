"""What the words of a text are, whatever the script, and where they stand in it. Pure.

A text is folded first: compatibility forms, capitals and accents go (Unicode's NFKC_Casefold, then the marks of scripts
that can be read without them), so that one spelling finds the others. Scripts that put no spaces between words give
one word per character, which whoever indexes joins to pairs.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

MAX_WORD_CHARS = 64
"""Longer words are cut, in texts and in questions alike."""
_MAX_CLUSTER_CHARS = 16
"""Normalisation takes quadratic time over a pile of marks; what is above this many counts as a pile of its own."""

_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3105-\u312f"  # kana, bopomofo
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_INDIC = "\u0900-\u0963\u0966-\u0dff"
"""Devanagari to Sinhala: vowel signs are marks, and belong to their words."""
_EMOJI = "\u2600-\u27bf\U0001f000-\U0001faff"
_WORD = re.compile(
    rf"(?P<dense>[{_DENSE}])"
    r"|(?P<named>[a-z](?:\+\+|\#)(?!\w))"  # C++ and C# are names, not letters
    rf"|(?P<word>(?:[^\W_{_DENSE}]|[{_INDIC}])+)"
    rf"|(?P<sign>[{_EMOJI}])"
)
_MARKS_KEPT = ((0x0900, 0x109F), (0x1780, 0x17FF), (0x3099, 0x309A))
"""Where marks are vowels, tones or other sounds: Indic scripts, those of South-East Asia, kana."""
_JOINING = "\uff9e\uff9f"
"""Halfwidth kana write their sound marks as characters."""
_SPELT_PLAINLY = str.maketrans({
    "\u0131": "i", "ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th",
    "\u0640": None, "\u200b": " ",
})  # fmt: skip
"""Letters that Unicode does not take apart, the Arabic stretch, and the space that is not seen."""


class Word(NamedTuple):
    """A word of a text, from `start` to before `end`. Of the longest message there are a hundred thousand."""

    forms: tuple[str, ...]
    """How it is spelt after folding; then its pieces, of `getUserName` get, user and name."""
    start: int
    end: int
    dense: bool
    """One character of a script without spaces."""
    follows: bool
    """It touches a dense one before it."""

    @property
    def text(self) -> str:
        return self.forms[0]


def fold(text: str) -> str:
    """The one spelling of all that a reader takes for the same. Folding again changes nothing."""
    return _folded(text)[0]


def words(text: str) -> list[Word]:
    """The words in the order of the text."""
    folded, origins = _folded(text)
    found: list[Word] = []
    dense_to = -1
    for match in _WORD.finditer(folded):
        at, to = match.span()
        start, end = (at, to) if origins is None else (origins[at][0], origins[to - 1][1])
        if match.lastgroup == "dense":
            found.append(Word((match[0],), start, end, dense=True, follows=at == dense_to))
            dense_to = to
        else:
            spelt = text[start:end]
            pieces = () if spelt.islower() and match.lastgroup == "word" else _pieces(spelt, match["named"])
            found.append(Word((match[0][:MAX_WORD_CHARS], *pieces), start, end, dense=False, follows=False))
    return found


def _folded(text: str) -> tuple[str, list[tuple[int, int]] | None]:
    """The folded text, and for each of its characters where what it was made of begins and ends in the given one.

    None: each character is made of the one in its place.
    """
    if text.isascii():
        return text.lower(), None
    pieces: list[str] = []
    origins: list[tuple[int, int]] = []
    for start, cluster in _clusters(text):
        folded = _fold_cluster(cluster)
        pieces.append(folded)
        origins += [(start, start + len(cluster))] * len(folded)
    return "".join(pieces), origins


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """Each character with the marks that follow it."""
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or not _is_mark(text[at]) or at - start == _MAX_CLUSTER_CHARS:
            yield start, text[start:at]
            start = at


@lru_cache(maxsize=4096)
def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M") or "\u1160" <= character <= "\u11ff" or character in _JOINING


@lru_cache(maxsize=8192)
def _fold_cluster(cluster: str) -> str:
    """https://www.unicode.org/versions/latest/core-spec/chapter-3/#G34145 (D146), without accents."""
    plain = unicodedata.normalize("NFD", cluster)
    for _ in range(2):
        plain = unicodedata.normalize("NFKD", plain.casefold())
    kept = "".join(character for character in plain.translate(_SPELT_PLAINLY) if not _is_dropped(character))
    return unicodedata.normalize("NFC", kept)


def _is_dropped(character: str) -> bool:
    if any(first <= ord(character) <= last for first, last in _MARKS_KEPT):
        return False
    return unicodedata.category(character) in {"Mn", "Me", "Cf"}


def _pieces(spelt: str, named: str | None) -> tuple[str, ...]:
    """What else the word is found by: the parts of camel case, the letter of C++."""
    if named:
        return (named[0],)
    if len(spelt) > MAX_WORD_CHARS or spelt[1:].lower() == spelt[1:] or not spelt.isalnum():
        return ()
    parts: list[str] = []
    start = 0
    for at in range(1, len(spelt)):
        before, here, after = spelt[at - 1], spelt[at], spelt[at + 1 : at + 2]
        if here.isupper() and (not before.isupper() or after.islower()):
            parts.append(spelt[start:at])
            start = at
    return tuple(piece for part in [*parts, spelt[start:]] if (piece := fold(part))) if parts else ()
