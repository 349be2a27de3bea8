"""Bodies and answers of the account routes."""

import re
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from functions.users.domain import MAX_AVATAR_BYTES, USERNAME_CHARS, as_line, as_paragraphs, as_username
from shared.http.schema import Body, Schema
from shared.identity.permissions import Role

_LANGUAGE = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|[0-9]{3}))?",
    re.IGNORECASE | re.ASCII,  # or the Turkish İ is an i, and becomes two characters in lower case
)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_UPLOAD = re.compile(r"upl_[A-Za-z0-9]{22}")
MAX_FAVOURITES = 50


# Profile


Username = Annotated[
    str, Field(min_length=USERNAME_CHARS[0], max_length=USERNAME_CHARS[1]), AfterValidator(as_username)
]


class ProfileChange(Body):
    """What somebody may change about themselves. What is absent stays; null removes."""

    display_name: Annotated[str, Field(max_length=80), AfterValidator(as_line)] | None = None
    username: Username = Field(
        default="",
        description="3 to 30 of a-z, 0-9, _ and . beginning with a letter; unique whatever the case.",
    )
    bio: Annotated[str, Field(max_length=500), AfterValidator(as_paragraphs)] | None = None


class Profile(Schema):
    """Somebody's own account. Role, status and plan are never taken from a client."""

    uid: str
    username: str
    display_name: str | None
    bio: str | None
    email: str | None = Field(description="As Firebase Auth knew it at the first sign-in; change it there.")
    email_verified: bool
    avatar_url: str | None = Field(
        description="A link that is good for half an hour at least; ask again, do not keep it."
    )
    photo_url: str | None = Field(description="The picture of the identity provider, for those without an avatar.")
    role: Role
    status: str
    plan: str
    created_at: datetime
    updated_at: datetime


# Preferences


def _language(tag: str) -> str:
    """BCP 47: language, script and region, in the case that RFC 5646 §2.1.1 recommends."""
    match = _LANGUAGE.fullmatch(tag)
    if match is None:
        raise ValueError("must be a BCP 47 tag such as en, pt-BR or zh-Hant-TW")
    language, script, region = match.group("language", "script", "region")
    return "-".join(part for part in (language.lower(), (script or "").title(), (region or "").upper()) if part)


@cache
def _time_zones() -> frozenset[str]:
    """Of the tzdata package, so that every machine knows the same ones."""
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


def _time_zone(name: str) -> str:
    if name not in _time_zones():
        raise ValueError("must be an IANA time zone such as Europe/Istanbul")
    return name


def _model(name: str) -> str:
    """Whether the model is on offer is decided when it is asked: models come and go, and preferences outlive them."""
    if not _MODEL.fullmatch(name):
        raise ValueError("is not the id of a model")
    return name


def _distinct(models: list[str]) -> list[str]:
    if len(set(models)) != len(models):
        raise ValueError("must not name a model twice")
    return models


Model = Annotated[str, Field(max_length=200), AfterValidator(_model)]


class Channel(Body):
    """Which kinds of messages come this way."""

    product: bool = True
    billing: bool = True
    security: bool = True


class Promotional(Channel):
    """A channel by which nobody gets news of the product without having asked."""

    product: bool = False


class Notifications(Body):
    email: Promotional = Promotional()
    push: Channel = Channel()
    in_app: Channel = Channel()


class Preferences(Body):
    """How somebody wants the product to be. What is absent gets its default."""

    theme: Literal["light", "dark", "system"] = "system"
    language: Annotated[str, Field(max_length=35), AfterValidator(_language)] = "en"
    time_zone: Annotated[str, Field(max_length=64), AfterValidator(_time_zone)] = "UTC"
    default_model: Model | None = Field(default=None, description="None: the product's own default.")
    favourite_models: Annotated[list[Model], Field(max_length=MAX_FAVOURITES), AfterValidator(_distinct)] = Field(
        default=[]
    )
    notifications: Notifications = Notifications()

    @classmethod
    def from_stored(cls, value: Any) -> "Preferences":
        """Of what was valid when it was stored: a field that is known no more is left out."""
        return cls.model_validate(value or {}, extra="ignore")

    @classmethod
    def as_far_as_valid(cls, value: Any) -> "Preferences":
        """The same of what is valid no longer, such as a time zone that was renamed: such a field gets its default."""
        try:
            return cls.from_stored(value)
        except ValidationError as error:
            wrong = {problem["loc"][0] for problem in error.errors()}
            return cls.from_stored({name: each for name, each in value.items() if name not in wrong})


# Avatar


class AvatarUpload(Body):
    content_type: Literal["image/png", "image/jpeg", "image/webp"]
    size_bytes: Annotated[int, Field(ge=1, le=MAX_AVATAR_BYTES)]


class AvatarUploadAnswer(Schema):
    """Send the file with this method to this address, with exactly these headers; then complete it with PUT."""

    upload_id: str
    url: str
    method: Literal["PUT"] = "PUT"
    headers: dict[str, str]
    expires_at: datetime


def _upload_id(value: str) -> str:
    if not _UPLOAD.fullmatch(value):
        raise ValueError("is not the id of an upload")
    return value


class AvatarCompletion(Body):
    upload_id: Annotated[str, Field(max_length=40), AfterValidator(_upload_id)]


# Export and erasure


class JobProgress(Schema):
    step: str
    done: int
    total: int


class ExportJob(Schema):
    """An archive of everything that is kept about somebody, being made or ready."""

    job_id: str
    state: Literal["queued", "running", "done", "failed"]
    progress: JobProgress
    requested_at: datetime
    updated_at: datetime
    download_url: str | None = Field(description="Good for a quarter of an hour; ask again for another.")
    size_bytes: int | None
    sha256: str | None
    expires_at: datetime | None = Field(description="When the archive is deleted.")


class ErasureAccepted(Schema):
    job_id: str
    status_url: str = Field(description="Where to see how it goes on; it needs no sign-in, for there is none any more.")


class ErasureJob(Schema):
    """How the erasure of an account goes on. Whoever knows its id may ask; nothing here says whose it is."""

    job_id: str
    state: Literal["queued", "running", "done", "failed"]
    progress: JobProgress
    requested_at: datetime
    updated_at: datetime
    proof: dict[str, int] | None = Field(description="Once it is done: how much of each kind was found afterwards.")
    checked_at: datetime | None


class Bootstrap(Schema):
    """What an app needs when it starts."""

    profile: Profile
    preferences: Preferences
