"""The log of a process as records; accounts and limits without their databases."""

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from shared.errors import RateLimited
from shared.http import pipeline
from shared.identity import accounts, tokens
from shared.identity.accounts import Standing


@pytest.fixture
def logged(capfd) -> Callable[[], list[dict[str, Any]]]:
    """Gives the records that were logged since it was asked last."""

    def records() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return records


class Doorkeeper:
    """Stands in for the limits: lets everybody in until told otherwise, and remembers whom it let in and out."""

    headers: ClassVar[dict[str, str]] = {"RateLimit": '"requests";r=9;t=60', "RateLimit-Policy": '"requests";q=10;w=60'}

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.released = 0
        self.tokens: list[int] = []
        self.refusal: RateLimited | None = None

    def admit(self, **question: Any) -> "Doorkeeper":
        self.asked.append(question)
        if self.refusal is not None:
            raise self.refusal
        return self

    def charge_tokens(self, tokens: int) -> None:
        self.tokens.append(tokens)

    def release(self) -> None:
        self.released += 1


@pytest.fixture(autouse=True)
def doorkeeper(monkeypatch) -> Doorkeeper:
    keeper = Doorkeeper()
    monkeypatch.setattr(pipeline, "admit", keeper.admit)
    return keeper


@pytest.fixture(autouse=True)
def standing(monkeypatch) -> dict[str, Standing]:
    """What is known of accounts; one that nobody knows yet is an ordinary user's."""
    known: dict[str, Standing] = {}
    monkeypatch.setattr(tokens, "refuse_when_revoked", lambda *_: None)
    monkeypatch.setattr(accounts, "get_or_open", lambda person, **_: known.get(person.uid, Standing()))
    return known
