"""Everything the product holds about a user: what each capability declares, and what no single one of them does.

In the order of erasure. The account itself comes last: while it is there, it says that it is being erased.
"""

from functions.access.holdings import HOLDINGS as ACCESS
from functions.activity.holdings import HOLDINGS as ACTIVITY
from functions.analytics.holdings import HOLDINGS as ANALYTICS
from functions.chat.holdings import HOLDINGS as CHAT
from functions.credits.holdings import HOLDINGS as CREDITS
from functions.models.holdings import HOLDINGS as MODELS
from functions.openai_api.holdings import HOLDINGS as OPENAI_API
from functions.users.holdings import HOLDINGS as USERS
from shared.holdings import CacheKeys, Documents, Erasure, Files, Holding, NothingPersonal

CREDENTIALS = tuple(each for each in ACCESS if isinstance(each, Documents))
"""What gets somebody in: it goes first."""

_SHARED: tuple[Holding, ...] = (
    Documents("events", archive="events.json"),
    Documents("idempotency", archive=None, left_out_because="sealed copies of answers, gone after a day"),
    CacheKeys("limits:{{all}}:*:{uid}"),
    NothingPersonal("processed", because="which events were consumed, by the events' random ids"),
    NothingPersonal("erased_accounts", because="hashes of the ids of users who are gone, to keep them gone"),
)

# The security rules know these; whoever comes to write them takes the declaration along.
_SUBSCRIPTIONS: tuple[Holding, ...] = (
    Documents("subscriptions/{uid}", archive="subscription.json"),
    NothingPersonal("plans", because="the price list"),
)

_PRIVACY: tuple[Holding, ...] = (
    # The job that erases all others ends as one that names nobody.
    Documents("privacy_jobs", archive="requests.json", erasure=Erasure.OWN_WAY),
    Files("exports/{uid}/", archive=None, left_out_because="earlier archives of the same"),
)

HOLDINGS: tuple[Holding, ...] = (
    *ACCESS,
    *CHAT,
    *MODELS,
    *OPENAI_API,
    *CREDITS,
    *ANALYTICS,
    *ACTIVITY,
    *_SUBSCRIPTIONS,
    *_SHARED,
    *_PRIVACY,
    *USERS,
)

DOCUMENTS = tuple(each for each in HOLDINGS if isinstance(each, Documents))
CACHE_KEYS = tuple(each for each in HOLDINGS if isinstance(each, CacheKeys))
FILES = tuple(each for each in HOLDINGS if isinstance(each, Files))
NOTHING_PERSONAL = tuple(each for each in HOLDINGS if isinstance(each, NothingPersonal))


def apart_from(holding: Documents) -> frozenset[str]:
    """Collections below the document that other holdings name, so that nothing is found twice."""
    below = f"{holding.path}/"
    return frozenset(
        each.path.removeprefix(below).partition("/")[0] for each in DOCUMENTS if each.path.startswith(below)
    )
