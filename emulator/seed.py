"""What a fresh local suite holds: topics, the model catalogue, and one account per kind of user.

Run by the launcher with the suite's environment: `python -m emulator.seed`. Running it again changes nothing.
"""

import sys
from dataclasses import dataclass

from firebase_admin import auth
from google.api_core.exceptions import AlreadyExists

from functions.credits import service as credits
from functions.credits.domain import MICRO_PER_CREDIT
from functions.models import service as models
from functions.openai_api import service as openai_api
from functions.users import service as users
from shared import startup
from shared.clients import firebase_app, publisher
from shared.clock import utc_now
from shared.events import TOPICS
from shared.identity import accounts
from shared.identity.caller import Caller
from shared.identity.permissions import Role
from shared.identity.tokens import Person
from shared.settings import settings

PASSWORD = "craftpilot"  # noqa: S105  # public: the accounts exist in the local suite only
SEED = Caller(uid="seed", role=Role.ADMIN)
"""Who appoints the first admin here."""


@dataclass(frozen=True)
class Account:
    name: str
    credits: int
    plan: str = "free"
    role: Role = Role.USER

    @property
    def email(self) -> str:
        return f"{self.name}@craftpilot.dev"

    @property
    def display_name(self) -> str:
        return self.name.title()

    @property
    def uid(self) -> str:
        return f"seed-{self.name}"


ACCOUNTS = (
    Account("free", credits=500),
    Account("pro", credits=20_000, plan="pro"),
    Account("enterprise", credits=200_000, plan="enterprise"),
    Account("admin", credits=20_000, role=Role.ADMIN),
)


def main() -> None:
    startup.prepare()
    if not settings().in_emulator:
        sys.exit("Refusing to seed: the accounts and their password are public, this is not the local suite.")
    _make_topics()
    print(f"  {models.sync()} models in the catalogue, {openai_api.sync_embedding_models()} that embed")
    for account in ACCOUNTS:
        _make_account(account)
        print(f"  {account.email} with {account.credits:,} credits")


def _make_topics() -> None:
    for topic in TOPICS:
        try:
            publisher().create_topic(name=publisher().topic_path(settings().project_id, topic))
        except AlreadyExists:
            continue


def _make_account(account: Account) -> None:
    app = firebase_app()
    try:
        auth.create_user(
            uid=account.uid,
            email=account.email,
            password=PASSWORD,
            email_verified=True,
            display_name=account.display_name,
            app=app,
        )
    except auth.UidAlreadyExistsError:
        print(f"  {account.email} is there already")
    now = utc_now()
    person = Person(account.uid, account.email, email_verified=True, display_name=account.display_name)
    accounts.get_or_open(person, now=now)
    users.set_plan(account.uid, account.plan, now=now)
    users.set_role(SEED, account.uid, account.role, reason="An account of the local suite", now=now)
    credits.grant(account.uid, "seed", account.credits * MICRO_PER_CREDIT, source="seed", note="Local suite", now=now)


if __name__ == "__main__":
    main()
