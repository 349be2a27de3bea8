"""What tokens cost: prices in 1e-12 USD, tiers, and the sum, exact to the last digit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter.money import pico_from_usd, usd_number

if TYPE_CHECKING:
    from collections.abc import Mapping


# Of a page that mistral-ocr reads: 2 USD for a thousand.
PARSED_PAGE: Final = pico_from_usd("0.002")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a generation used. `cached` is part of `prompt`; `reasoning` and `image` are part of `completion`."""

    prompt: int
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    image: int = 0
    web_searches: int = 0
    parsed_pages: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """1e-12 USD. The provider is paid for the first three, the router's own search and parsing come on top."""

    prompt: int = 0
    completion: int = 0
    request: int = 0
    search: int = 0
    parsing: int = 0

    @property
    def upstream(self) -> int:
        return self.prompt + self.completion + self.request

    @property
    def total(self) -> int:
        return self.upstream + self.search + self.parsing


@dataclass(frozen=True, slots=True)
class Tier:
    """Other prices for prompts of at least that many tokens."""

    min_prompt_tokens: int
    prompt: int
    completion: int
    cache_read: int


@dataclass(frozen=True, slots=True)
class Price:
    """1e-12 USD per token, per request and per search."""

    prompt: int
    completion: int
    cache_read: int
    image_output: int
    request: int
    web_search: int
    tiers: tuple[Tier, ...] = ()

    def at(self, prompt_tokens: int) -> Price:
        """The price that holds for a prompt of this length: the highest tier reached."""
        reached = [tier for tier in self.tiers if prompt_tokens >= tier.min_prompt_tokens]
        if not reached:
            return self
        tier = max(reached, key=lambda each: each.min_prompt_tokens)
        return replace(self, prompt=tier.prompt, completion=tier.completion, cache_read=tier.cache_read)

    def cost(self, tokens: Tokens) -> Cost:
        price = self.at(tokens.prompt)
        prompt = (tokens.prompt - tokens.cached) * price.prompt + tokens.cached * price.cache_read
        completion = (tokens.completion - tokens.image) * price.completion + tokens.image * price.image_output
        search, parsing = tokens.web_searches * price.web_search, tokens.parsed_pages * PARSED_PAGE
        return Cost(prompt, completion, price.request, search, parsing)


@dataclass(frozen=True, slots=True)
class Bill:
    """What a generation is billed. `waived`: nothing at all; `byok`: the provider bills the user's own account.

    Pages that were parsed are billed by the router in any case.
    """

    tokens: Tokens
    cost: Cost
    byok: bool = False
    waived: bool = False

    @property
    def charged(self) -> int:
        if self.waived:
            return 0
        return self.cost.parsing if self.byok else self.cost.total

    @property
    def upstream(self) -> int:
        return 0 if self.waived else self.cost.upstream

    def usage(self, *, noisy: bool) -> dict[str, Any]:
        """The `usage` object. `noisy` moves the cost to the next double, as sums on the real wire do."""
        tokens = self.tokens
        cost = Cost() if self.waived else self.cost
        charged = usd_number(self.charged)
        return {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.completion,
            "total_tokens": tokens.prompt + tokens.completion,
            "cost": math.nextafter(charged, math.inf) if noisy and charged else charged,
            "is_byok": self.byok,
            "prompt_tokens_details": {
                "cached_tokens": tokens.cached,
                "cache_write_tokens": 0,
                "audio_tokens": 0,
                "video_tokens": 0,
            },
            "cost_details": {
                "upstream_inference_cost": usd_number(self.upstream),
                "upstream_inference_prompt_cost": usd_number(cost.prompt),
                "upstream_inference_completions_cost": usd_number(cost.completion),
            },
            "completion_tokens_details": {
                "reasoning_tokens": tokens.reasoning,
                "image_tokens": tokens.image,
                "audio_tokens": 0,
            },
        }


def is_variable(pricing: Mapping[str, Any]) -> bool:
    """Whether the price depends on the route taken ("-1"): it must never be multiplied."""
    return bool(pricing["prompt"] == "-1")


def read_price(pricing: Mapping[str, Any]) -> Price:
    """The published strings as integers. ValueError for a variable price."""
    if is_variable(pricing):
        raise ValueError("a variable price cannot be multiplied")
    prompt, completion = pico_from_usd(pricing["prompt"]), pico_from_usd(pricing["completion"])
    cache_read = pico_from_usd(pricing.get("input_cache_read", pricing["prompt"]))
    return Price(
        prompt=prompt,
        completion=completion,
        cache_read=cache_read,
        image_output=pico_from_usd(pricing.get("image_output", pricing["completion"])),
        request=pico_from_usd(pricing.get("request", "0")),
        web_search=pico_from_usd(pricing.get("web_search", "0")),
        tiers=tuple(
            Tier(
                tier["min_prompt_tokens"],
                pico_from_usd(tier.get("prompt", pricing["prompt"])),
                pico_from_usd(tier.get("completion", pricing["completion"])),
                pico_from_usd(tier.get("input_cache_read", pricing.get("input_cache_read", pricing["prompt"]))),
            )
            for tier in pricing.get("overrides", ())
        ),
    )
