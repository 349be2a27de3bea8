"""What the words of a text are: every script, every spelling, and where they stand."""
# ruff: noqa: RUF001  # letters that look like others are what is tested

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.search.words import MAX_WORD_CHARS, fold, words

TEXTS = st.text(max_size=200)
WRITTEN = st.text(
    alphabet=st.sampled_from("aZéİıßØŁñŒ01_-./ \n'’Σςσ中文字ひラパｶﾞ서울ไทยَلعשָׁहिन्दी́̃🎉👩\u200d\u200b\u00ad½ﬁ"),
    max_size=80,
)


def forms(text: str) -> list[str]:
    return [word.text for word in words(text)]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("Ärger NAÏVE Łódź Straße", ["arger", "naive", "lodz", "strasse"]),
        ("İSTANBUL ışık ISPARTA", ["istanbul", "isik", "isparta"]),
        ("Ёлка Київ", ["елка", "киів"]),
        ("ΟΔΥΣΣΕΎΣ Οδυσσεύς", ["οδυσσευσ", "οδυσσευσ"]),
        ("العَرَبِيَّة أهـــلا", ["العربية", "اهلا"]),
        ("שָׁלוֹם עולם", ["שלום", "עולם"]),
        ("हिन्दी में खोज।", ["हिन्दी", "में", "खोज"]),
        ("東京大学", ["東", "京", "大", "学"]),
        ("ﾊﾟﾝ", ["パ", "ン"]),
        ("서울", ["서", "울"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("user_id v1.2 a-b c/d", ["user", "id", "v1", "2", "a", "b", "c", "d"]),
        ("C++ and C# but f(c)", ["c++", "and", "c#", "but", "f", "c"]),
        ("co\u00adoperate ﬁne", ["cooperate", "fine"]),
        ("🎉 party", ["🎉", "party"]),
        ("?! … —", []),
    ],
)
def test_the_words_of_many_scripts_are_found(written, found):
    assert forms(written) == found


@pytest.mark.parametrize(
    ("written", "pieces"),
    [
        ("getUserName", ("getusername", "get", "user", "name")),
        ("HTTPServer", ("httpserver", "http", "server")),
        ("USA", ("usa",)),
        ("Berlin", ("berlin",)),
        ("C++", ("c++", "c")),
        ("ŁadnaŻaba", ("ladnazaba", "ladna", "zaba")),
    ],
)
def test_a_word_is_also_found_by_its_pieces(written, pieces):
    assert words(written)[0].forms == pieces


@given(TEXTS | WRITTEN)
def test_folding_again_changes_nothing(text):
    assert fold(fold(text)) == fold(text)


def test_folding_any_one_character_again_changes_nothing():
    folded = {fold(chr(code)) for code in range(0x20000) if not 0xD800 <= code < 0xE000}
    assert [each for each in folded if fold(each) != each] == []


@given(TEXTS | WRITTEN)
def test_capitals_and_ways_to_put_characters_together_do_not_matter(text):
    expected = forms(text)
    assert forms(unicodedata.normalize("NFD", text)) == expected
    assert forms(unicodedata.normalize("NFC", text)) == expected


@given(TEXTS | WRITTEN)
def test_words_stand_in_the_text_in_order_and_are_what_stands_there(text):
    end_before = start_before = 0
    for word in words(text):
        assert 0 <= word.start < word.end <= len(text)
        assert start_before <= word.start
        assert end_before <= word.end
        assert word.text[:MAX_WORD_CHARS] in fold(text[word.start : word.end])
        assert all(0 < len(form) <= MAX_WORD_CHARS for form in word.forms)
        start_before, end_before = word.start, word.end


def test_a_pile_of_marks_is_read_in_time_that_grows_with_its_height_only():
    pile = "a" + "\u0301\u0323" * 50_000
    assert forms(pile) == ["a"]


def test_a_word_without_end_is_cut():
    assert forms("x" * 100_000) == ["x" * MAX_WORD_CHARS]
