"""What bodies and answers are made of."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Schema(BaseModel):
    """A part of an answer, or a query. Its validator is built when it is first used: a process that starts has to
    answer one route, not to be ready for all of them.
    """

    model_config = ConfigDict(defer_build=True)


class Body(Schema):
    """A body, or a part of one: unknown fields are refused, so that a misspelt one is noticed, and nobody thinks to
    have set what only the server sets.
    """

    model_config = ConfigDict(extra="forbid")


def wrong(field: str, problem: str) -> PydanticCustomError:
    """What a validator of several fields raises, so that the answer names the one to change."""
    return PydanticCustomError("wrong", "{problem}", {"field": field, "problem": problem})
