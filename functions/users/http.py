"""Somebody's own account over HTTP: profile, preferences, avatar, export, erasure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from functions.users import avatars, preferences, schemas, service
from functions.users.domain import SIGN_IN_AGE, signed_in_recently
from functions.users.views import erasure_view, export_view, profile_view
from shared.errors import Unauthenticated
from shared.http.function import http_function
from shared.http.routes import Call, Routes, Who
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass

if TYPE_CHECKING:
    from shared.identity.caller import Caller

_MAX_BODY_BYTES = 32 * 1024
_EXPORT_WEIGHT = 10
"""An archive is the work of many requests."""

routes = Routes("users")


@routes.get("/api/v1/users/me", who=Permission.PROFILE_READ, answer=schemas.Profile)
def get_profile(call: Call[Any, Any]) -> schemas.Profile:
    """The caller's own account."""
    return profile_view(service.get_user(call.caller.uid), call.now)


@routes.patch(
    "/api/v1/users/me",
    who=Permission.PROFILE_WRITE,
    body=schemas.ProfileChange,
    answer=schemas.Profile,
    max_body_bytes=_MAX_BODY_BYTES,
)
def change_profile(call: Call[schemas.ProfileChange, Any]) -> schemas.Profile:
    """Change the caller's display name, user name or bio. What is absent stays as it is, null removes it."""
    changes = call.body.model_dump(exclude_unset=True)
    return profile_view(service.change_profile(call.caller.uid, changes, now=call.now), call.now)


@routes.delete(
    "/api/v1/users/me",
    who=Permission.ACCOUNT_DELETE,
    answer=schemas.ErasureAccepted,
    status=202,
    fresh=True,
    limit=LimitClass.SIGN_IN,
)
def erase_account(call: Call[Any, Any]) -> schemas.ErasureAccepted:
    """Close the caller's account at once and erase everything it holds, as a job. This cannot be undone.

    Needs a sign-in of the last five minutes. From then on the account answers 401 `account_deleted`.
    """
    _require_recent_sign_in(call.caller, call.now)
    job = service.request_erasure(call.caller.uid, job_id=call.new_id("job"), now=call.now)
    return schemas.ErasureAccepted(job_id=job.id, status_url=f"/api/v1/users/erasures/{job.id}")


@routes.get("/api/v1/users/erasures/{job_id}", who=Who.ANYONE, answer=schemas.ErasureJob, limit=LimitClass.PUBLIC)
def get_erasure(call: Call[Any, Any]) -> schemas.ErasureJob:
    """How an erasure goes on; for whoever was given its id."""
    return erasure_view(service.get_erasure(call.path["job_id"]))


@routes.get("/api/v1/users/me/preferences", who=Permission.PROFILE_READ, answer=schemas.Preferences)
def get_preferences(call: Call[Any, Any]) -> schemas.Preferences:
    """The caller's preferences, with defaults for what was never chosen."""
    return preferences.get(call.caller.uid, now=call.now)


@routes.put(
    "/api/v1/users/me/preferences",
    who=Permission.PROFILE_WRITE,
    body=schemas.Preferences,
    answer=schemas.Preferences,
    max_body_bytes=_MAX_BODY_BYTES,
)
def put_preferences(call: Call[schemas.Preferences, Any]) -> schemas.Preferences:
    """Replace all of the caller's preferences; what is absent gets its default."""
    return preferences.put(call.caller.uid, call.body, now=call.now)


@routes.post(
    "/api/v1/users/me/avatar",
    who=Permission.PROFILE_WRITE,
    body=schemas.AvatarUpload,
    answer=schemas.AvatarUploadAnswer,
    status=201,
    max_body_bytes=_MAX_BODY_BYTES,
)
def begin_avatar(call: Call[schemas.AvatarUpload, Any]) -> schemas.AvatarUploadAnswer:
    """A link to put a picture to, for ten minutes. It becomes the avatar when the upload is completed."""
    upload_id = call.new_id("upl")
    upload = avatars.begin(
        call.caller.uid, upload_id, content_type=call.body.content_type, size_bytes=call.body.size_bytes, now=call.now
    )
    return schemas.AvatarUploadAnswer(
        upload_id=upload_id,
        url=upload.url,
        headers=dict(upload.headers),
        expires_at=call.now + avatars.UPLOAD_LIFETIME,
    )


@routes.put(
    "/api/v1/users/me/avatar",
    who=Permission.PROFILE_WRITE,
    body=schemas.AvatarCompletion,
    answer=schemas.Profile,
    max_body_bytes=_MAX_BODY_BYTES,
)
def complete_avatar(call: Call[schemas.AvatarCompletion, Any]) -> schemas.Profile:
    """Make the uploaded picture the avatar. It must be the image it was said to be."""
    return profile_view(avatars.complete(call.caller.uid, call.body.upload_id, now=call.now), call.now)


@routes.delete("/api/v1/users/me/avatar", who=Permission.PROFILE_WRITE, answer=schemas.Profile)
def remove_avatar(call: Call[Any, Any]) -> schemas.Profile:
    """Remove the caller's avatar, if there is one."""
    return profile_view(avatars.remove(call.caller.uid, now=call.now), call.now)


@routes.post(
    "/api/v1/users/me/export",
    who=Permission.ACCOUNT_EXPORT,
    answer=schemas.ExportJob,
    status=202,
    weight=_EXPORT_WEIGHT,
)
def request_export(call: Call[Any, Any]) -> schemas.ExportJob:
    """Begin an archive of everything that is kept about the caller; while one is being made, that one."""
    job = service.request_export(call.caller.uid, job_id=call.new_id("job"), now=call.now)
    return export_view(job, call.now)


@routes.get("/api/v1/users/me/export", who=Permission.ACCOUNT_EXPORT, answer=schemas.ExportJob)
def get_export(call: Call[Any, Any]) -> schemas.ExportJob:
    """How far the newest archive is, and where to get it once it is done."""
    return export_view(service.get_export(call.caller.uid), call.now)


def _require_recent_sign_in(caller: Caller, now: datetime) -> None:
    if not signed_in_recently(caller.proved_at, now):
        minutes = SIGN_IN_AGE.total_seconds() / 60
        raise Unauthenticated(
            f"Sign in again first: this needs a sign-in of the last {minutes:.0f} minutes.",
            reason="recent_sign_in_required",
        )


users = http_function("users", routes)
