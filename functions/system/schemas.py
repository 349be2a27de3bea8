"""Answers of the system routes."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    status: Literal["ok"] = Field(description="The process is alive and answers.")
    time: datetime
