"""The log of a process, as records."""

import json
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def logged(capfd) -> Callable[[], list[dict[str, Any]]]:
    """Gives the records that were logged since it was asked last."""

    def records() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return records
