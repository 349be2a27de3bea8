"""The catalogue as its users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.models import schemas
from functions.models.domain import TOKENS_OF_A_THOUSAND_WORDS, decimal_text, everyday_price, in_credits, per_million

if TYPE_CHECKING:
    from functions.models.domain import Offer, Tier
    from functions.models.service import Listed


def model_view(listed: Listed, *, available: bool, favourite: bool, is_default: bool) -> schemas.ModelView:
    offer, model = listed.offer, listed.model
    base, *others = offer.tiers
    usual = everyday_price(offer)
    return schemas.ModelView(
        id=offer.slug,
        name=offer.name,
        description=offer.description,
        context_tokens=offer.context_tokens,
        max_answer_tokens=model.max_answer_tokens,
        default_answer_tokens=model.default_answer_tokens,
        input_modalities=sorted(offer.input_modalities),
        supported=_supported(offer),
        prompt_usd_per_million=decimal_text(per_million(base.prompt_usd)),
        completion_usd_per_million=decimal_text(per_million(base.completion_usd)),
        usd_per_request=decimal_text(base.request_usd),
        tiers=[_tier(tier) for tier in others],
        thousand_words=_thousand_words(usual, model.markup_percent),
        request_credits=decimal_text(in_credits(usual.request_usd, model.markup_percent)),
        available=available,
        needs_plan=None if listed.available else listed.needs_plan,
        favourite=favourite,
        is_default=is_default,
    )


def _thousand_words(price: Tier, markup_percent: int) -> schemas.ThousandWords:
    read, written = (
        decimal_text(in_credits(usd, markup_percent, times=TOKENS_OF_A_THOUSAND_WORDS))
        for usd in (price.prompt_usd, price.completion_usd)
    )
    return schemas.ThousandWords(read_credits=read, write_credits=written)


def _supported(offer: Offer) -> schemas.Supported:
    parameters = offer.supported_parameters
    return schemas.Supported(
        tools="tools" in parameters,
        structured_output="structured_outputs" in parameters,
        reasoning="reasoning" in parameters,
        vision="image" in offer.input_modalities,
    )


def _tier(tier: Tier) -> schemas.Tier:
    return schemas.Tier(
        min_prompt_tokens=tier.min_prompt_tokens,
        utc_start=tier.utc_start,
        utc_end=tier.utc_end,
        prompt_usd_per_million=decimal_text(per_million(tier.prompt_usd)),
        completion_usd_per_million=decimal_text(per_million(tier.completion_usd)),
        usd_per_request=decimal_text(tier.request_usd),
    )
