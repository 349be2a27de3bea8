"""Secrets that we make: texts of 62 different characters, by chance or out of another secret."""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHARACTER = "[0-9A-Za-z]"
_CHECKSUM_CHARS = 6


def random_text(length: int) -> str:
    """5.95 bits of chance per character."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def derived_text(seed: str, purpose: str, length: int) -> str:
    """The same text for the same seed, and one that tells nothing about it (HMAC-SHA-512; at most 80 characters)."""
    return number_text(int.from_bytes(hmac.digest(seed.encode(), purpose.encode(), hashlib.sha512)), length)


def number_text(number: int, length: int) -> str:
    """The last `length` digits of the number in base 62."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def digest(secret: str) -> str:
    """What is stored in place of the secret. It is long and random, so a plain SHA-256 cannot be reversed."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class CheckedForm:
    """Secrets that can be told from made-up ones without a look at anything:

    prefix + `secret_chars` characters by chance + 6 characters of CRC-32
    """

    prefix: str
    secret_chars: int

    def new(self, *, seed: str | None = None, purpose: str = "") -> str:
        """One that nobody knows. With a seed, which `purpose` tells from others made of it, the same one each time."""
        secret = derived_text(seed, purpose, self.secret_chars) if seed else random_text(self.secret_chars)
        return f"{self.prefix}{secret}{_checksum(secret)}"

    def fits(self, text: str) -> bool:
        expression = f"{re.escape(self.prefix)}({CHARACTER}{{{self.secret_chars}}})({CHARACTER}{{{_CHECKSUM_CHARS}}})"
        match = re.fullmatch(expression, text)
        return match is not None and _checksum(match[1]) == match[2]


def _checksum(secret: str) -> str:
    return number_text(zlib.crc32(secret.encode()), _CHECKSUM_CHARS)
