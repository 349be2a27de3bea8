"""What runs by the clock. Every job is bounded per run and does no harm when it runs twice."""

from __future__ import annotations

from typing import Any

from firebase_functions.scheduler_fn import on_schedule

from functions.chat import removal
from functions.chat import service as chat
from functions.credits import service as credits
from functions.models import service as models
from functions.openai_api import service as openai_api
from functions.privacy import service as privacy
from shared import log
from shared.clock import utc_now
from shared.deployment import arguments_of
from shared.settings import OPENROUTER_API_KEY
from triggers.edge import edge


@edge("sweep")
def _sweep(_: Any) -> None:
    """The ledger first: it depends on nobody, while generations wait for the provider to say what they cost."""
    now = utc_now()
    log.info("sweep", **credits.sweep(now=now), **chat.sweep(now=now), **removal.sweep(now=now))


@edge("sync_models")
def _sync_models(_: Any) -> None:
    log.info("models", offered=models.sync(), embedding=openai_api.sync_embedding_models())


@edge("resume_privacy_jobs")
def _resume_privacy_jobs(_: Any) -> None:
    log.info("privacy jobs", **privacy.sweep(now=utc_now()))


sweep = on_schedule(schedule="every 1 minutes", secrets=[OPENROUTER_API_KEY], **arguments_of("sweep"))(_sweep)

sync_models = on_schedule(schedule="every 1 hours", secrets=[OPENROUTER_API_KEY], **arguments_of("sync_models"))(
    _sync_models
)

resume_privacy_jobs = on_schedule(schedule="every 1 minutes", **arguments_of("resume_privacy_jobs"))(
    _resume_privacy_jobs
)
