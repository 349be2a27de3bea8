"""Accounts of others and the policies of models, for operators.

Every change is told: of an account on its own log, with the operator's id; of a model on the operator's log.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from functions.admin import model_schemas, schemas
from functions.models import service as models
from functions.models.domain import decimal_text, per_million
from functions.users import service as users
from shared.http.function import http_function
from shared.http.routes import Call, Routes
from shared.identity.accounts import Status
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass

if TYPE_CHECKING:
    from functions.models.service import Reviewed
    from functions.users.domain import User

_MAX_BODY_BYTES = 16 * 1024

routes = Routes("admin")


@routes.get(
    "/api/v1/admin/users", who=Permission.USERS_READ, fresh=True, query=schemas.UsersQuery, answer=schemas.UserPage
)
def list_users(call: Call[Any, schemas.UsersQuery]) -> schemas.UserPage:
    """All accounts, the newest first; of one role or one status."""
    query = call.query
    found, next_cursor = users.list_users(role=query.role, status=query.status, limit=query.limit, cursor=query.cursor)
    return schemas.UserPage(items=[_shape(user) for user in found], next_cursor=next_cursor)


@routes.post(
    "/api/v1/admin/users/search",
    who=Permission.USERS_READ,
    fresh=True,
    body=schemas.UserSearch,
    answer=schemas.UserPage,
    limit=LimitClass.READ,
    max_body_bytes=_MAX_BODY_BYTES,
)
def search_users(call: Call[schemas.UserSearch, Any]) -> schemas.UserPage:
    """The account with exactly this e-mail address or user name, or none."""
    body = call.body
    found = users.find_by_email(body.email) if body.email is not None else users.find_by_username(body.username or "")
    return schemas.UserPage(items=[_shape(found)] if found else [], next_cursor=None)


@routes.get("/api/v1/admin/users/{uid}", who=Permission.USERS_READ, fresh=True, answer=schemas.UserOut)
def get_user(call: Call[Any, Any]) -> schemas.UserOut:
    """One account."""
    return _shape(users.get_user(call.path["uid"]))


@routes.put(
    "/api/v1/admin/users/{uid}/role",
    who=Permission.USERS_MANAGE,
    body=schemas.RoleChange,
    answer=schemas.UserOut,
    fresh=True,
    max_body_bytes=_MAX_BODY_BYTES,
)
def set_role(call: Call[schemas.RoleChange, Any]) -> schemas.UserOut:
    """Make somebody an operator, or no longer one. Nobody changes their own role, and one admin always stays."""
    return _shape(users.set_role(call.caller, call.path["uid"], call.body.role, reason=call.body.reason, now=call.now))


@routes.post(
    "/api/v1/admin/users/{uid}/suspend",
    who=Permission.USERS_SUSPEND,
    body=schemas.SuspensionRequest,
    answer=schemas.UserOut,
    fresh=True,
    max_body_bytes=_MAX_BODY_BYTES,
)
def suspend(call: Call[schemas.SuspensionRequest, Any]) -> schemas.UserOut:
    """Cut somebody off everywhere, within a minute. Other operators only an admin may suspend."""
    return _shape(users.suspend(call.caller, call.path["uid"], reason=call.body.reason, now=call.now))


@routes.post("/api/v1/admin/users/{uid}/reinstate", who=Permission.USERS_SUSPEND, answer=schemas.UserOut, fresh=True)
def reinstate(call: Call[Any, Any]) -> schemas.UserOut:
    """End a suspension."""
    return _shape(users.reinstate(call.caller, call.path["uid"], now=call.now))


@routes.post("/api/v1/admin/users/{uid}/sign-out", who=Permission.USERS_SUSPEND, answer=schemas.UserOut, fresh=True)
def sign_out(call: Call[Any, Any]) -> schemas.UserOut:
    """End every session and sign-in of somebody. Their API keys stay."""
    return _shape(users.sign_out_everywhere(call.caller, call.path["uid"], now=call.now))


@routes.get("/api/v1/admin/models", who=Permission.MODELS_MANAGE, fresh=True, answer=model_schemas.ReviewedModels)
def list_models(call: Call[Any, Any]) -> model_schemas.ReviewedModels:  # noqa: ARG001  # every handler takes the call
    """Every model of the catalogue, by id, with what was decided about it and about all of them."""
    reviewed, defaults = models.review()
    return model_schemas.ReviewedModels(
        items=[_reviewed(one) for one in reviewed], defaults=model_schemas.ModelDefaults.of(defaults)
    )


@routes.put(
    "/api/v1/admin/models",
    who=Permission.MODELS_MANAGE,
    body=model_schemas.ModelPolicyChange,
    answer=model_schemas.ReviewedModel,
    fresh=True,
    max_body_bytes=_MAX_BODY_BYTES,
)
def set_model_policy(call: Call[model_schemas.ModelPolicyChange, Any]) -> model_schemas.ReviewedModel:
    """Decide about one model: who may ask it, at which mark-up, with which limits, and what stands in for it.

    Replaces all that was decided about it, and holds everywhere within a minute.
    """
    return _reviewed(models.set_policy(call.caller, call.body.model, call.body.to_policy(), now=call.now))


@routes.get(
    "/api/v1/admin/models/defaults", who=Permission.MODELS_MANAGE, fresh=True, answer=model_schemas.ModelDefaults
)
def get_model_defaults(call: Call[Any, Any]) -> model_schemas.ModelDefaults:  # noqa: ARG001  # as above
    """What was decided about all models, or what holds until somebody does."""
    return model_schemas.ModelDefaults.of(models.get_defaults())


@routes.put(
    "/api/v1/admin/models/defaults",
    who=Permission.MODELS_MANAGE,
    body=model_schemas.ModelDefaults,
    answer=model_schemas.ModelDefaults,
    fresh=True,
    max_body_bytes=_MAX_BODY_BYTES,
)
def set_model_defaults(call: Call[model_schemas.ModelDefaults, Any]) -> model_schemas.ModelDefaults:
    """Decide about all models: which each plan may ask, the default of each plan, the mark-up.

    Replaces all of it, and holds everywhere within a minute.
    """
    decided = models.set_defaults(call.caller, call.body.to_defaults(), now=call.now)
    return model_schemas.ModelDefaults.of(decided)


def _reviewed(reviewed: Reviewed) -> model_schemas.ReviewedModel:
    offer = reviewed.offer
    return model_schemas.ReviewedModel(
        id=offer.slug,
        name=offer.name,
        canonical_slug=offer.canonical_slug,
        context_tokens=offer.context_tokens,
        max_answer_tokens=offer.max_answer_tokens,
        highest_prompt_usd_per_million=decimal_text(per_million(offer.prompt_usd)),
        highest_completion_usd_per_million=decimal_text(per_million(offer.completion_usd)),
        needs_plan=reviewed.needs_plan,
        markup_percent=reviewed.markup_percent,
        policy=model_schemas.ModelPolicy.of(reviewed.policy),
    )


def _shape(user: User) -> schemas.UserOut:
    return schemas.UserOut(
        uid=user.uid,
        username=user.username,
        display_name=user.display_name,
        email=user.email,
        email_verified=user.email_verified,
        role=user.role,
        status=Status(user.status),
        plan=user.plan,
        created_at=user.created_at,
        updated_at=user.updated_at,
        signed_out_at=user.valid_since,
        suspension=schemas.SuspensionOut(**asdict(user.suspension)) if user.suspension else None,
    )


admin = http_function("admin", routes)
