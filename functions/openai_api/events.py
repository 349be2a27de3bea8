"""What this API tells the rest of the system beside what turns tell."""

from typing import ClassVar

from shared.events import EventPayload, Topic


class EmbeddingsCreated(EventPayload):
    """Texts were embedded and paid for."""

    type: ClassVar[str] = "embeddings.created"
    topic: ClassVar[Topic] = "chat-events"

    generation_id: str
    model: str
    inputs: int
    prompt_tokens: int
    cost_pico_usd: int
    charged_micro: int
    duration_ms: int
