"""Ids that clients can see: a prefix that says what it is, then 22 random characters.

They are random on purpose: Firestore spreads documents by id, and ids that grow with time put all new
documents on one server (https://firebase.google.com/docs/firestore/best-practices#document_ids).
"""

import hashlib
import re
import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 22
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}")


def new_id(prefix: str) -> str:
    """A new id such as `msg_3kTz…`: 131 bits of chance, safe in URLs and Firestore paths."""
    return _shaped(prefix, int.from_bytes(secrets.token_bytes(_LENGTH)))


def derived_id(prefix: str, seed: str) -> str:
    """An id that the seed decides, shaped like one of `new_id`: whoever repeats an operation makes the same thing."""
    return _shaped(prefix, int.from_bytes(hashlib.sha256(f"{prefix}\n{seed}".encode()).digest()))


def _shaped(prefix: str, number: int) -> str:
    characters = []
    for _ in range(_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return f"{prefix}_{''.join(characters)}"


def is_safe_id(value: str) -> bool:
    """Whether `value` can name a document: no slash, no dots alone, 1 to 128 plain characters."""
    return _SAFE.fullmatch(value) is not None


def can_name_a_document(value: str) -> bool:
    """Whether Firestore takes a foreign id as it is (https://firebase.google.com/docs/firestore/quotas#limits)."""
    reserved = value in {"", ".", ".."} or (value.startswith("__") and value.endswith("__"))
    return not reserved and "/" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
