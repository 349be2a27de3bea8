"""The recorded exchanges, as the bytes that came over the wire."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parents[2] / "recordings" / "openrouter"


@dataclass(frozen=True)
class Recorded:
    name: str
    status: int
    body: bytes
    parsed: dict[str, Any] | None

    @property
    def streamed(self) -> bool:
        return self.parsed is None


@cache
def exchanges() -> tuple[Recorded, ...]:
    found = []
    for path in sorted(_FOLDER.glob("*.yaml")):
        interactions = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["interactions"]
        for number, interaction in enumerate(interactions):
            response = interaction["response"]
            parsed = response.get("parsed_body")
            body = response["body"]["string"].encode() if parsed is None else json.dumps(parsed).encode()
            found.append(Recorded(f"{path.stem}-{number}", response["status"]["code"], body, parsed))
    return tuple(found)


def streams() -> list[Recorded]:
    return [each for each in exchanges() if each.streamed]


def completions() -> list[Recorded]:
    return [each for each in exchanges() if not each.streamed and each.status == 200]


def refusals() -> list[Recorded]:
    return [each for each in exchanges() if each.status != 200]
