"""Which tool the model calls and with what: chosen by the words of the request, filled in from the JSON schema."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from emulator.openrouter import text

if TYPE_CHECKING:
    from random import Random

    from emulator.openrouter.chat_request import ChatRequest, Tool

MAX_DEPTH: Final = 8
MAX_LENGTH: Final = 1000
_CALL: Final = re.compile(r"^[ \t]*/tool[ \t]+(\S+)(?:[ \t]+(\{.*\}))?[ \t]*\r?$", re.MULTILINE)
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_NAME_WORD: Final = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}")
_WEAK_WORDS: Final = frozenset({"get", "set", "the", "and", "for", "find", "with", "from", "this", "that", "list"})
_STRING_FORMATS: Final = {
    "date": "2026-11-22",
    "date-time": "2026-11-22T09:00:00Z",
    "time": "09:00:00Z",
    "email": "ayse@example.com",
    "uri": "https://example.com/",
    "uuid": "3f2b8c1e-5d4a-4e6f-9a7b-0c1d2e3f4a5b",
}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is JSON text."""

    id: str
    name: str
    arguments: str


def calls_for(request: ChatRequest, random: Random) -> tuple[ToolCall, ...]:
    """The calls the model makes.

    `/tool <name> [json]` lines of the last user message decide, if there are any. Otherwise one call is made when
    the choice requires it, or when the user's words name the tool. After a tool's result the model speaks.
    """
    if not request.tools or request.tool_choice == "none" or request.messages[-1].role != "user":
        return ()
    by_name = {tool.name: tool for tool in request.tools}
    ordered = [(by_name[found[1]], found[2]) for found in _CALL.finditer(request.asked) if found[1] in by_name]
    if ordered:
        return tuple(_call(tool, request, random, arguments) for tool, arguments in ordered)
    if request.chosen_tool is not None:
        chosen = by_name.get(request.chosen_tool)
    elif request.tool_choice == "required":
        chosen = _named_in(request) or request.tools[0]
    else:
        chosen = _named_in(request)
    return (_call(chosen, request, random),) if chosen else ()


def _named_in(request: ChatRequest) -> Tool | None:
    said = request.asked.lower()
    for tool in request.tools:
        words = {word.lower() for word in _NAME_WORD.findall(tool.name)} - _WEAK_WORDS
        if any(word in said for word in words):
            return tool
    return None


def _call(tool: Tool, request: ChatRequest, random: Random, arguments: str | None = None) -> ToolCall:
    if arguments is None:
        arguments = json.dumps(sample(tool.parameters, request.asked), ensure_ascii=False)
    return ToolCall(f"call_{random.getrandbits(96):024x}", tool.name, arguments)


def sample(schema: dict[str, Any], asked: str) -> Any:
    """A value that fits the schema: numbers and words are taken from what was asked."""
    return _Sampler(schema, asked).value(schema, MAX_DEPTH)


class _Sampler:
    def __init__(self, root: dict[str, Any], asked: str) -> None:
        self._root = root
        self._numbers = iter(_NUMBER.findall(asked))
        self._words = text.topic_of(asked)

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth <= 0:
            return None
        schema = self._resolved(schema, depth)
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        if values := _listed(schema, "enum"):
            return values[0]
        for name in ("anyOf", "oneOf"):
            if choices := _listed(schema, name):
                options = [option for option in choices if option != {"type": "null"}]
                return self.value(options[0], depth - 1) if options else None
        return self._of_type(schema, depth)

    def _of_type(self, schema: dict[str, Any], depth: int) -> Any:
        match self._type(schema):
            case "object":
                properties = schema.get("properties")
                named = properties.items() if isinstance(properties, dict) else ()
                return {name: self.value(each, depth - 1) for name, each in named}
            case "array":
                count = max(1, _limit(schema, "minItems", 1))
                return [self.value(schema.get("items", {"type": "string"}), depth - 1) for _ in range(count)]
            case "string":
                return self._string(schema)
            case "integer" | "number" as kind:
                number = self._number(schema)
                return int(number) if kind == "integer" else number
            case "boolean":
                return True
            case _:
                return None

    @staticmethod
    def _type(schema: dict[str, Any]) -> str | None:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        if kind is None and "properties" in schema:
            return "object"
        return kind if isinstance(kind, str) else None

    def _resolved(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """The schema with its local reference and its parts put together."""
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#") and depth > 0:
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            schema = {**self._resolved(self._target(reference), depth - 1), **rest}
        parts = schema.get("allOf")
        if isinstance(parts, list) and depth > 0:
            rest = {name: value for name, value in schema.items() if name != "allOf"}
            for part in parts:
                rest = {**self._resolved(part if isinstance(part, dict) else {}, depth - 1), **rest}
            schema = rest
        return schema

    def _target(self, reference: str) -> dict[str, Any]:
        target: Any = self._root
        for step in filter(None, reference[1:].split("/")):
            target = target.get(step) if isinstance(target, dict) else None
        return target if isinstance(target, dict) else {}

    def _string(self, schema: dict[str, Any]) -> str:
        kind = schema.get("format")
        if isinstance(kind, str) and kind in _STRING_FORMATS:
            return _STRING_FORMATS[kind]
        words = self._words.ljust(_limit(schema, "minLength", 0), ".")
        return words[: _limit(schema, "maxLength", len(words))]

    def _number(self, schema: dict[str, Any]) -> float:
        """The next number that was said, an integer where it is whole, within the limits of the schema."""
        found = next(self._numbers, None)
        number: float = 1 if found is None else float(found) if "." in found else int(found)
        least, most = schema.get("minimum"), schema.get("maximum")
        if _is_number(least):
            number = least if found is None else max(number, least)
        return min(number, most) if _is_number(most) else number


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _listed(schema: dict[str, Any], name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _limit(schema: dict[str, Any], name: str, default: int) -> int:
    """A length that a schema asks for, as far as it is sensible."""
    value = schema.get(name)
    sensible = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_LENGTH
    return value if sensible and value is not None else default
