"""Bodies and answers of the operators' routes for models."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from functions.models.domain import FREE_PLAN_USD_PER_MILLION, MAX_FALLBACKS, Defaults, Policy
from shared.http.schema import Body, Schema


def _distinct(slugs: list[str]) -> list[str]:
    if len(set(slugs)) != len(slugs):
        raise ValueError("must not name a model twice")
    return slugs


Plan = Literal["free", "pro", "enterprise"]
Slug = Annotated[str, Field(min_length=1, max_length=200)]
Slugs = Annotated[list[Slug], Field(max_length=MAX_FALLBACKS), AfterValidator(_distinct)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
MarkupPercent = Annotated[int, Field(ge=0, le=1_000)]
Usd = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=6)]


class ReasoningDefault(Body):
    effort: Literal["max", "xhigh", "high", "medium", "low", "minimal", "none"]


class ParameterDefaults(Body):
    """What goes to the model when neither the request nor the conversation says it."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    reasoning: ReasoningDefault | None = None


class ModelPolicy(Body):
    """What is decided about one model. What is absent or null is left to the defaults and the provider's catalogue."""

    enabled: bool = Field(default=True, description="False: nobody may ask it.")
    min_plan: Plan | None = Field(default=None, description="The smallest plan that may ask it, whatever it costs.")
    markup_percent: MarkupPercent | None = None
    max_answer_tokens: Tokens | None = None
    default_answer_tokens: Tokens | None = None
    default_parameters: ParameterDefaults = ParameterDefaults()
    fallbacks: Slugs = Field(default=[], description="What is asked in its place while it fails, in this order.")

    def to_policy(self) -> Policy:
        decided = self.model_dump(include=set(ModelPolicy.model_fields), exclude={"default_parameters", "fallbacks"})
        parameters = self.default_parameters.model_dump(exclude_none=True)
        return Policy(**decided, default_parameters=parameters, fallbacks=tuple(self.fallbacks))

    @classmethod
    def of(cls, policy: Policy) -> "ModelPolicy":
        return cls.model_validate({**vars(policy), "fallbacks": [*policy.fallbacks]})


class ModelPolicyChange(ModelPolicy):
    """Replaces all that was decided about the model."""

    model: Slug


class DefaultModels(Body):
    """By plan; null: the product's own."""

    free: Slug | None = None
    pro: Slug | None = None
    enterprise: Slug | None = None


class Ceilings(Body):
    """The highest price of a million output tokens, in USD, up to which the plan may ask a model; null: any."""

    free: Usd | None = FREE_PLAN_USD_PER_MILLION
    pro: Usd | None = None
    enterprise: Usd | None = None


class ModelDefaults(Body):
    """What is decided about all models at once. What is absent gets the product's own default."""

    default_models: DefaultModels = DefaultModels()
    stand_ins: Slugs = Field(
        default=[*Defaults().stand_ins], description="What answers while the default model fails, in this order."
    )
    markup_percent: MarkupPercent | None = Field(default=None, description="Null: what the deployment is set to.")
    highest_usd_per_million: Ceilings = Ceilings()

    def to_defaults(self) -> Defaults:
        return Defaults(
            default_models=self.default_models.model_dump(exclude_none=True),
            stand_ins=tuple(self.stand_ins),
            markup_percent=self.markup_percent,
            ceilings=self.highest_usd_per_million.model_dump(),
        )

    @classmethod
    def of(cls, defaults: Defaults) -> "ModelDefaults":
        return cls(
            default_models=DefaultModels.model_validate(defaults.default_models),
            stand_ins=[*defaults.stand_ins],
            markup_percent=defaults.markup_percent,
            highest_usd_per_million=Ceilings.model_validate(defaults.ceilings),
        )


class ReviewedModel(Schema):
    """A model of the provider's catalogue, with what was decided about it and what follows from that."""

    id: str
    name: str
    canonical_slug: str | None
    context_tokens: int
    max_answer_tokens: int = Field(description="As the provider says.")
    highest_prompt_usd_per_million: str
    highest_completion_usd_per_million: str
    needs_plan: str | None = Field(description="The smallest plan that may ask it; null: nobody may.")
    markup_percent: int = Field(description="What holds, wherever it was decided.")
    policy: ModelPolicy


class ReviewedModels(Schema):
    items: list[ReviewedModel]
    defaults: ModelDefaults
