"""Bodies and answers as OpenAI's API has them.

https://platform.openai.com/docs/api-reference/chat, /embeddings and /models. What we cannot honour is refused by its
name; a null means the same as a field that is not there. Answers are rendered by hand (`rendering`); their classes say
what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from shared.http.schema import Body, Schema

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_MESSAGES = 2000
MAX_PARTS = 256
MAX_TOOLS = 128
MAX_INPUTS = 2048
MAX_TOKEN_ID = 2**31

UNSUPPORTED_PARAMETER, UNSUPPORTED_VALUE = "unsupported_parameter", "unsupported_value"


def _refuse(**why: str) -> Any:
    """Refuses these fields of OpenAI's unless they are null."""

    def refuse(value: Any, info: ValidationInfo) -> None:
        if value is not None:
            reason = why[info.field_name or ""]
            raise PydanticCustomError(UNSUPPORTED_PARAMETER, "is not supported: {why}", {"why": reason})

    return field_validator(*why)(refuse)


def _only(allowed: tuple[Any, ...], why: str) -> AfterValidator:
    """Takes these values, which change nothing, and refuses others with the reason."""

    def check(value: Any) -> Any:
        if value is not None and value not in allowed:
            raise PydanticCustomError(UNSUPPORTED_VALUE, "{why}", {"why": why})
        return value

    return AfterValidator(check)


def _kind_of(field: str, known: Mapping[str, str]) -> Callable[[Any], str]:
    """Tells the members of a union by one of their fields; what it does not know goes to the tag `~unknown`."""

    def kind(value: Any) -> str:
        named = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
        return known.get(named, "~unknown") if isinstance(named, str) else "~unknown"

    return kind


def _text_or_list(value: Any) -> str:
    return "~parts" if isinstance(value, list) else "~text"


def _text_or_object(value: Any) -> str:
    return "~text" if isinstance(value, str) else "~object"


Name = Annotated[str, StringConstraints(pattern=r"^[^\s<|\\/>]{1,64}$")]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


# Messages


class OpenAITextPart(Body):
    type: Literal["text"]
    text: str


class OpenAIRefusalPart(Body):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(Body):
    url: Annotated[str, StringConstraints(pattern=r"^(https?://|data:image/)")] = Field(
        description="An address, or the image itself as data:image/…;base64,…"
    )
    detail: Literal["auto", "low", "high", "original"] | None = None


class OpenAIImagePart(Body):
    type: Literal["image_url"]
    image_url: ImageUrl


class FileData(Body):
    file_data: Annotated[str, StringConstraints(pattern=r"^data:[\w.+/-]+;base64,")] = Field(
        description="The file itself: data:application/pdf;base64,…"
    )
    filename: Annotated[str, StringConstraints(max_length=255)] | None = None
    file_id: Any = None

    _refused = _refuse(file_id="send the file itself as file_data")


class OpenAIFilePart(Body):
    type: Literal["file"]
    file: FileData


# What no union knows: it says which kinds there are.


class _UnknownTextPart(Schema):
    type: Literal["text"]


class _UnknownUserPart(Schema):
    type: Literal["text", "image_url", "file"]


class _UnknownAssistantPart(Schema):
    type: Literal["text", "refusal"]


_TextPart = Annotated[
    Annotated[OpenAITextPart, Tag("~text")] | Annotated[SkipJsonSchema[_UnknownTextPart], Tag("~unknown")],
    Discriminator(_kind_of("type", {"text": "~text"})),
]
_UserPart = Annotated[
    Annotated[OpenAITextPart, Tag("~text")]
    | Annotated[OpenAIImagePart, Tag("~image")]
    | Annotated[OpenAIFilePart, Tag("~file")]
    | Annotated[SkipJsonSchema[_UnknownUserPart], Tag("~unknown")],
    Discriminator(_kind_of("type", {"text": "~text", "image_url": "~image", "file": "~file"})),
]
_AssistantPart = Annotated[
    Annotated[OpenAITextPart, Tag("~text")]
    | Annotated[OpenAIRefusalPart, Tag("~refusal")]
    | Annotated[SkipJsonSchema[_UnknownAssistantPart], Tag("~unknown")],
    Discriminator(_kind_of("type", {"text": "~text", "refusal": "~refusal"})),
]
_Bounds = Field(min_length=1, max_length=MAX_PARTS)
TextContent = Annotated[
    Annotated[str, Tag("~text")] | Annotated[list[_TextPart], _Bounds, Tag("~parts")], Discriminator(_text_or_list)
]
UserContent = Annotated[
    Annotated[str, Tag("~text")] | Annotated[list[_UserPart], _Bounds, Tag("~parts")], Discriminator(_text_or_list)
]
AssistantContent = Annotated[
    Annotated[str, Tag("~text")] | Annotated[list[_AssistantPart], _Bounds, Tag("~parts")], Discriminator(_text_or_list)
]


class SystemMessage(Body):
    role: Literal["system", "developer"]
    content: TextContent
    name: Name | None = None


class UserMessage(Body):
    role: Literal["user"]
    content: UserContent
    name: Name | None = None


class CalledFunction(Body):
    name: FunctionName
    arguments: str


class OpenAIToolCall(Body):
    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = Field(default=None, description="Streamed calls have one; it says nothing here.")


class AssistantMessage(Body):
    """What a model said, as our answers gave it: all of their fields may come back."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: Name | None = None
    tool_calls: Annotated[list[OpenAIToolCall], Field(max_length=MAX_TOOLS)] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = Field(default=None, description="Another name of `reasoning`.")
    reasoning_details: Annotated[list[dict[str, Any]], Field(max_length=MAX_PARTS)] | None = Field(
        default=None, description="What models want back unchanged together with the results of tools."
    )
    annotations: list[dict[str, Any]] | None = Field(default=None, description="Not sent to the model.")
    audio: Any = None
    function_call: Any = None

    _refused = _refuse(audio="no model here speaks", function_call="use tool_calls")


class ToolMessage(Body):
    role: Literal["tool"]
    tool_call_id: CallId
    content: TextContent
    name: str | None = None


class _UnknownMessage(Schema):
    role: Literal["system", "developer", "user", "assistant", "tool"]


Message = Annotated[
    Annotated[SystemMessage, Tag("~system")]
    | Annotated[UserMessage, Tag("~user")]
    | Annotated[AssistantMessage, Tag("~assistant")]
    | Annotated[ToolMessage, Tag("~tool")]
    | Annotated[SkipJsonSchema[_UnknownMessage], Tag("~unknown")],
    Discriminator(
        _kind_of(
            "role",
            {"system": "~system", "developer": "~system", "user": "~user", "assistant": "~assistant", "tool": "~tool"},
        )
    ),
]


# Parameters


class FunctionDefinition(Body):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = Field(default=None, description="A JSON schema.")
    strict: bool | None = None


class ToolDefinition(Body):
    type: Literal["function"]
    function: FunctionDefinition


class ChosenFunction(Body):
    name: FunctionName


class ChosenTool(Body):
    type: Literal["function"]
    function: ChosenFunction


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("~text")] | Annotated[ChosenTool, Tag("~object")],
    Discriminator(_text_or_object),
]


class JsonSchemaFormat(Body):
    name: FunctionName
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class PlainFormat(Body):
    type: Literal["text", "json_object"]


class SchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


class _UnknownFormat(Schema):
    type: Literal["text", "json_object", "json_schema"]


ResponseFormat = Annotated[
    Annotated[PlainFormat, Tag("~plain")]
    | Annotated[SchemaFormat, Tag("~schema")]
    | Annotated[SkipJsonSchema[_UnknownFormat], Tag("~unknown")],
    Discriminator(_kind_of("type", {"text": "~plain", "json_object": "~plain", "json_schema": "~schema"})),
]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class OpenAIReasoning(Body):
    """How long the model thinks; its thoughts count as tokens of the answer."""

    effort: Effort | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    enabled: bool | None = None
    exclude: bool | None = Field(default=None, description="Leave the thoughts out of the answer.")
    summary: Literal["auto", "concise", "detailed"] | None = None


Providers = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field(max_length=50)]


class ProviderChoice(Body):
    """Who may serve the model. None that costs more than our catalogue says is ever chosen."""

    order: Providers | None = None
    only: Providers | None = None
    ignore: Providers | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = Field(default=None, description="Only providers that keep nothing.")
    sort: Literal["price", "throughput", "latency"] | None = None


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, _only((False,), "chunks are not padded")] = None


class ChatCompletionRequest(Body):
    """A request for a chat completion."""

    model: ModelName
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    models: Annotated[list[ModelName], Field(max_length=8)] | None = Field(
        default=None, description="Asked in turn when `model` fails before its first word."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=100_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_a: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: (
        Annotated[
            Annotated[str, StringConstraints(min_length=1, max_length=1000), Tag("~text")]
            | Annotated[
                list[Annotated[str, StringConstraints(min_length=1, max_length=1000)]],
                Field(max_length=4),
                Tag("~parts"),
            ],
            Discriminator(_text_or_list),
        ]
        | None
    ) = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=1024),
        ]
        | None
    ) = None
    tools: Annotated[list[ToolDefinition], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    reasoning: OpenAIReasoning | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    provider: ProviderChoice | None = None
    prompt_cache_key: Annotated[str, StringConstraints(max_length=256)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = Field(default=None, description="Taken and not kept: completions are not stored.")
    user: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Taken and not passed on: the provider gets a digest of the account's id instead."
    )
    safety_identifier: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="As `user`."
    )
    # Of these parameters we take the values that change nothing.
    n: Annotated[int | None, _only((1,), "one answer per request; ask several times")] = None
    logprobs: Annotated[bool | None, _only((False,), "probabilities of tokens are not given")] = None
    top_logprobs: Annotated[int | None, _only((0,), "probabilities of tokens are not given")] = None
    modalities: Annotated[list[str] | None, _only((["text"],), "answers are text")] = None
    service_tier: Annotated[
        str | None, _only(("auto", "default"), "only auto and default: other tiers have other prices")
    ] = None
    store: Annotated[bool | None, _only((False,), "completions are not stored here")] = None
    prediction: Any = None
    web_search_options: Any = None
    plugins: Any = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None

    _refused = _refuse(
        prediction="rejected predictions would cost more than max_tokens allows",
        web_search_options="searches would cost more than the tokens",
        plugins="plugins would cost more than the tokens",
        audio="answers are text",
        functions="use tools",
        function_call="use tool_choice",
    )


class ChatCompletionUsage(Schema):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class OpenAICredits(Schema):
    """What it cost, in credits; a micro-credit is a millionth of one. Not part of OpenAI's API."""

    charged_micro: int
    credits: str
    pending: bool


class ChatCompletionMessage(Schema):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[OpenAIToolCall] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    annotations: list[dict[str, Any]] | None = None


class ChatCompletionChoice(Schema):
    index: Literal[0]
    message: ChatCompletionMessage
    logprobs: None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class ChatCompletion(Schema):
    """An answer in one piece."""

    id: str = Field(description="`chatcmpl-` and the id of the generation without its `gen_`.")
    object: Literal["chat.completion"]
    created: int
    model: str = Field(description="The model that answered.")
    system_fingerprint: None
    choices: list[ChatCompletionChoice]
    usage: ChatCompletionUsage | None = Field(description="Null while the provider has not told it.")
    credits: OpenAICredits


# Embeddings


def _kind_of_input(value: Any) -> str:
    if not isinstance(value, list):
        return "~text"
    first = value[0] if value else ""
    if isinstance(first, list):
        return "~token_lists"
    return "~tokens" if isinstance(first, int) else "~texts"


_Text = Annotated[str, StringConstraints(min_length=1)]
_Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=MAX_TOKEN_ID)]], Field(min_length=1)]
EmbeddingInput = Annotated[
    Annotated[_Text, Tag("~text")]
    | Annotated[list[_Text], Field(min_length=1, max_length=MAX_INPUTS), Tag("~texts")]
    | Annotated[_Tokens, Tag("~tokens")]
    | Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_INPUTS), Tag("~token_lists")],
    Discriminator(_kind_of_input),
]


class EmbeddingRequest(Body):
    """A request for embeddings."""

    model: ModelName
    input: EmbeddingInput
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    user: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Taken and not passed on."
    )


class EmbeddingItem(Schema):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="Numbers, or float32 in little-endian order as base64.")


class EmbeddingUsage(Schema):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Schema):
    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage
    credits: OpenAICredits


# Models


class OfferedModel(Schema):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str
    name: str
    context_length: int


class OfferedModels(Schema):
    object: Literal["list"] = "list"
    data: list[OfferedModel]
