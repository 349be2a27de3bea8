"""Whatever is done to a stored chain, the verifier names the first entry that does not hold; erasing breaks nothing."""

import hashlib
import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.activity.domain import (
    ACCOUNT_ERASED,
    EMPTY,
    GENESIS,
    Entry,
    Head,
    entry_hash,
    erased,
    first_break,
    next_entry,
    personal_hash,
)

Stored = tuple[Entry, str]

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DETAILS = st.dictionaries(
    WORDS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=3,
    ),
    max_size=3,
)
MOMENTS = st.datetimes(timezones=st.just(UTC), min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1))  # noqa: DTZ001  # gets its zone
SALTS = st.binary(min_size=16, max_size=16).map(bytes.hex)
HAPPENINGS = st.fixed_dictionaries(
    {
        "event_id": WORDS,
        "action": WORDS,
        "subject": WORDS,
        "details": DETAILS,
        "salt": SALTS,
        "occurred_at": MOMENTS,
        "trace_id": WORDS,
    }
)


def chained(happenings: list[Any]) -> list[Stored]:
    """A chain as it is stored when nobody meddles."""
    head, chain = EMPTY, []
    for happening in happenings:
        entry = next_entry(head, **happening)
        head = Head(entry.n, entry_hash(entry))
        chain.append((entry, head.hash))
    return chain


def happened(action: str = "a.b", **changes: Any) -> dict[str, Any]:
    """One happening, where which one does not matter."""
    return {
        "event_id": "evt_1",
        "action": action,
        "subject": "s",
        "details": {},
        "salt": "00" * 16,
        "occurred_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "trace_id": "t",
        **changes,
    }


def sealed(chain: list[Stored]) -> list[Stored]:
    """The chain as the erasure of its account leaves it: without content, and a last entry that says so."""
    last, digest = chain[-1]
    explanation = next_entry(Head(last.n, digest), **happened(ACCOUNT_ERASED))
    return [*((erased(entry), stored) for entry, stored in chain), (explanation, entry_hash(explanation))]


CHAINS = st.lists(HAPPENINGS, min_size=1, max_size=4).map(chained)
# Where an entry stands is what matters here, and not what it says; that two say the same happens often.
PLAIN = st.builds(happened, st.sampled_from(["a.b", "c.d"]))
PLAIN_CHAINS = st.lists(PLAIN, min_size=1, max_size=4).map(chained)
LONGER_CHAINS = st.lists(PLAIN, min_size=2, max_size=4).map(chained)


def another(value: Any) -> Any:
    """A value of the same kind that is not the same."""
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, int):
        return value + 1
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    return {**value, "added": 1}


def test_nothing_is_a_whole_chain():
    assert first_break([]) is None


@given(CHAINS)
def test_an_untouched_chain_holds(chain):
    assert first_break(chain) is None
    assert chain[0][0].previous_hash == GENESIS


@given(st.data(), CHAINS, st.sampled_from([field.name for field in fields(Entry)]))
def test_an_edit_of_any_field_is_found_where_it_was_made(data, chain, name):
    at = data.draw(st.integers(0, len(chain) - 1))
    entry, stored_hash = chain[at]
    chain[at] = (replace(entry, **{name: another(getattr(entry, name))}), stored_hash)
    assert first_break(chain) == at + 1


@given(st.data(), LONGER_CHAINS)
def test_an_edit_with_a_mended_hash_is_found_at_the_next_entry(data, chain):
    at = data.draw(st.integers(0, len(chain) - 2))
    forged = replace(chain[at][0], trace_id=chain[at][0].trace_id + "x")
    chain[at] = (forged, entry_hash(forged))
    assert first_break(chain) == at + 2


@given(st.data(), PLAIN_CHAINS)
def test_an_edit_of_a_stored_hash_is_found(data, chain):
    at = data.draw(st.integers(0, len(chain) - 1))
    entry, stored_hash = chain[at]
    chain[at] = (entry, stored_hash[::-1] + "0")
    assert first_break(chain) == at + 1


@given(st.data(), LONGER_CHAINS)
def test_a_removed_entry_is_found_where_it_was(data, chain):
    at = data.draw(st.integers(0, len(chain) - 2))
    del chain[at]
    assert first_break(chain) == at + 1


@given(st.data(), LONGER_CHAINS)
def test_a_chain_without_its_beginning_does_not_hold(data, chain):
    kept_from = data.draw(st.integers(1, len(chain) - 1))
    assert first_break(chain[kept_from:]) == 1


@given(st.data(), LONGER_CHAINS)
def test_swapped_entries_are_found_where_the_first_of_them_stood(data, chain):
    first = data.draw(st.integers(0, len(chain) - 2))
    second = data.draw(st.integers(first + 1, len(chain) - 1))
    chain[first], chain[second] = chain[second], chain[first]
    assert first_break(chain) == first + 1


@given(st.data(), PLAIN_CHAINS)
def test_a_repeated_entry_is_found(data, chain):
    at = data.draw(st.integers(0, len(chain) - 1))
    assert first_break([*chain[: at + 1], *chain[at:]]) == at + 2


@given(st.data(), PLAIN_CHAINS, PLAIN)
def test_an_inserted_entry_is_found_at_once_or_by_the_one_behind_it(data, chain, happening):
    at = data.draw(st.integers(0, len(chain) - 1))
    head = EMPTY if at == 0 else Head(chain[at - 1][0].n, chain[at - 1][1])
    forged = next_entry(head, **happening)
    assert first_break([*chain[:at], (forged, entry_hash(forged)), *chain[at:]]) == at + 2


@given(PLAIN_CHAINS, PLAIN_CHAINS)
def test_another_users_chain_does_not_continue_this_one(chain, other):
    assert first_break([*chain, *other]) == len(chain) + 1


@given(CHAINS)
def test_the_order_of_a_map_does_not_matter(chain):
    for entry, _ in chain:
        assert personal_hash(entry.subject, dict(reversed(entry.details.items())), entry.salt) == entry.personal_hash


def test_the_moment_is_hashed_as_the_database_keeps_it():
    [(entry, _)] = chained([happened()])

    class FromTheDatabase(datetime):
        """Firestore gives a subclass of datetime."""

    again = FromTheDatabase(2026, 3, 1, 12, tzinfo=UTC)
    assert entry_hash(replace(entry, occurred_at=again)) == entry_hash(entry)


def test_what_has_no_canonical_form_is_refused():
    with pytest.raises(AssertionError, match="canonical"):
        next_entry(EMPTY, **happened(details={"x": object()}))


def test_an_entry_is_hashed_over_its_canonical_json():
    salt = "000102030405060708090a0b0c0d0e0f"
    entry = next_entry(
        EMPTY,
        event_id="evt_1",
        action="chat.message.completed",
        subject="conversations/c_1",
        details={"tokens": 3, "model": "ä"},
        salt=salt,
        occurred_at=datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC),
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )
    personal = '{"details":{"model":"\\u00e4","tokens":3},"subject":"conversations/c_1"}'
    assert entry.personal_hash == hashlib.sha256(bytes.fromhex(salt) + personal.encode()).hexdigest()
    canonical = (
        '{"action":"chat.message.completed","event_id":"evt_1","n":1,'
        '"occurred_at":"2026-03-01T12:00:00.000005+00:00",'
        f'"personal_hash":"{entry.personal_hash}","previous_hash":"{GENESIS}",'
        '"trace_id":"0af7651916cd43dd8448eb211c80319c"}'
    )
    assert entry_hash(entry) == hashlib.sha256(canonical.encode()).hexdigest()


@given(CHAINS)
def test_an_erased_chain_holds(chain):
    assert first_break(sealed(chain)) is None


@given(CHAINS)
def test_an_erased_entry_keeps_its_hash_and_nothing_that_it_said(chain):
    for entry, stored_hash in chain:
        gone = erased(entry)
        assert gone.is_erased
        assert entry_hash(gone) == stored_hash
        kept = {field.name for field in fields(Entry) if getattr(gone, field.name) is not None}
        assert not kept & {"subject", "details", "salt"}


@given(SALTS, SALTS)
def test_without_the_salt_a_guess_of_the_content_cannot_be_confirmed(salt, other):
    guessed = personal_hash("conversations/c_1", {"tokens": 3}, other)
    assert (personal_hash("conversations/c_1", {"tokens": 3}, salt) == guessed) == (salt == other)
    unsalted = json.dumps({"details": {"tokens": 3}, "subject": "conversations/c_1"}, separators=(",", ":"))
    assert personal_hash("conversations/c_1", {"tokens": 3}, salt) != hashlib.sha256(unsalted.encode()).hexdigest()


@given(st.data(), CHAINS)
def test_content_that_went_without_an_erasure_is_found(data, chain):
    at = data.draw(st.integers(0, len(chain) - 1))
    entry, stored_hash = chain[at]
    chain[at] = (erased(entry), stored_hash)
    assert first_break(chain) == at + 1


@given(st.data(), CHAINS, st.sampled_from(["subject", "details", "salt"]))
def test_content_that_went_in_part_is_found_even_in_an_erased_account(data, chain, name):
    at = data.draw(st.integers(0, len(chain) - 1))
    entry, stored_hash = chain[at]
    whole = sealed(chain)
    whole[at] = (replace(entry, **{name: None}), stored_hash)
    assert first_break(whole) == at + 1


def test_content_that_went_after_the_erasure_is_found():
    chain = sealed(chained([happened()]))
    last, digest = chain[-1]
    later = next_entry(Head(last.n, digest), **happened())
    assert first_break([*chain, (erased(later), entry_hash(later))]) == 3


@given(st.data(), LONGER_CHAINS)
def test_an_edit_of_an_erased_chain_is_found_where_it_was_made(data, chain):
    at = data.draw(st.integers(0, len(chain) - 1))
    whole = sealed(chain)
    entry, stored_hash = whole[at]
    whole[at] = (replace(entry, action=entry.action + "x"), stored_hash)
    assert first_break(whole) == at + 1


def test_a_salt_that_is_no_longer_one_is_found():
    [(entry, stored_hash)] = chained([happened()])
    assert first_break([(replace(entry, salt="not hexadecimal"), stored_hash)]) == 1
