"""What of a text can be seen: names are shown to others, whom invisible characters deceive. Pure."""

import unicodedata

JOINERS = "\u200c\u200d"
"""Persian writing and emoji families are spelt with these; all other invisible characters only deceive."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs by their category, and nothing to the eye."""
_VISIBLE = ("L", "N", "P", "S")


def is_unseen(character: str) -> bool:
    """Whether it cannot be seen, or changes how others are seen; joiners too."""
    return unicodedata.category(character) in _UNSEEN


def shows_something(text: str) -> bool:
    """Whether there is anything to see: marks and joiners alone are nothing."""
    return any(unicodedata.category(character).startswith(_VISIBLE) and character not in _BLANK for character in text)


def shown_line(text: str | None, *, max_chars: int) -> str | None:
    """What can be seen of a text that nobody here has checked, on one line; None when that is nothing."""
    seen = "".join(character for character in text or "" if character in JOINERS or not is_unseen(character))
    line = unicodedata.normalize("NFC", seen)[:max_chars].strip()
    return line if shows_something(line) else None
