"""Rules of accounts: what a user name is, what a text about oneself may hold, who may act on whom. Pure."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.identity.permissions import GRANTED, Role
from shared.texts import JOINERS, is_unseen, shows_something

USERNAME_CHARS = (3, 30)
SIGN_IN_AGE = timedelta(minutes=5)
"""How long ago somebody may have signed in who ends their account."""
MAX_AVATAR_BYTES = 5 * 1024 * 1024

_USERNAME = re.compile(r"[a-z](?:[._]?[a-z0-9])*")
_DEFAULT_PREFIX = "user_"
_RESERVED = frozenset(
    """
    about abuse account accounts admin administrator administrators admins anonymous api app auth billing blog bot
    callback careers chat craftpilot craftpilotai contact copyright dashboard deleted demo dev developer docs email
    everyone example faq feedback guest guests health help helpdesk hostmaster image images info legal login logout
    mail me member members memory mod moderator moderators mods news nobody noreply notifications null official
    operator operators owner password payment payments postmaster press pricing privacy profile register root sales
    search security self service settings share shared signin signout signup somebody someone staff status subscription
    subscriptions superuser support sysadmin system team terms test undefined unknown user username users verified
    webhook webhooks webmaster www you
    """.split()  # noqa: SIM905  # a list of a hundred quoted words is harder to read
)


@dataclass(frozen=True)
class Avatar:
    id: str
    content_type: str
    size_bytes: int


@dataclass(frozen=True)
class Suspension:
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True)
class User:
    """An account as `users/{uid}` holds it."""

    uid: str
    role: Role
    status: str
    plan: str
    username: str
    email: str | None
    email_verified: bool
    display_name: str | None
    photo_url: str | None
    """What the identity provider shows; an avatar of ours goes before it."""
    bio: str | None
    avatar: Avatar | None
    created_at: datetime
    updated_at: datetime
    valid_since: datetime | None
    suspension: Suspension | None
    export_job_id: str | None
    """The newest export."""
    erasure_job_id: str | None
    open_upload_id: str | None = None
    """The newest link for an upload, while it is not completed."""


def as_username(text: str) -> str:
    """The user name that was meant, in the one spelling it is stored, compared and shown in.

    Compatibility forms and capitals are folded; after that nothing but a-z, 0-9 and single separators is left, so two
    different names never look alike. Raises ValueError saying what is wrong.
    """
    name = unicodedata.normalize("NFKC", text)
    if not name.isascii():
        raise ValueError("may hold only a-z, 0-9, _ and .")
    name = name.lower()
    shortest, longest = USERNAME_CHARS
    if not shortest <= len(name) <= longest:
        raise ValueError(f"must have {shortest} to {longest} characters")
    if not _USERNAME.fullmatch(name):
        raise ValueError("must begin with a letter and may hold only a-z, 0-9, and single _ or . between them")
    return name


def is_reserved(username: str) -> bool:
    """Whether nobody can choose the name: it speaks for the product, or belongs to those who chose none."""
    bare = username.replace("_", "").replace(".", "")
    return username.startswith(_DEFAULT_PREFIX) or bare in _RESERVED or bare.rstrip("0123456789") in _RESERVED


def needs_reservation(username: str) -> bool:
    """Default names are derived from the user id, so two users never have the same one."""
    return not username.startswith(_DEFAULT_PREFIX)


def as_line(text: str) -> str:
    """A text of one line, without what cannot be seen. Raises ValueError."""
    return _clean(text, allowed=JOINERS)


def as_paragraphs(text: str) -> str:
    """A text that may have several lines. Raises ValueError."""
    return _clean(text.replace("\r\n", "\n"), allowed=f"{JOINERS}\n")


def _clean(text: str, *, allowed: str) -> str:
    cleaned = unicodedata.normalize("NFC", text).strip()
    if not cleaned:
        raise ValueError("must not be empty; send null to remove it")
    if any(is_unseen(character) and character not in allowed for character in cleaned) or not shows_something(cleaned):
        raise ValueError("must not hold control characters or other invisible ones")
    return cleaned


def may_act_on(operator: Role, target: Role) -> bool:
    """Whether an operator may suspend somebody or sign them out: users all may, other operators only admins."""
    return target is Role.USER or operator is Role.ADMIN


def takes_power(old: Role, new: Role) -> bool:
    """Whether the new role lacks something that the old one had, so that what was proved before must not last."""
    return not GRANTED[old] <= GRANTED[new]


def signed_in_recently(proved_at: datetime | None, now: datetime) -> bool:
    return proved_at is not None and now - proved_at <= SIGN_IN_AGE
