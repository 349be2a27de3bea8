"""Secrets that we make: texts of 62 different characters, by chance or out of another secret."""

import hashlib
import hmac
import secrets

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHARACTER = "[0-9A-Za-z]"


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
