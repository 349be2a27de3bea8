"""Appoints an admin from the command line: the first one, whom no other admin can appoint.

    GCLOUD_PROJECT=my-project python -m functions.users.appoint somebody@example.com

Whoever may write the project's database may do this; it is told on the account's log like every other change.
"""

import sys

from functions.users import service
from shared.clock import utc_now
from shared.errors import AppError
from shared.identity.caller import Caller
from shared.identity.permissions import Role

BY = Caller(uid="command-line", role=Role.ADMIN)


def appoint(email: str) -> str:
    """The user id of the new admin. Raises LookupError when nobody with this address has an account."""
    user = service.find_by_email(email)
    if user is None:
        raise LookupError("Nobody with this address has an account: sign in once, then try again.")
    return service.set_role(BY, user.uid, Role.ADMIN, reason="Appointed from the command line", now=utc_now()).uid


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m functions.users.appoint EMAIL\n")
        return 2
    try:
        uid = appoint(arguments[0])
    except (AppError, LookupError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{uid} is an admin now.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
