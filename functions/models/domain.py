"""Rules of the catalogue: what a model costs at most, who may ask it, what a user sees of its price. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

DEFAULT_ANSWER_TOKENS = 2048
DEFAULT_MODEL = "openai/gpt-4o-mini"
FOR_ANYONE = (DEFAULT_MODEL, "google/gemini-2.5-flash")
"""What answers those who name no model, unless operators decide otherwise. They come from different providers."""

PLANS = ("free", "pro", "enterprise")
"""From the smallest on: each may ask whatever those before it may. An unknown plan counts as the first."""
FREE_PLAN_USD_PER_MILLION = Decimal(5)
"""The dearest output that the free plan may ask for, unless operators decide otherwise: small models, and those that
think a little. The large ones begin above it, at 7.50 US dollars and more."""

MAX_FALLBACKS = 5
TOKENS_OF_A_THOUSAND_WORDS = 1_334
"""Four tokens for every three words: what providers say of English text. Others take more."""
IMAGE_TOKENS = 16_384
"""No model counts an image as more tokens (https://github.com/QwenLM/Qwen2-VL), but for one family:"""
_COUNTS_MORE, MOST_IMAGE_TOKENS = "openai/gpt-4o-mini", 50_000
"""2,833 and 5,667 for each of eight tiles (https://platform.openai.com/docs/guides/images-vision)."""

PICO_USD_PER_USD = 10**12
_CREDITS_PER_USD = 1_000
_EXACT = Context(prec=80)
"""More digits than any product of a price and a number of tokens has."""

_SLUG = re.compile(r"~?[A-Za-z0-9][A-Za-z0-9._:@+-]{0,99}/[A-Za-z0-9][A-Za-z0-9._:@+-]{0,99}")
_PRICE = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,2})?")
_SMALLEST_PRICE, _HIGHEST_PRICE = Decimal("1e-24"), Decimal(10_000)
_WORD = re.compile(r"[a-z][a-z0-9_]{0,49}")
_MAX_WORDS = 100
_MAX_TIERS = 16
_MAX_TOKENS = 10**9
_NAME_CHARS, _DESCRIPTION_CHARS = 200, 400


class NotUnderstood(ValueError):
    """An entry of the provider's catalogue has a shape that is not known here."""


@dataclass(frozen=True)
class Tier:
    """What a model costs, in USD per token (`request_usd`: per call), and when.

    The windows of the day are as the provider gives them; what is absent holds for every prompt and at any time.
    """

    prompt_usd: Decimal
    completion_usd: Decimal
    request_usd: Decimal
    min_prompt_tokens: int | None = None
    utc_start: float | None = None
    utc_end: float | None = None


@dataclass(frozen=True)
class Offer:
    """A model as the provider's catalogue has it. The first tier is the base price, the last fields are the highest."""

    slug: str
    name: str
    description: str | None
    canonical_slug: str | None
    """The dated name, by which answers may call themselves."""
    context_tokens: int
    max_answer_tokens: int
    input_modalities: frozenset[str]
    output_modalities: frozenset[str]
    supported_parameters: frozenset[str]
    tiers: tuple[Tier, ...]
    prompt_usd: Decimal
    completion_usd: Decimal
    """Of any token that comes out: reasoning and images are priced apart by some."""
    request_usd: Decimal
    image_usd: Decimal


@dataclass(frozen=True)
class Policy:
    """What operators decided about one model. What is None is left to the defaults and to the catalogue."""

    enabled: bool = True
    min_plan: str | None = None
    """The smallest plan that may ask it, whatever it costs."""
    markup_percent: int | None = None
    max_answer_tokens: int | None = None
    default_answer_tokens: int | None = None
    default_parameters: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Defaults:
    """What operators decided about all models, or what holds until they do."""

    default_models: Mapping[str, str] = field(default_factory=dict)
    """By plan; for the others the product's own."""
    stand_ins: tuple[str, ...] = FOR_ANYONE[1:]
    """What answers in place of the default model while that one fails, in this order."""
    markup_percent: int | None = None
    ceilings: Mapping[str, Decimal | None] = field(default_factory=lambda: {PLANS[0]: FREE_PLAN_USD_PER_MILLION})
    """By plan: the highest price of a million output tokens, in USD, up to which a model may be asked. Others: any."""

    def for_anyone(self, plan: str) -> tuple[str, ...]:
        """What answers a user of the plan who names no model: the first of them, and the others in its place."""
        return tuple(dict.fromkeys((self.default_models.get(as_plan(plan), DEFAULT_MODEL), *self.stand_ins)))


@dataclass(frozen=True)
class Model:
    """A model that may be asked, as turns need it: with its highest prices, and what operators decided about it."""

    slug: str
    name: str
    canonical_slug: str | None
    context_tokens: int
    max_answer_tokens: int
    prompt_usd: Decimal
    completion_usd: Decimal
    request_usd: Decimal
    image_usd: Decimal
    """Per image of the prompt, beside the tokens it counts as."""
    input_modalities: frozenset[str]
    supported_parameters: frozenset[str]
    markup_percent: int
    default_answer_tokens: int
    default_parameters: Mapping[str, Any]
    fallbacks: tuple[str, ...]


# What the provider says


def offer_from_upstream(entry: Mapping[str, Any]) -> Offer | None:
    """An entry of OpenRouter's `GET /models`; None when it does not chat or its cost cannot be bounded.

    A price of "-1" means variable and is never multiplied. Prices that rise with the prompt or the hour (`overrides`)
    inherit what they do not name (https://openrouter.ai/docs/client-sdks/python/components/pricingoverride). A model
    that does not say how much it reads has no highest cost either. Raises NotUnderstood.
    """
    slug = entry.get("id")
    if not isinstance(slug, str) or not is_slug(slug):
        raise NotUnderstood("its id is none")
    architecture, pricing = _mapping(entry.get("architecture")), _mapping(entry.get("pricing"))
    outputs = _words(architecture.get("output_modalities"))
    provider = entry.get("top_provider")
    provider = provider if isinstance(provider, Mapping) else {}
    context_tokens = _tokens(entry.get("context_length")) or _tokens(provider.get("context_length"))
    if "text" not in outputs or context_tokens is None:
        return None
    each = [pricing, *({**pricing, **override} for override in _overrides(pricing))]
    highest = {
        "prompt_usd": _highest(each, "prompt"),
        "completion_usd": max(_highest(each, kind) for kind in _output_kinds(outputs)),
        "request_usd": _highest(each, "request"),
        "image_usd": _highest(each, "image"),
    }
    if _varies(each, outputs):
        return None
    canonical = entry.get("canonical_slug")
    return Offer(
        slug=slug,
        name=_line(entry.get("name"), _NAME_CHARS) or slug,
        description=_line(entry.get("description"), _DESCRIPTION_CHARS),
        canonical_slug=canonical if isinstance(canonical, str) and is_slug(canonical) else None,
        context_tokens=context_tokens,
        max_answer_tokens=min(_tokens(provider.get("max_completion_tokens")) or context_tokens, context_tokens),
        input_modalities=_words(architecture.get("input_modalities")) or frozenset({"text"}),
        output_modalities=outputs,
        supported_parameters=_words(entry.get("supported_parameters")),
        tiers=tuple(_tier(prices) for prices in each),
        **highest,
    )


def is_slug(name: str) -> bool:
    """Whether it could be the name of a model: `author/name`."""
    return _SLUG.fullmatch(name) is not None


def folded(name: str) -> str:
    """Names that differ by it are different: authors write versions with dots and with dashes."""
    return name.replace(".", "-")


def other_names(offer: Offer) -> list[str]:
    """The folded names, beside its own, that lead to the model."""
    return sorted({folded(offer.slug), *([folded(offer.canonical_slug)] if offer.canonical_slug else [])})


def _output_kinds(outputs: frozenset[str]) -> list[str]:
    """Every price that a token of an answer can have."""
    return [
        "completion",
        "internal_reasoning",
        *(["image_output"] if "image" in outputs else []),
        *(["audio_output"] if "audio" in outputs else []),
    ]


def _varies(each: Sequence[Mapping[str, Any]], outputs: frozenset[str]) -> bool:
    kinds = ("prompt", "request", "image", *_output_kinds(outputs))
    return any(_price(prices, kind) < 0 for prices in each for kind in kinds)


def _highest(each: Sequence[Mapping[str, Any]], kind: str) -> Decimal:
    return max(_price(prices, kind) for prices in each)


def _tier(prices: Mapping[str, Any]) -> Tier:
    return Tier(
        prompt_usd=_price(prices, "prompt"),
        completion_usd=_price(prices, "completion"),
        request_usd=_price(prices, "request"),
        min_prompt_tokens=_tokens(prices.get("min_prompt_tokens")),
        utc_start=_number(prices.get("utc_start")),
        utc_end=_number(prices.get("utc_end")),
    )


def _overrides(pricing: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    overrides = pricing.get("overrides") or []
    if not isinstance(overrides, list) or len(overrides) >= _MAX_TIERS:
        raise NotUnderstood("its price has more tiers than anybody reads")
    return [_mapping(override) for override in overrides]


def _price(prices: Mapping[str, Any], kind: str) -> Decimal:
    """Exactly as written. The two that every model has must be there; absent others are nothing."""
    value = prices.get(kind)
    if value is None and kind not in ("prompt", "completion"):
        return Decimal(0)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    if not isinstance(value, str) or not _PRICE.fullmatch(value):
        raise NotUnderstood(f"its price for {kind} is none")
    price = Decimal(value)
    if price and not _SMALLEST_PRICE <= abs(price) <= _HIGHEST_PRICE:
        raise NotUnderstood(f"its price for {kind} is beyond all measure")
    return price


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise NotUnderstood("a part of it is missing")
    return value


def _words(value: Any) -> frozenset[str]:
    """The keywords among them: whatever else it is, nothing here could ask for it."""
    words = value if isinstance(value, list) else []
    return frozenset([word for word in words if isinstance(word, str) and _WORD.fullmatch(word)][:_MAX_WORDS])


def _tokens(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 1 <= number <= _MAX_TOKENS else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) <= _MAX_TOKENS else None


def _line(value: Any, length: int) -> str | None:
    """A text of one line, and of characters that can be stored."""
    if not isinstance(value, str):
        return None
    line = " ".join(value[: 8 * length].encode(errors="replace").decode().split())
    return (line if len(line) <= length else f"{line[: length - 1]}…") or None


# Who may ask, and how


def as_plan(plan: str) -> str:
    return plan if plan in PLANS else PLANS[0]


def composed(offer: Offer, policy: Policy, defaults: Defaults, *, markup_percent: int) -> Model:
    """The model as turns need it. `markup_percent` holds where operators decided nothing."""
    markups = (policy.markup_percent, defaults.markup_percent, markup_percent)
    most = min(policy.max_answer_tokens or offer.max_answer_tokens, offer.max_answer_tokens)
    return Model(
        slug=offer.slug,
        name=offer.name,
        canonical_slug=offer.canonical_slug,
        context_tokens=offer.context_tokens,
        max_answer_tokens=most,
        prompt_usd=offer.prompt_usd,
        completion_usd=offer.completion_usd,
        request_usd=offer.request_usd,
        image_usd=offer.image_usd,
        input_modalities=offer.input_modalities,
        supported_parameters=offer.supported_parameters,
        markup_percent=next(markup for markup in markups if markup is not None),
        default_answer_tokens=min(policy.default_answer_tokens or DEFAULT_ANSWER_TOKENS, most),
        default_parameters=policy.default_parameters,
        fallbacks=policy.fallbacks,
    )


def needed_plan(offer: Offer, policy: Policy, defaults: Defaults) -> str | None:
    """The smallest plan that may ask the model; None when nobody may."""
    if not policy.enabled:
        return None
    if policy.min_plan is not None:
        return policy.min_plan
    price = per_million(offer.completion_usd)
    for plan in PLANS:
        ceiling = defaults.ceilings.get(plan)
        if ceiling is None or price <= ceiling:
            return plan
    return None


def may_ask(plan: str, needed: str | None) -> bool:
    return needed is not None and PLANS.index(as_plan(plan)) >= PLANS.index(needed)


def answer_tokens(model: Model, asked: int | None) -> int:
    """How many tokens the answer may have: what was asked for, within what the model can do."""
    return min(asked or model.default_answer_tokens, model.max_answer_tokens)


# Prices


def highest_cost_pico_usd(model: Model, *, prompt_tokens: int, answer_tokens: int, images: int = 0) -> int:
    """What a request can cost at most, rounded up. `images` counts as tokens too, beside `prompt_tokens`."""
    read = min(prompt_tokens + images * image_tokens(model), model.context_tokens)
    usd = model.request_usd
    for price, times in ((model.prompt_usd, read), (model.completion_usd, answer_tokens), (model.image_usd, images)):
        usd = _EXACT.fma(price, times, usd)
    return int(_EXACT.multiply(usd, PICO_USD_PER_USD).to_integral_value(ROUND_CEILING))


def image_tokens(model: Model) -> int:
    """How many tokens an image counts as at most."""
    return MOST_IMAGE_TOKENS if model.slug.startswith(_COUNTS_MORE) else IMAGE_TOKENS


def everyday_price(offer: Offer) -> Tier:
    """The price of a short prompt, at the dearest time of the day."""
    each = [
        tier
        for tier in offer.tiers
        if tier.min_prompt_tokens is None or tier.min_prompt_tokens <= TOKENS_OF_A_THOUSAND_WORDS
    ]
    return Tier(
        prompt_usd=max(tier.prompt_usd for tier in each),
        completion_usd=max(tier.completion_usd for tier in each),
        request_usd=max(tier.request_usd for tier in each),
    )


def in_credits(usd: Decimal, markup_percent: int, *, times: int = 1) -> Decimal:
    """What a user pays, exactly; the ledger rounds up."""
    percent = _EXACT.multiply(usd, times * _CREDITS_PER_USD * (100 + markup_percent))
    return _EXACT.scaleb(percent, -2)


def per_million(usd: Decimal) -> Decimal:
    return _EXACT.scaleb(usd, 6)


def decimal_text(value: Decimal) -> str:
    """All digits and no exponent: `0.15`, `12`."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
