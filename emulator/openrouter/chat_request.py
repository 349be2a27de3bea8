"""Reading the body of a chat completion: what is needed is checked and kept, what is unknown is ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import media, text
from emulator.openrouter.errors import ApiError, invalid_request
from emulator.openrouter.media import Media

if TYPE_CHECKING:
    from emulator.openrouter.catalogue import Model

ROLES: Final = ("system", "developer", "user", "assistant", "tool")
PART_TYPES: Final = ("text", "image_url", "input_audio", "input_video", "video_url", "file", "refusal")
MAX_STOPS: Final = 4
MEDIA_TOKENS: Final = media.MEDIA_TOKENS
# The role and the separators around a message.
MESSAGE_OVERHEAD_TOKENS: Final = 4


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    text: str
    media: tuple[Media, ...] = ()

    @property
    def media_tokens(self) -> int:
        return sum(each.tokens for each in self.media)


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion as asked for. `models` still carry their fault suffixes; `output_schema` is None for text."""

    models: tuple[str, ...]
    messages: tuple[Message, ...]
    stream: bool
    max_tokens: int | None
    seed: int | None
    stops: tuple[str, ...]
    tools: tuple[Tool, ...]
    tool_choice: str
    chosen_tool: str | None
    reasoning: bool | None
    reasoning_hidden: bool
    output_schema: dict[str, Any] | None
    modalities: tuple[str, ...]
    image_config: dict[str, Any]
    only_providers: tuple[str, ...]
    ignored_providers: tuple[str, ...]
    compress: bool
    web: bool
    pdf_engine: str | None
    session_id: str | None
    user: str | None
    text_tokens: int

    @property
    def media(self) -> tuple[Media, ...]:
        return tuple(each for message in self.messages for each in message.media)

    @property
    def prompt_tokens(self) -> int:
        """For a model without a way of its own to count images."""
        return self.text_tokens + sum(each.tokens for each in self.media)

    def prompt_tokens_for(self, model: Model) -> int:
        return self.text_tokens + sum(each.tokens_for(model) for each in self.media)

    @property
    def asked(self) -> str:
        """The text of the last user message, "" without one."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    @property
    def instructions(self) -> str:
        """What the operator of the conversation says: the texts of its system messages."""
        return "\n".join(message.text for message in self.messages if message.role in ("system", "developer"))


def read(body: Any) -> ChatRequest:
    """Raises ApiError 400."""
    if not isinstance(body, dict):
        raise invalid_request()
    choice, chosen_tool = _tool_choice(body.get("tool_choice"))
    reasoning, hidden = _reasoning(body)
    provider = _object(body, "provider")
    messages = _messages(body)
    return ChatRequest(
        models=_models(body),
        messages=messages,
        stream=_boolean(body, "stream"),
        max_tokens=_positive(body, "max_completion_tokens") or _positive(body, "max_tokens"),
        seed=_integer(body, "seed"),
        stops=_stops(body.get("stop")),
        tools=_tools(body.get("tools")),
        tool_choice=choice,
        chosen_tool=chosen_tool,
        reasoning=reasoning,
        reasoning_hidden=hidden,
        output_schema=_output_schema(_object(body, "response_format")),
        modalities=_strings(body, "modalities"),
        image_config=_object(body, "image_config"),
        only_providers=_strings(provider, "only"),
        ignored_providers=_strings(provider, "ignore"),
        compress="middle-out" in _strings(body, "transforms") or _has_plugin(body, "context-compression"),
        web=_has_plugin(body, "web"),
        pdf_engine=media.read_engine(body.get("plugins")),
        session_id=_string(body, "session_id"),
        user=_string(body, "user"),
        text_tokens=sum(text.count_tokens(message.text) + MESSAGE_OVERHEAD_TOKENS for message in messages),
    )


def _models(body: dict[str, Any]) -> tuple[str, ...]:
    model = _string(body, "model")
    names = ((model,) if model else ()) + _strings(body, "models")
    if not names:
        raise invalid_request("No models provided")
    return tuple(text.clean(name) for name in names)


def _messages(body: dict[str, Any]) -> tuple[Message, ...]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid_request('Input required: specify "prompt" or "messages"')
    return tuple(_message(message, index) for index, message in enumerate(messages))


def _message(message: Any, index: int) -> Message:
    where = f"messages.{index}"
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise _invalid(f"{where}.role", f"expected one of {', '.join(ROLES)}")
    role, content = message["role"], message.get("content")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise _invalid(f"{where}.tool_call_id", "expected a string")
    if isinstance(content, str):
        return Message(role, text.clean(content))
    if isinstance(content, list):
        return _message_of_parts(role, content, where)
    if content is None and role == "assistant":
        return Message(role, "")
    raise _invalid(f"{where}.content", "expected a string or a list of parts")


def _message_of_parts(role: str, parts: list[Any], where: str) -> Message:
    texts: list[str] = []
    found: list[Media] = []
    for index, part in enumerate(parts):
        if not isinstance(part, dict) or part.get("type") not in PART_TYPES:
            raise _invalid(f"{where}.content.{index}.type", f"expected one of {', '.join(PART_TYPES)}")
        if part["type"] == "text":
            if not isinstance(part.get("text"), str):
                raise _invalid(f"{where}.content.{index}.text", "expected a string")
            texts.append(text.clean(part["text"]))
        else:
            found.append(media.read(part, f"{where}.content.{index}"))
    return Message(role, "\n".join(texts), tuple(found))


def _tools(tools: Any) -> tuple[Tool, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise _invalid("tools", "expected a list")
    read_tools = []
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise _invalid(f"tools.{index}.type", "expected a string")
        if tool["type"] != "function":
            continue  # the server's own tools answer nothing here
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _invalid(f"tools.{index}.function.name", "expected a string")
        read_tools.append(
            Tool(function["name"], str(function.get("description") or ""), _object(function, "parameters"))
        )
    return tuple(read_tools)


def _tool_choice(choice: Any) -> tuple[str, str | None]:
    if choice is None or choice in ("none", "auto", "required"):
        return choice or "auto", None
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return "required", function["name"]
    if isinstance(choice, dict) and isinstance(choice.get("type"), str):
        return "auto", None
    raise _invalid("tool_choice", "expected none, auto, required or a function")


def _reasoning(body: dict[str, Any]) -> tuple[bool | None, bool]:
    """Whether reasoning was asked for (None: not said), and whether it is to be hidden."""
    asked = _object(body, "reasoning")
    effort = asked.get("effort") or body.get("reasoning_effort")
    hidden = asked.get("exclude") is True or body.get("include_reasoning") is False
    if effort is not None:
        return effort != "none", hidden
    if isinstance(asked.get("enabled"), bool):
        return asked["enabled"], hidden
    if asked.get("max_tokens"):
        return True, hidden
    return (True if body.get("include_reasoning") is True else None), hidden


def _output_schema(response_format: dict[str, Any]) -> dict[str, Any] | None:
    match response_format.get("type"):
        case None | "text" | "grammar" | "python":
            return None
        case "json_object":
            return {"type": "object", "properties": {"answer": {"type": "string"}}}
        case "json_schema":
            schema = _object(response_format, "json_schema")
            if not isinstance(schema.get("name"), str):
                raise _invalid("response_format.json_schema.name", "expected a string")
            return _object(schema, "schema")
    raise _invalid("response_format.type", "expected text, json_object, json_schema, grammar or python")


def _stops(stop: Any) -> tuple[str, ...]:
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,)
    if isinstance(stop, list) and len(stop) <= MAX_STOPS and all(isinstance(each, str) for each in stop):
        return tuple(stop)
    raise _invalid("stop", f"expected a string or at most {MAX_STOPS} of them")


def _has_plugin(body: dict[str, Any], plugin_id: str) -> bool:
    plugins = body.get("plugins")
    return isinstance(plugins, list) and any(
        isinstance(plugin, dict) and plugin.get("id") == plugin_id and plugin.get("enabled") is not False
        for plugin in plugins
    )


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise _invalid(name, "expected an object")


def _strings(body: dict[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name)
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise _invalid(name, "expected a list of strings")


def _string(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _invalid(name, "expected a string")


def _boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise _invalid(name, "expected a boolean")


def _integer(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise _invalid(name, "expected an integer")


def _positive(body: dict[str, Any], name: str) -> int | None:
    value = _integer(body, name)
    if value is not None and value < 1:
        raise _invalid(name, "expected at least 1")
    return value


def _invalid(field: str, problem: str) -> ApiError:
    return invalid_request(f"Invalid request parameters: {field}: {problem}", parameter=field)
