"""The same accounts and operators as in the tests of the users function."""

from tests.store.users.conftest import auth, only_admins, operator, someone

__all__ = ["auth", "only_admins", "operator", "someone"]
