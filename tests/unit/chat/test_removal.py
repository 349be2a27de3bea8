"""Which messages go with one, and in which order."""

from hypothesis import given
from hypothesis import strategies as st

from functions.chat.removal import branch_from


@st.composite
def trees(draw) -> dict[str, str | None]:
    """Messages in any order; some follow ones that are not there."""
    size = draw(st.integers(1, 30))
    parents: dict[str, str | None] = {"m0": None}
    for number in range(1, size):
        parents[f"m{number}"] = draw(st.sampled_from([None, "gone", *parents]))
    return dict(draw(st.permutations(list(parents.items()))))


@given(trees(), st.data())
def test_a_branch_is_the_message_and_what_follows_it_each_after_what_follows_it(parents, data):
    start = data.draw(st.sampled_from(sorted(parents)))
    branch = branch_from(start, parents)

    def is_below(message: str | None) -> bool:
        while message is not None and message != start:
            message = parents.get(message)
        return message is not None

    assert sorted(branch) == sorted(message for message in parents if is_below(message))
    assert branch[-1] == start
    places = {message: place for place, message in enumerate(branch)}
    assert all(places[message] < places[parents[message]] for message in branch if message != start)


def test_a_circle_ends():
    assert sorted(branch_from("a", {"a": "b", "b": "a"})) == ["a", "b"]


def test_a_branch_as_deep_as_the_longest_conversation_is_followed():
    parents = {f"m{n}": f"m{n - 1}" if n else None for n in range(20_000)}
    assert branch_from("m0", parents) == [f"m{n}" for n in reversed(range(20_000))]
