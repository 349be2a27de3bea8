"""Exact money: integers of 1e-12 USD inside, JSON numbers outside."""

from __future__ import annotations

from decimal import Decimal

PICO_PER_USD = 10**12


def pico_from_usd(amount: str | float | Decimal) -> int:
    """Dollars to integers of 1e-12 USD. ValueError when the amount is finer than that: rounding would hide a loss."""
    scaled = Decimal(str(amount)) * PICO_PER_USD
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{amount} USD is finer than 1e-12 USD")
    return whole


def usd_number(pico: int) -> float | int:
    """The JSON number of an amount, an integer where it is whole.

    A double's shortest text is the exact decimal as long as neighbouring doubles lie closer than 1e-12,
    that is below 8192 USD. Larger whole amounts (balances) are exact too, because they stay integers.
    """
    whole, rest = divmod(pico, PICO_PER_USD)
    return pico / PICO_PER_USD if rest else whole


def usd_text(pico: int) -> str:
    """An amount for people and log lines: plain decimals, no exponent."""
    return format(Decimal(pico).scaleb(-12).normalize(), "f")
