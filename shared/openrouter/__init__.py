"""The client of OpenRouter, the provider of every model: what other modules may use of it."""

from shared.openrouter.answers import (
    AnnotationsDelta,
    Completion,
    Delta,
    Embeddings,
    GenerationRecord,
    ImagesDelta,
    ReasoningDelta,
    ReasoningDetails,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from shared.openrouter.client import ChatStream, OpenRouter
from shared.openrouter.errors import (
    CONTEXT_LENGTH_EXCEEDED,
    StreamCancelled,
    UpstreamAccountEmpty,
    UpstreamFailedMidStream,
)
from shared.openrouter.transport import Cancellation, Timeouts

__all__ = [
    "CONTEXT_LENGTH_EXCEEDED",
    "AnnotationsDelta",
    "Cancellation",
    "ChatStream",
    "Completion",
    "Delta",
    "Embeddings",
    "GenerationRecord",
    "ImagesDelta",
    "OpenRouter",
    "ReasoningDelta",
    "ReasoningDetails",
    "Started",
    "StreamCancelled",
    "TextDelta",
    "Timeouts",
    "ToolCall",
    "ToolCallDelta",
    "UpstreamAccountEmpty",
    "UpstreamFailedMidStream",
    "Usage",
]
