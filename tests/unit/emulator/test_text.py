"""Words of the stand-in: deterministic, readable, and counted in a way a client can rely on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter import chat_request, text

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(ANY_TEXT)
def test_tokens_join_to_the_text_again(words):
    assert "".join(text.tokenize(words)) == words


@given(ANY_TEXT)
def test_there_are_never_more_tokens_than_bytes(words):
    assert text.count_tokens(words) <= len(words.encode())


def test_a_token_is_about_four_characters_of_prose():
    prose = " ".join(text.reply(f"subject {number}", text.seeded(str(number))) for number in range(20))
    assert 3.5 < len(prose) / text.count_tokens(prose) < 5.5


@given(
    st.lists(st.tuples(st.sampled_from(["system", "developer", "user", "assistant"]), ANY_TEXT), min_size=1, max_size=8)
)
def test_a_prompt_is_never_more_tokens_than_its_bytes_and_eight_a_message(messages):
    body = {"model": "m", "messages": [{"role": role, "content": content} for role, content in messages]}
    limit = sum(len(content.encode()) + 8 for _, content in messages)
    assert chat_request.read(body).prompt_tokens <= limit


@given(ANY_TEXT, st.integers())
def test_a_reply_has_40_to_120_words_and_letters_outside_ascii(asked, seed):
    said = text.reply(asked, text.seeded(asked, str(seed)))
    assert 40 <= len(said.split()) <= 120
    assert not said.isascii()


@given(ANY_TEXT)
def test_a_reply_is_the_same_for_the_same_seed(asked):
    assert text.reply(asked, text.seeded(asked)) == text.reply(asked, text.seeded(asked))


def test_a_reply_names_what_was_asked():
    assert "the ferries of Istanbul" in text.reply("Tell me about the ferries of Istanbul!", text.seeded("x"))


def test_replies_differ_with_the_seed():
    assert len({text.reply("x", text.seeded(str(seed))) for seed in range(20)}) > 10


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("/say Merhaba dünya 👋", "Merhaba dünya 👋"),
        ("Some context first\n/say only this\nand more after", "only this"),
        ("/repeat 3 ping", "ping ping ping"),
        ("/tokens 0", ""),
        ("/tokens many", None),
        ("/repeat x", None),
        ("please /say nothing", None),
        ("Hello", None),
    ],
)
def test_a_directive_on_its_own_line_decides_the_words(message, said):
    assert text.forced(message) == said


@given(st.integers(0, 5000))
def test_the_tokens_directive_gives_exactly_so_many(count):
    forced = text.forced(f"/tokens {count}")
    assert forced is not None
    assert text.count_tokens(forced) == count


def test_half_a_surrogate_pair_becomes_something_that_can_be_sent():
    smuggled = json.loads('"half \\ud83d of it"')
    assert text.clean(smuggled) == "half ? of it"


def test_the_first_stop_sequence_cuts():
    assert text.cut_at_stop("one two three", ("three", " two", "")) == "one"
    assert text.cut_at_stop("one two three", ()) == "one two three"
