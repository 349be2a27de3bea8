"""Every deployment setting, declared once as a Firebase parameter or secret and read once, lazily.

`firebase deploy` asks for what has no default; the local suite and plain processes set the same names in the
environment. Nothing else reads `os.environ`, except `shared.startup` and `main`, which run before anything is imported.
"""

import json
import os
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

from firebase_functions.params import IntParam, SecretParam, SelectInput, SelectOption, StringParam

REGION = "us-central1"


class AppCheck(StrEnum):
    """What is asked of apps: nothing, that what they send holds, or that they send it."""

    OFF = "off"
    VERIFY = "verify"
    REQUIRED = "required"


OPENROUTER_API_KEY = SecretParam("OPENROUTER_API_KEY", label="The OpenRouter key that pays for every model call")

STRIPE_SECRET_KEY = SecretParam("STRIPE_SECRET_KEY", label="The Stripe key, sk_live_… or sk_test_…")
STRIPE_WEBHOOK_SECRET = SecretParam(
    "STRIPE_WEBHOOK_SECRET", label="The signing secret, whsec_…, of the Stripe webhook endpoint"
)
REVENUECAT_AUTHORIZATION = SecretParam(
    "REVENUECAT_AUTHORIZATION", label="What RevenueCat sends as the Authorization header of its webhooks"
)

_OPENROUTER_BASE_URL = StringParam("OPENROUTER_BASE_URL", default="https://openrouter.ai/api/v1")
_STRIPE_API_BASE = StringParam("STRIPE_API_BASE", default="https://api.stripe.com")
_REDIS_URL = StringParam("REDIS_URL", label="Redis for streams and caches, e.g. rediss://user:password@host:6379/0")
_ALLOWED_ORIGINS = StringParam(
    "ALLOWED_ORIGINS",
    default="",
    description="Comma-separated web origins that may call the functions directly, beside the project's own sites",
)
_CREDIT_MARKUP_PERCENT = IntParam(
    "CREDIT_MARKUP_PERCENT", default=20, description="What is added to the provider's price, in percent"
)
_STORAGE_BUCKET = StringParam(
    "STORAGE_BUCKET",
    default="",
    description="The Cloud Storage bucket for avatars and exports; empty: PROJECT.firebasestorage.app",
)
_APP_CHECK = StringParam(
    "APP_CHECK",
    default=AppCheck.VERIFY.value,
    description="Firebase App Check: off, verify (what an app sends must hold) or required (every app must send it)",
    input=SelectInput([SelectOption(option.value) for option in AppCheck]),
)
_TRUSTED_PROXIES = IntParam(
    "TRUSTED_PROXIES",
    default=1,
    description="How many proxies in front append to X-Forwarded-For; the address they name is the one that is limited",
)
_UTILITY_MODEL = StringParam(
    "UTILITY_MODEL",
    default="openai/gpt-4o-mini",
    description="The cheap model, better one that does not reason, which works for the product itself and is paid by "
    "the operator: titles, summaries; empty: none, so titles are first words and nothing is summed up",
)
CHAT_MIN_INSTANCES = IntParam(
    "CHAT_MIN_INSTANCES", default=0, description="Instances of the chat function that stay warm, at a price"
)


@dataclass(frozen=True)
class Settings:
    """The settings of this process. Secrets do not show in its repr."""

    project_id: str
    in_emulator: bool
    firestore_emulator_host: str
    """`host:port` of the Firestore emulator, as Google's libraries know it; empty: Google's Firestore."""
    revision: str
    """The deployed revision of this function, as the platform names it."""
    openrouter_base_url: str
    redis_url: str
    allowed_origins: frozenset[str]
    credit_markup_percent: int
    storage_bucket: str
    app_check: AppCheck
    trusted_proxies: int
    utility_model: str
    stripe_api_base: str
    openrouter_api_key: str = field(repr=False)
    stripe_secret_key: str = field(repr=False)
    stripe_webhook_secret: str = field(repr=False)
    revenuecat_authorization: str = field(repr=False)


@cache
def settings() -> Settings:
    project_id = _project_id()
    in_emulator = os.environ.get("FUNCTIONS_EMULATOR") == "true"
    origins = {origin.strip() for origin in _ALLOWED_ORIGINS.value.split(",") if origin.strip()}
    return Settings(
        project_id=project_id,
        in_emulator=in_emulator,
        firestore_emulator_host=os.environ.get("FIRESTORE_EMULATOR_HOST", ""),
        revision=os.environ.get("K_REVISION", "local"),
        openrouter_base_url=_OPENROUTER_BASE_URL.value.rstrip("/"),
        redis_url=_REDIS_URL.value,
        allowed_origins=frozenset(origins | {f"https://{project_id}.web.app", f"https://{project_id}.firebaseapp.com"}),
        credit_markup_percent=_CREDIT_MARKUP_PERCENT.value,
        storage_bucket=_STORAGE_BUCKET.value or f"{project_id}.firebasestorage.app",
        app_check=AppCheck(_APP_CHECK.value),
        trusted_proxies=_TRUSTED_PROXIES.value,
        utility_model=_UTILITY_MODEL.value.strip(),
        stripe_api_base=_STRIPE_API_BASE.value.rstrip("/"),
        openrouter_api_key=OPENROUTER_API_KEY.value,
        stripe_secret_key=STRIPE_SECRET_KEY.value,
        stripe_webhook_secret=STRIPE_WEBHOOK_SECRET.value,
        revenuecat_authorization=REVENUECAT_AUTHORIZATION.value,
    )


def _project_id() -> str:
    for name in ("GCLOUD_PROJECT", "GOOGLE_CLOUD_PROJECT"):
        if value := os.environ.get(name):
            return value
    config: dict[str, str] = json.loads(os.environ.get("FIREBASE_CONFIG", "{}"))
    if "projectId" not in config:
        raise RuntimeError("The project id is unknown: set GCLOUD_PROJECT.")
    return config["projectId"]
