"""The table of roles and permissions, and what a key adds to it: only ever less."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.identity.caller import Caller, KeyGrant
from shared.identity.permissions import GRANTED, KEY_SCOPES, Permission, Role


def key(*scopes):
    return KeyGrant(
        id="key_1", scopes=frozenset(scopes), allowed_models=None, monthly_limit_micro=None, budget_id="key_1"
    )


def test_every_role_is_in_the_table():
    assert set(GRANTED) == set(Role)


def test_each_role_may_all_that_the_one_below_may_and_more():
    ranks = [GRANTED[role] for role in (Role.USER, Role.SUPPORT, Role.MODERATOR, Role.ADMIN)]
    for lower, higher in pairwise(ranks):
        assert lower < higher


def test_every_permission_is_somebodys():
    assert frozenset().union(*GRANTED.values()) == set(Permission)


@pytest.mark.parametrize(
    "permission",
    [
        Permission.KEYS_MANAGE,
        Permission.SESSIONS_MANAGE,
        Permission.ACCOUNT_DELETE,
        Permission.ACCOUNT_EXPORT,
        Permission.USERS_READ,
        Permission.USERS_SUSPEND,
        Permission.USERS_MANAGE,
        Permission.MODELS_MANAGE,
        Permission.SYSTEM_READ,
    ],
)
def test_no_key_can_carry_what_a_stolen_one_must_not_do(permission):
    assert permission not in KEY_SCOPES


@given(st.sampled_from(Role), st.sets(st.sampled_from(Permission)), st.sampled_from(Permission))
def test_a_key_never_allows_more_than_its_owner_and_its_scopes(role, scopes, permission):
    with_key = Caller(uid="u", role=role, key=key(*scopes))
    assert with_key.may(permission) == (permission in scopes and Caller(uid="u", role=role).may(permission))


def test_a_key_without_scopes_allows_nothing():
    assert not any(Caller(uid="u", role=Role.ADMIN, key=key()).may(permission) for permission in Permission)
