"""User names stay unique and belong to somebody, whoever takes them at the same time."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.users import service
from shared.clock import utc_now
from shared.errors import AppError, Conflict, Unavailable
from tests.store.users.support import fresh_name, open_account, owner_of, reservations_of

WANT_ONE = 16


def rename(somebody, name):
    """The name the account has then, or the error."""
    try:
        return service.change_profile(somebody.uid, {"username": name}, now=utc_now()).username
    except AppError as error:
        return error


def all_at_once(calls):
    barrier = Barrier(len(calls))

    def run(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_of_many_who_want_one_name_one_gets_it():
    name = fresh_name()
    people = [open_account() for _ in range(WANT_ONE)]

    outcomes = all_at_once([lambda one=one: rename(one, name) for one in people])

    assert outcomes.count(name) == 1
    assert all(isinstance(outcome, Conflict) for outcome in outcomes if outcome != name)
    owner = people[outcomes.index(name)]
    assert owner_of(name) == owner.uid
    assert [one.uid for one in people if one.document()["username"] == name] == [owner.uid]


def test_one_user_who_renames_twice_at_once_holds_exactly_one_name():
    somebody = open_account()
    names = [fresh_name() for _ in range(6)]

    outcomes = all_at_once([lambda name=name: rename(somebody, name) for name in names])

    assert any(outcome in names for outcome in outcomes)
    assert all(outcome in names or isinstance(outcome, Unavailable) for outcome in outcomes)
    assert reservations_of(somebody.uid) == [somebody.document()["username"]]


def test_one_user_who_asks_for_one_name_many_times_at_once_is_never_told_that_it_is_taken():
    somebody, name = open_account(), fresh_name()

    outcomes = all_at_once([lambda: rename(somebody, name)] * 6)

    assert all(outcome == name or isinstance(outcome, Unavailable) for outcome in outcomes)
    assert name in outcomes
    assert reservations_of(somebody.uid) == [name]


def test_two_who_swap_names_never_lose_one():
    ada, bob = open_account(), open_account()
    first, second = fresh_name(), fresh_name()
    assert (rename(ada, first), rename(bob, second)) == (first, second)

    all_at_once([lambda: rename(ada, second), lambda: rename(bob, first)])

    for somebody in (ada, bob):
        assert reservations_of(somebody.uid) == [somebody.document()["username"]]


_runs = count()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wishes=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=2, max_size=8))
def test_any_crowd_leaves_one_owner_per_name(wishes):
    """Three people, four names, any wishes at once: every reservation is somebody's name and the other way round."""
    prefix = fresh_name()[:16]
    people = [open_account() for _ in range(3)]
    run = next(_runs)
    names = [f"{prefix}.{run}{letter}" for letter in "abcd"]

    all_at_once([lambda who=who, what=what: rename(people[who], names[what]) for who, what in wishes])

    held = {name: owner for name in names if (owner := owner_of(name))}
    used = {one.document()["username"]: one.uid for one in people}
    assert held == {name: owner for name, owner in used.items() if not name.startswith("user_")}
