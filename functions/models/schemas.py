"""Queries and answers of the catalogue."""

from typing import Annotated, Literal

from pydantic import Field

from shared.http.schema import Schema

Price = Annotated[str, Field(description="Exact decimal text.", json_schema_extra={"pattern": r"^[0-9]+(\.[0-9]+)?$"})]


class ModelsQuery(Schema):
    available: bool = Field(default=False, description="Only those that the caller may ask.")
    favourites: bool = Field(default=False, description="Only the caller's favourites.")
    q: Annotated[str, Field(max_length=100)] = Field(default="", description="Part of the id or the name.")
    input: Literal["text", "image", "file", "audio", "video"] | None = Field(
        default=None, description="Only those that take it."
    )


class Tier(Schema):
    """A price that holds only for long prompts, or in a window of the day (UTC, as the provider gives it)."""

    min_prompt_tokens: int | None
    utc_start: float | None
    utc_end: float | None
    prompt_usd_per_million: Price
    completion_usd_per_million: Price
    usd_per_request: Price


class Supported(Schema):
    tools: bool
    structured_output: bool
    reasoning: bool
    vision: bool


class ThousandWords(Schema):
    """What a thousand English words cost the caller, at four tokens for every three words and at the dearest hour.

    Other languages take more tokens, and so do long prompts of models whose price has tiers.
    """

    read_credits: Price
    write_credits: Price


class ModelView(Schema):
    """A model as the caller may use it. Prices in USD are the provider's, those in credits what the caller pays."""

    id: str
    name: str
    description: str | None
    context_tokens: int
    max_answer_tokens: int
    default_answer_tokens: int = Field(description="How long an answer may be when the request does not say.")
    input_modalities: list[str]
    supported: Supported
    prompt_usd_per_million: Price
    completion_usd_per_million: Price
    usd_per_request: Price
    tiers: list[Tier] = Field(description="Prices that hold instead, under conditions.")
    thousand_words: ThousandWords
    request_credits: Price = Field(description="What each request costs the caller besides its words.")
    available: bool = Field(description="Whether the caller's plan, and the key used, may ask it.")
    needs_plan: str | None = Field(description="The smallest plan that may ask it, for those whose plan may not.")
    favourite: bool
    is_default: bool


class ModelList(Schema):
    items: list[ModelView]
    default: str = Field(description="What answers when a request names no model.")
