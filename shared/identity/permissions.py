"""What each role may do: one table, deny by default.

A route declares one permission; the pipeline looks it up here. An API key carries a subset of `KEY_SCOPES`, and never
more than its owner's role: what a stolen key must not do (make keys, end the account, administer) is in no scope.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What somebody is. Firestore (`users/{uid}.role`) is the truth, the custom claim `role` its copy for rules."""

    USER = "user"
    SUPPORT = "support"
    MODERATOR = "moderator"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a route needs. Owners reach only their own: routes take the user id from the caller, never from input."""

    PROFILE_READ = "profile:read"
    PROFILE_WRITE = "profile:write"
    ACCOUNT_EXPORT = "account:export"
    ACCOUNT_DELETE = "account:delete"
    KEYS_MANAGE = "keys:manage"
    SESSIONS_MANAGE = "sessions:manage"
    MODELS_READ = "models:read"
    CHAT_READ = "chat:read"
    CHAT_WRITE = "chat:write"
    CREDITS_READ = "credits:read"
    BILLING_READ = "billing:read"
    BILLING_MANAGE = "billing:manage"
    ACTIVITY_READ = "activity:read"
    USERS_READ = "users:read"
    USERS_SUSPEND = "users:suspend"
    USERS_MANAGE = "users:manage"
    MODELS_MANAGE = "models:manage"
    CREDITS_MANAGE = "credits:manage"
    PLANS_MANAGE = "plans:manage"
    BILLING_OPERATE = "billing:operate"
    SYSTEM_READ = "system:read"


_OWN = frozenset(
    {
        Permission.PROFILE_READ,
        Permission.PROFILE_WRITE,
        Permission.ACCOUNT_EXPORT,
        Permission.ACCOUNT_DELETE,
        Permission.KEYS_MANAGE,
        Permission.SESSIONS_MANAGE,
        Permission.MODELS_READ,
        Permission.CHAT_READ,
        Permission.CHAT_WRITE,
        Permission.CREDITS_READ,
        Permission.BILLING_READ,
        Permission.BILLING_MANAGE,
        Permission.ACTIVITY_READ,
    }
)
_SUPPORT = _OWN | {Permission.USERS_READ}
_MODERATOR = _SUPPORT | {Permission.USERS_SUSPEND}
_ADMIN = _MODERATOR | {
    Permission.USERS_MANAGE,
    Permission.MODELS_MANAGE,
    Permission.CREDITS_MANAGE,
    Permission.PLANS_MANAGE,
    Permission.BILLING_OPERATE,
    Permission.SYSTEM_READ,
}

GRANTED: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {Role.USER: _OWN, Role.SUPPORT: _SUPPORT, Role.MODERATOR: _MODERATOR, Role.ADMIN: _ADMIN}
)

KEY_SCOPES = frozenset(
    {
        Permission.PROFILE_READ,
        Permission.MODELS_READ,
        Permission.CHAT_READ,
        Permission.CHAT_WRITE,
        Permission.CREDITS_READ,
        Permission.BILLING_READ,
        Permission.ACTIVITY_READ,
    }
)
