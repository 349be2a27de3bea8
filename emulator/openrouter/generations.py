"""What was generated: one record each, settled once, and shown by /generation after its delay."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter.money import usd_number
from emulator.openrouter.pricing import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.openrouter.accounts import Account

KEPT: Final = 20_000
_ALPHABET: Final = ascii_letters + digits
_random: Final = Random()  # noqa: S311 - ids only have to differ


def new_id(created: float) -> str:
    """`gen-<unix seconds>-<20 characters>`, as the real ones."""
    return f"gen-{int(created)}-{''.join(_random.choices(_ALPHABET, k=20))}"


@dataclass(slots=True)
class Generation:
    """One generation. Costs are 1e-12 USD, times seconds since the epoch, durations milliseconds."""

    id: str
    account: Account
    created: float
    model: str
    provider: str
    api_type: str
    streamed: bool
    headers: dict[str, str] = field(default_factory=dict)
    session_id: str | None = None
    user: str | None = None
    router: str | None = None
    visible_after_ms: int = 500
    tokens: Tokens = field(default_factory=lambda: Tokens(0))
    cost: int = 0
    upstream_cost: int = 0
    is_byok: bool = False
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    cancelled: bool = False
    settled: bool = False
    visible_at: float = 0.0
    first_token_ms: float = 0.0
    duration_ms: float = 0.0

    def describe(self) -> dict[str, Any]:
        """The data of GET /generation."""
        tokens = self.tokens
        return {
            "id": self.id,
            "upstream_id": f"chatcmpl-{self.id[-20:]}",
            "total_cost": usd_number(self.cost),
            "usage": usd_number(self.cost),
            "upstream_inference_cost": usd_number(self.upstream_cost),
            "cache_discount": None,
            "created_at": datetime.fromtimestamp(self.created, UTC).isoformat().replace("+00:00", "Z"),
            "model": self.model,
            "provider_name": self.provider,
            "app_id": None,
            "streamed": self.streamed,
            "cancelled": self.cancelled,
            "latency": round(self.first_token_ms),
            "generation_time": round(self.duration_ms),
            "moderation_latency": None,
            "finish_reason": self.finish_reason,
            "native_finish_reason": self.native_finish_reason,
            "tokens_prompt": tokens.prompt,
            "tokens_completion": tokens.completion,
            "native_tokens_prompt": tokens.prompt,
            "native_tokens_completion": tokens.completion,
            "native_tokens_reasoning": tokens.reasoning,
            "native_tokens_cached": tokens.cached,
            "native_tokens_completion_images": tokens.image or None,
            "num_media_prompt": None,
            "num_media_completion": None,
            "num_input_audio_prompt": None,
            "num_search_results": tokens.web_searches or None,
            "num_fetches": None,
            "is_byok": self.is_byok,
            "api_type": self.api_type,
            "router": self.router,
            "provider_responses": [
                {
                    "endpoint_id": "endpoint-standin",
                    "id": f"chatcmpl-{self.id[-20:]}",
                    "is_byok": self.is_byok,
                    "latency": round(self.first_token_ms),
                    "model_permaslug": self.model,
                    "provider_name": self.provider,
                    "status": 200,
                }
            ],
            "origin": self.headers.get("http-referer", ""),
            "external_user": self.user,
            "http_referer": self.headers.get("http-referer"),
            "user_agent": self.headers.get("user-agent"),
            "session_id": self.session_id,
            "request_id": f"req-{self.id[4:]}",
            "service_tier": None,
            "data_region": "global",
            "preset_id": None,
            "response_cache_source_id": None,
            "web_search_engine": None,
            "workspace_id": None,
        }


@dataclass(slots=True)
class Generations:
    """The newest generations by id, hidden until their delay after the end has passed."""

    now: Callable[[], float]
    by_id: OrderedDict[str, Generation] = field(default_factory=OrderedDict)

    def keep(self, generation: Generation) -> None:
        self.by_id[generation.id] = generation
        while len(self.by_id) > KEPT:
            self.by_id.popitem(last=False)

    def find(self, generation_id: str) -> Generation | None:
        """None for unknown ids, for running generations, and while the delay lasts."""
        generation = self.by_id.get(generation_id)
        if generation is None or not generation.settled or self.now() < generation.visible_at:
            return None
        return generation
