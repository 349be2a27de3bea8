"""Accounts and jobs as their answers show them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.users import avatars, schemas
from functions.users.schemas import JobProgress
from shared import storage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from functions.users.domain import User
    from functions.users.repository import Job

DOWNLOAD_LIFETIME = timedelta(minutes=15)


def profile_view(user: User, now: datetime) -> schemas.Profile:
    return schemas.Profile(
        uid=user.uid,
        username=user.username,
        display_name=user.display_name,
        bio=user.bio,
        email=user.email,
        email_verified=user.email_verified,
        avatar_url=avatars.link(user, now),
        photo_url=_safe(user.photo_url),
        role=user.role,
        status=user.status,
        plan=user.plan,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )


def export_view(job: Job, now: datetime) -> schemas.ExportJob:
    """With a link for as long as the archive is there."""
    file, expires_at = job.result.get("file"), job.result.get("expires_at")
    download_url = None
    if file is not None and expires_at is not None and expires_at > now:
        save_as = f"craftpilot-export-{job.created_at:%Y-%m-%d}.zip"
        download_url = storage.sign_download(file, lifetime=DOWNLOAD_LIFETIME, save_as=save_as)
    return schemas.ExportJob(
        **_common(job),
        download_url=download_url,
        size_bytes=job.result.get("size_bytes"),
        sha256=job.result.get("sha256"),
        expires_at=expires_at,
    )


def erasure_view(job: Job) -> schemas.ErasureJob:
    return schemas.ErasureJob(**_common(job), proof=job.result.get("proof"), checked_at=job.result.get("checked_at"))


def _safe(url: str | None) -> str | None:
    """Users can have their identity say anything; nothing but a plain web address is passed on."""
    return url if url is not None and url.startswith("https://") else None


def _common(job: Job) -> Mapping[str, Any]:
    progress = JobProgress(
        step=job.progress.get("step", job.state), done=job.progress.get("done", 0), total=job.progress.get("total", 0)
    )
    return {
        "job_id": job.id,
        "state": job.state,
        "progress": progress,
        "requested_at": job.created_at,
        "updated_at": job.updated_at,
    }
