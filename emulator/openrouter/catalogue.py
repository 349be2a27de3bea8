"""The models on offer: what they can do, what they cost, who serves them, and which names lead to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from emulator.openrouter.pricing import Price, is_variable, read_price

CHAT_PARAMETERS: Final = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "max_tokens",
    "seed",
    "stop",
    "response_format",
    "structured_outputs",
)
TOOL_PARAMETERS: Final = (*CHAT_PARAMETERS, "tools", "tool_choice", "parallel_tool_calls")
REASONING_PARAMETERS: Final = (*TOOL_PARAMETERS, "reasoning", "include_reasoning", "reasoning_effort")

# Variants that choose a route or a habit of the same model; `:free` is a model of its own.
ROUTE_VARIANTS: Final = frozenset({"nitro", "floor", "online", "thinking", "exacto", "extended"})
# Routing prefers these for `openrouter/auto`.
AUTO_TARGET: Final = "openai/gpt-4o-mini"


@dataclass(frozen=True)
class Reasoning:
    """How a model thinks: `format` is the one of its reasoning_details, `style` which kinds of them it sends."""

    format: str | None
    style: str
    mandatory: bool = False
    default_enabled: bool = False

    def public(self) -> dict[str, Any]:
        return {
            "mandatory": self.mandatory,
            "default_enabled": self.default_enabled,
            "default_effort": "medium" if self.default_enabled else None,
            "supported_efforts": ["high", "medium", "low", "minimal"],
            "supports_max_tokens": self.style == "text",
        }


@dataclass(frozen=True)
class Model:
    """One model. `pricing` is published as it stands; `price` is the same in integers.

    `image_tokens` are those of an image it draws, `image_input_tokens` those of one it is shown and of each tile of it.
    """

    id: str
    canonical_slug: str
    name: str
    created: int
    description: str
    context_length: int
    max_output: int
    pricing: dict[str, Any]
    providers: tuple[str, ...]
    tokenizer: str = "Other"
    inputs: tuple[str, ...] = ("text",)
    outputs: tuple[str, ...] = ("text",)
    parameters: tuple[str, ...] = TOOL_PARAMETERS
    reasoning: Reasoning | None = None
    aliases: tuple[str, ...] = ()
    hugging_face_id: str | None = None
    knowledge_cutoff: str | None = None
    is_moderated: bool = False
    image_tokens: int = 0
    image_input_tokens: tuple[int, int] | None = None
    streams_images: bool = False
    dimensions: int = 0
    chunk_delay_ms: int = 0
    routes_to: str | None = None
    default_parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def author(self) -> str:
        return self.id.partition("/")[0]

    @property
    def is_free(self) -> bool:
        return not is_variable(self.pricing) and not any(
            (self.price.prompt, self.price.completion, self.price.request, self.price.image_output)
        )

    @cached_property
    def price(self) -> Price:
        return read_price(self.pricing)

    @cached_property
    def public(self) -> dict[str, Any]:
        """The model as GET /models describes it."""
        described: dict[str, Any] = {
            "id": self.id,
            "canonical_slug": self.canonical_slug,
            "hugging_face_id": self.hugging_face_id,
            "name": self.name,
            "created": self.created,
            "description": self.description,
            "context_length": self.context_length,
            "architecture": self.architecture,
            "pricing": self.pricing,
            "top_provider": {
                "context_length": self.context_length,
                "max_completion_tokens": self.max_output or None,
                "is_moderated": self.is_moderated,
            },
            "per_request_limits": None,
            "supported_parameters": list(self.parameters),
            "default_parameters": self.default_parameters or None,
            "supported_voices": None,
            "expiration_date": None,
            "knowledge_cutoff": self.knowledge_cutoff,
            "links": {"details": f"/api/v1/models/{self.canonical_slug}/endpoints"},
        }
        return described | ({"reasoning": self.reasoning.public()} if self.reasoning else {})

    @property
    def architecture(self) -> dict[str, Any]:
        return {
            "modality": f"{'+'.join(self.inputs)}->{'+'.join(self.outputs)}",
            "input_modalities": list(self.inputs),
            "output_modalities": list(self.outputs),
            "tokenizer": self.tokenizer,
            "instruct_type": None,
        }

    def endpoints(self) -> dict[str, Any]:
        """The model as GET /models/{author}/{slug}/endpoints describes it."""
        return {
            "id": self.id,
            "name": self.name,
            "created": self.created,
            "description": self.description,
            "architecture": self.architecture,
            "endpoints": [self._endpoint(provider) for provider in self.providers],
        }

    def _endpoint(self, provider: str) -> dict[str, Any]:
        return {
            "name": f"{provider} | {self.id}",
            "model_id": self.id,
            "model_name": self.name,
            "context_length": self.context_length,
            "pricing": {"request": "0", "image": "0", "discount": 0} | self.pricing,
            "provider_name": provider,
            "tag": provider_slug(provider),
            "quantization": "unknown",
            "max_completion_tokens": self.max_output or None,
            "max_prompt_tokens": None,
            "supported_parameters": list(self.parameters),
            "status": 0,
            "uptime_last_30m": 100,
            "supports_implicit_caching": False,
        }


def provider_slug(name: str) -> str:
    return name.lower().replace(" ", "-")


_CLAUDE = Reasoning("anthropic-claude-v1", "text")
_CLAUDE_INPUTS = ("text", "image", "file")
_GEMINI = Reasoning("google-gemini-v1", "text")
_OPENAI = Reasoning("openai-responses-v1", "summary", mandatory=True, default_enabled=True)
_CODEX = Reasoning("openai-responses-v1", "summary", default_enabled=True)

MODELS: Final[tuple[Model, ...]] = (
    Model(
        id="openai/gpt-4o-mini",
        canonical_slug="openai/gpt-4o-mini-2024-07-18",
        name="OpenAI: GPT-4o-mini",
        created=1721260800,
        description="A small multimodal model: fast, cheap, good enough for most chats.",
        context_length=128_000,
        max_output=16_384,
        pricing={
            "prompt": "0.00000015",
            "completion": "0.0000006",
            "input_cache_read": "0.000000075",
            "web_search": "0.01",
        },
        providers=("OpenAI", "Azure"),
        tokenizer="GPT",
        inputs=("text", "image", "file"),
        image_input_tokens=(2833, 5667),
        knowledge_cutoff="2023-10-31",
        is_moderated=True,
    ),
    Model(
        id="openai/gpt-4.1-mini",
        canonical_slug="openai/gpt-4.1-mini-2025-04-14",
        name="OpenAI: GPT-4.1 Mini",
        created=1744651381,
        description="A mid-sized model with a context of a million tokens.",
        context_length=1_047_576,
        max_output=32_768,
        pricing={
            "prompt": "0.0000004",
            "completion": "0.0000016",
            "input_cache_read": "0.0000001",
            "web_search": "0.01",
        },
        providers=("OpenAI", "Azure"),
        tokenizer="GPT",
        inputs=("image", "text", "file"),
        knowledge_cutoff="2024-06-30",
    ),
    Model(
        id="openai/gpt-5-mini",
        canonical_slug="openai/gpt-5-mini-2025-08-07",
        name="OpenAI: GPT-5 Mini",
        created=1754587407,
        description="A compact reasoning model for well-defined tasks.",
        context_length=400_000,
        max_output=128_000,
        pricing={
            "prompt": "0.00000025",
            "completion": "0.000002",
            "input_cache_read": "0.000000025",
            "web_search": "0.01",
        },
        providers=("OpenAI", "Azure"),
        tokenizer="GPT",
        inputs=("text", "image", "file"),
        parameters=REASONING_PARAMETERS,
        reasoning=_OPENAI,
        knowledge_cutoff="2024-05-31",
    ),
    Model(
        id="openai/o3",
        canonical_slug="openai/o3-2025-04-16",
        name="OpenAI: o3",
        created=1744823457,
        description="A reasoning model for mathematics, science and code.",
        context_length=200_000,
        max_output=100_000,
        pricing={"prompt": "0.000002", "completion": "0.000008", "input_cache_read": "0.0000005", "web_search": "0.01"},
        providers=("OpenAI",),
        tokenizer="GPT",
        inputs=("image", "text", "file"),
        parameters=REASONING_PARAMETERS,
        reasoning=_OPENAI,
        knowledge_cutoff="2024-06-30",
    ),
    Model(
        id="openai/gpt-5.1-codex-mini",
        canonical_slug="openai/gpt-5.1-codex-mini-20251113",
        name="OpenAI: GPT-5.1-Codex-Mini",
        created=1763057820,
        description="A small model for work on code.",
        context_length=400_000,
        max_output=100_000,
        pricing={"prompt": "0.00000025", "completion": "0.000002", "input_cache_read": "0.000000025"},
        providers=("OpenAI",),
        tokenizer="GPT",
        inputs=("image", "text"),
        parameters=REASONING_PARAMETERS,
        reasoning=_CODEX,
    ),
    Model(
        id="anthropic/claude-sonnet-4.5",
        canonical_slug="anthropic/claude-4.5-sonnet-20250929",
        name="Anthropic: Claude Sonnet 4.5",
        created=1759161676,
        description="A model for agents and code; long prompts cost more.",
        context_length=1_000_000,
        max_output=64_000,
        pricing={
            "prompt": "0.000003",
            "completion": "0.000015",
            "input_cache_read": "0.0000003",
            "input_cache_write": "0.00000375",
            "web_search": "0.01",
            "overrides": [
                {
                    "min_prompt_tokens": 200_000,
                    "prompt": "0.000006",
                    "completion": "0.0000225",
                    "input_cache_read": "0.0000006",
                    "input_cache_write": "0.0000075",
                }
            ],
        },
        providers=("Anthropic", "Amazon Bedrock", "Google"),
        tokenizer="Claude",
        inputs=_CLAUDE_INPUTS,
        parameters=REASONING_PARAMETERS,
        reasoning=_CLAUDE,
        aliases=("anthropic/claude-sonnet-4-5",),
        knowledge_cutoff="2025-01-31",
        default_parameters={"temperature": 1, "top_p": 1},
    ),
    Model(
        id="anthropic/claude-sonnet-4.6",
        canonical_slug="anthropic/claude-4.6-sonnet-20260217",
        name="Anthropic: Claude Sonnet 4.6",
        created=1771342990,
        description="The successor of Claude Sonnet 4.5.",
        context_length=1_000_000,
        max_output=128_000,
        pricing={
            "prompt": "0.000003",
            "completion": "0.000015",
            "input_cache_read": "0.0000003",
            "input_cache_write": "0.00000375",
            "web_search": "0.01",
        },
        providers=("Anthropic", "Amazon Bedrock", "Google"),
        tokenizer="Claude",
        inputs=_CLAUDE_INPUTS,
        parameters=REASONING_PARAMETERS,
        reasoning=_CLAUDE,
        aliases=("anthropic/claude-sonnet-4-6",),
    ),
    Model(
        id="anthropic/claude-3.7-sonnet",
        canonical_slug="anthropic/claude-3-7-sonnet-20250219",
        name="Anthropic: Claude 3.7 Sonnet",
        created=1740422110,
        description="A model that can be told to think first (`:thinking`).",
        context_length=200_000,
        max_output=64_000,
        pricing={
            "prompt": "0.000003",
            "completion": "0.000015",
            "input_cache_read": "0.0000003",
            "input_cache_write": "0.00000375",
        },
        providers=("Anthropic", "Google"),
        tokenizer="Claude",
        inputs=_CLAUDE_INPUTS,
        parameters=REASONING_PARAMETERS,
        reasoning=_CLAUDE,
    ),
    Model(
        id="google/gemini-2.5-flash",
        canonical_slug="google/gemini-2.5-flash-20250617",
        name="Google: Gemini 2.5 Flash",
        created=1750172488,
        description="A quick multimodal model with a long context.",
        context_length=1_048_576,
        max_output=65_535,
        pricing={"prompt": "0.0000003", "completion": "0.0000025", "input_cache_read": "0.00000003"},
        providers=("Google", "Google AI Studio"),
        tokenizer="Gemini",
        inputs=("file", "image", "text", "audio", "video"),
        parameters=REASONING_PARAMETERS,
        reasoning=_GEMINI,
    ),
    Model(
        id="google/gemini-2.5-pro",
        canonical_slug="google/gemini-2.5-pro-20250617",
        name="Google: Gemini 2.5 Pro",
        created=1750169544,
        description="A reasoning model whose price has two tiers.",
        context_length=1_048_576,
        max_output=65_536,
        pricing={
            "prompt": "0.00000125",
            "completion": "0.00001",
            "input_cache_read": "0.000000125",
            "overrides": [
                {
                    "min_prompt_tokens": 200_000,
                    "prompt": "0.0000025",
                    "completion": "0.000015",
                    "input_cache_read": "0.00000025",
                }
            ],
        },
        providers=("Google", "Google AI Studio"),
        tokenizer="Gemini",
        inputs=("text", "image", "file", "audio", "video"),
        parameters=REASONING_PARAMETERS,
        reasoning=Reasoning("google-gemini-v1", "text", mandatory=True, default_enabled=True),
    ),
    Model(
        id="google/gemini-3.6-flash",
        canonical_slug="google/gemini-3.6-flash-20260721",
        name="Google: Gemini 3.6 Flash",
        created=1784635200,
        description="The newest of the quick Gemini models.",
        context_length=1_048_576,
        max_output=65_536,
        pricing={"prompt": "0.0000015", "completion": "0.0000075", "input_cache_read": "0.00000015"},
        providers=("Google AI Studio", "Google"),
        tokenizer="Gemini",
        inputs=("text", "image", "file", "audio", "video"),
        parameters=REASONING_PARAMETERS,
        reasoning=_GEMINI,
    ),
    Model(
        id="deepseek/deepseek-chat",
        canonical_slug="deepseek/deepseek-chat-v3",
        name="DeepSeek: DeepSeek V3",
        created=1735241320,
        description="An open model whose prices need ten decimals.",
        context_length=163_840,
        max_output=163_840,
        pricing={"prompt": "0.0000002574", "completion": "0.0000010287"},
        providers=("DeepInfra", "Novita"),
        tokenizer="DeepSeek",
        hugging_face_id="deepseek-ai/DeepSeek-V3",
    ),
    Model(
        id="x-ai/grok-4",
        canonical_slug="x-ai/grok-4-07-09",
        name="xAI: Grok 4",
        created=1752087689,
        description="A reasoning model whose thoughts are encrypted.",
        context_length=256_000,
        max_output=256_000,
        pricing={"prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.00000075"},
        providers=("xAI",),
        tokenizer="Grok",
        inputs=("image", "text"),
        parameters=REASONING_PARAMETERS,
        reasoning=Reasoning("xai-responses-v1", "encrypted", mandatory=True, default_enabled=True),
    ),
    Model(
        id="mistralai/mistral-small",
        canonical_slug="mistralai/mistral-small-24-09",
        name="Mistral: Mistral Small",
        created=1704844800,
        description="A small model that calls tools well.",
        context_length=32_768,
        max_output=32_768,
        pricing={"prompt": "0.0000002", "completion": "0.0000006"},
        providers=("Mistral",),
        tokenizer="Mistral",
    ),
    Model(
        id="z-ai/glm-4.6",
        canonical_slug="z-ai/glm-4.6-20250930",
        name="Z.AI: GLM 4.6",
        created=1759235576,
        description="An open model for agents.",
        context_length=202_752,
        max_output=202_752,
        pricing={"prompt": "0.0000006", "completion": "0.0000022", "input_cache_read": "0.00000011"},
        providers=("Z.AI", "Novita"),
        parameters=REASONING_PARAMETERS,
        reasoning=Reasoning(None, "text"),
        hugging_face_id="zai-org/GLM-4.6",
    ),
    Model(
        id="minimax/minimax-m2:free",
        canonical_slug="minimax/minimax-m2",
        name="MiniMax: MiniMax M2 (free)",
        created=1761252093,
        description="A model that costs nothing and thinks aloud.",
        context_length=204_800,
        max_output=131_072,
        pricing={"prompt": "0", "completion": "0"},
        providers=("Minimax",),
        parameters=REASONING_PARAMETERS,
        reasoning=Reasoning(None, "text", mandatory=True, default_enabled=True),
    ),
    Model(
        id="google/gemini-2.0-flash-exp:free",
        canonical_slug="google/gemini-2.0-flash-exp",
        name="Google: Gemini 2.0 Flash Experimental (free)",
        created=1733937523,
        description="A free model, with the limits of free models.",
        context_length=1_048_576,
        max_output=8_192,
        pricing={"prompt": "0", "completion": "0"},
        providers=("Google AI Studio",),
        tokenizer="Gemini",
        inputs=("text", "image"),
    ),
    Model(
        id="meta-llama/llama-3.2-3b-instruct",
        canonical_slug="meta-llama/llama-3.2-3b-instruct",
        name="Meta: Llama 3.2 3B Instruct",
        created=1727222400,
        description="A tiny model without tools and with a short context.",
        context_length=8_192,
        max_output=4_096,
        pricing={"prompt": "0.00000002", "completion": "0.00000002"},
        providers=("DeepInfra", "Cloudflare"),
        tokenizer="Llama3",
        parameters=CHAT_PARAMETERS,
        hugging_face_id="meta-llama/Llama-3.2-3B-Instruct",
    ),
    Model(
        id="openrouter/auto",
        canonical_slug="openrouter/auto",
        name="Auto Router",
        created=1699401600,
        description="Chooses a model for the prompt. Its price is that of the model chosen.",
        context_length=2_000_000,
        max_output=0,
        pricing={"prompt": "-1", "completion": "-1"},
        providers=("OpenRouter",),
        tokenizer="Router",
        inputs=("text", "image", "audio", "file", "video"),
        parameters=REASONING_PARAMETERS,
        routes_to=AUTO_TARGET,
    ),
    Model(
        id="google/gemini-2.5-flash-image",
        canonical_slug="google/gemini-2.5-flash-image",
        name="Google: Gemini 2.5 Flash Image (Nano Banana)",
        created=1759870431,
        description="Draws and edits images in a conversation. Every image is 1290 tokens.",
        context_length=32_768,
        max_output=32_768,
        pricing={"prompt": "0.0000003", "completion": "0.0000025", "image_output": "0.00003"},
        providers=("Google", "Google AI Studio"),
        tokenizer="Gemini",
        inputs=("image", "text"),
        outputs=("image", "text"),
        parameters=CHAT_PARAMETERS,
        aliases=("google/gemini-2.5-flash-image-preview",),
        image_tokens=1290,
    ),
    Model(
        id="openai/gpt-image-1",
        canonical_slug="openai/gpt-image-1",
        name="OpenAI: GPT Image 1",
        created=1745366400,
        description="Draws images and shows them while they become sharper.",
        context_length=32_000,
        max_output=32_000,
        pricing={"prompt": "0.000005", "completion": "0.00004", "image_output": "0.00004"},
        providers=("OpenAI",),
        tokenizer="GPT",
        inputs=("text", "image"),
        outputs=("image",),
        parameters=("seed",),
        image_tokens=1056,
        streams_images=True,
    ),
    Model(
        id="black-forest-labs/flux.2-pro",
        canonical_slug="black-forest-labs/flux.2-pro",
        name="Black Forest Labs: FLUX.2 Pro",
        created=1764030274,
        description="Draws images at four cents each.",
        context_length=46_864,
        max_output=46_864,
        pricing={"prompt": "0", "completion": "0", "image_output": "0.00001"},
        providers=("Black Forest Labs",),
        tokenizer="Media",
        inputs=("text", "image"),
        outputs=("image",),
        parameters=("seed",),
        image_tokens=4000,
    ),
    Model(
        id="openai/text-embedding-3-small",
        canonical_slug="openai/text-embedding-3-small",
        name="OpenAI: Text Embedding 3 Small",
        created=1761862866,
        description="Embeddings of 1536 dimensions, or fewer when asked.",
        context_length=8_192,
        max_output=0,
        pricing={"prompt": "0.00000002", "completion": "0"},
        providers=("OpenAI",),
        tokenizer="GPT",
        outputs=("embeddings",),
        parameters=(),
        dimensions=1536,
    ),
    Model(
        id="openai/text-embedding-3-large",
        canonical_slug="openai/text-embedding-3-large",
        name="OpenAI: Text Embedding 3 Large",
        created=1761862866,
        description="Embeddings of 3072 dimensions, or fewer when asked.",
        context_length=8_192,
        max_output=0,
        pricing={"prompt": "0.00000013", "completion": "0"},
        providers=("OpenAI",),
        tokenizer="GPT",
        outputs=("embeddings",),
        parameters=(),
        dimensions=3072,
    ),
    Model(
        id="qwen/qwen3-embedding-8b",
        canonical_slug="qwen/qwen3-embedding-8b",
        name="Qwen: Qwen3 Embedding 8B",
        created=1761662922,
        description="Multilingual embeddings of 4096 dimensions, or fewer when asked.",
        context_length=32_000,
        max_output=0,
        pricing={"prompt": "0.00000001", "completion": "0"},
        providers=("Nebius", "DeepInfra"),
        tokenizer="Qwen3",
        outputs=("embeddings",),
        parameters=(),
        dimensions=4096,
        hugging_face_id="Qwen/Qwen3-Embedding-8B",
    ),
    Model(
        id="craftpilot/flat-rate",
        canonical_slug="craftpilot/flat-rate",
        name="Stand-in: Flat Rate",
        created=1788220800,
        description="Only here: every turn costs exactly a tenth of a cent, so its cost is known in advance.",
        context_length=128_000,
        max_output=16_384,
        pricing={"prompt": "0", "completion": "0", "request": "0.001"},
        providers=("CraftPilot",),
    ),
    Model(
        id="craftpilot/slow",
        canonical_slug="craftpilot/slow",
        name="Stand-in: Slow",
        created=1788220800,
        description="Only here: one token every 100 ms, to watch streams and to stop them.",
        context_length=128_000,
        max_output=16_384,
        pricing={"prompt": "0.0000001", "completion": "0.0000004"},
        providers=("CraftPilot",),
        chunk_delay_ms=100,
    ),
)

_BY_NAME: Final = {name: model for model in MODELS for name in (model.canonical_slug, *model.aliases, model.id)}
PROVIDERS: Final = tuple(sorted({provider for model in MODELS for provider in model.providers}))


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name stands for. `variant` is the suffix after the colon that changed the route, "" without one."""

    model: Model
    variant: str


def find(slug: str) -> Resolved | None:
    """By id, alias or dated slug, with or without a route variant."""
    if model := _BY_NAME.get(slug):
        return Resolved(model, "")
    base, _, variant = slug.rpartition(":")
    if variant in ROUTE_VARIANTS and (model := _BY_NAME.get(base)):
        return Resolved(model, variant)
    return None


def provider_public(name: str) -> dict[str, Any]:
    slug = provider_slug(name)
    return {
        "name": name,
        "slug": slug,
        "privacy_policy_url": f"https://{slug}.example/privacy",
        "terms_of_service_url": f"https://{slug}.example/terms",
        "status_page_url": None,
        "headquarters": "US",
        "datacenters": ["US"],
    }
