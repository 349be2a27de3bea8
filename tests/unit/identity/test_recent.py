"""What a process remembers for a moment: never too long, never too much."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.identity.recent import Recent

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def recent(size=3):
    return Recent[str](size=size, keep=30 * SECOND)


def test_what_was_learned_is_known_until_it_lapses():
    known = recent()
    known.put("a", "x", NOW)
    assert known.get("a", NOW + 29 * SECOND) == "x"
    assert known.get("a", NOW + 30 * SECOND) is None
    assert known.get("a", NOW) is None, "what lapsed does not come back"


def test_being_asked_for_does_not_prolong_it():
    known = recent()
    known.put("a", "x", NOW)
    for second in range(30):
        known.get("a", NOW + second * SECOND)
    assert known.get("a", NOW + 31 * SECOND) is None


def test_a_clock_that_is_set_back_prolongs_nothing():
    known = recent()
    known.put("a", "x", NOW)
    assert known.get("a", NOW - 3600 * SECOND) is None


def test_a_request_that_began_a_moment_earlier_knows_it_too():
    known = recent()
    known.put("a", "x", NOW)
    assert known.get("a", NOW - SECOND) == "x"


def test_what_was_used_longest_ago_goes_first():
    known = recent(size=2)
    known.put("a", "x", NOW)
    known.put("b", "y", NOW)
    known.get("a", NOW)
    known.put("c", "z", NOW)
    assert [known.get(key, NOW) for key in "abc"] == ["x", None, "z"]


def test_what_is_dropped_is_forgotten():
    known = recent()
    known.put("a", "x", NOW)
    known.drop("a")
    known.drop("never there")
    assert known.get("a", NOW) is None


def test_only_the_first_of_many_adds():
    known = recent()
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda number: known.add("a", str(number), NOW), range(200)))
    assert added.count(True) == 1
    assert known.add("a", "again", NOW + 31 * SECOND), "after it lapsed it can be added anew"


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 100))), st.integers(1, 4))
def test_it_never_holds_more_than_its_size_nor_gives_what_is_too_old(steps, size):
    known = Recent[int](size=size, keep=30 * SECOND)
    put_at: dict[str, int] = {}
    for key, second in steps:
        now = NOW + second * SECOND
        if (value := known.get(key, now)) is not None:
            assert abs(value - second) < 30
            assert value == put_at[key]
        known.put(key, second, now)
        put_at[key] = second
        assert len(known) <= size


def test_what_is_changed_lapses_when_it_would_have():
    recent = Recent[int](size=2, keep=timedelta(seconds=5))
    recent.change("a", lambda known: known + 1, NOW)
    assert recent.get("a", NOW) is None
    recent.put("a", 1, NOW)
    recent.change("a", lambda known: known + 1, NOW + timedelta(seconds=4))
    assert recent.get("a", NOW + timedelta(seconds=4)) == 2
    assert recent.get("a", NOW + timedelta(seconds=5)) is None
