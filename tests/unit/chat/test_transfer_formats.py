"""What files of other products become, and what becomes of files that are made to do harm."""

import gzip
import io
import json
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.transfer import formats
from functions.chat.transfer.domain import (
    MAX_ENTRIES,
    MAX_MESSAGES,
    MAX_SYSTEM_PROMPT_CHARS,
    MAX_TEXT_CHARS,
    Problems,
    Unreadable,
    conversation_id,
    converted,
)
from functions.chat.transfer.reading import parsed
from shared.errors import InvalidRequest

SAMPLES = Path(__file__).parent / "imports"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def sample(name):
    return parsed((SAMPLES / name).read_bytes())


def taken_in(content):
    """Every conversation of a file as it is going to be here."""
    sources = [formats.read(item, place) for place, item in formats.items_of(content)]
    return [converted(source, conversation_id("ada", source), now=NOW) for source in sources]


def problems_of(content):
    found = []
    for place, item in formats.items_of(content):
        source = formats.read(item, place)
        converted(source, "conv_1", now=NOW)
        found += [(each.place, each.message) for each in source.problems.kept]
    return found


def tree(conversation):
    """Each text with the one it follows."""
    texts = {message.id: message.text for message in conversation.messages}
    return {(texts.get(message.parent_id), message.role, message.text) for message in conversation.messages}


def text_at(conversation, message_id):
    return next(message.text for message in conversation.messages if message.id == message_id)


def chatgpt(mapping, **more):
    return {"title": "t", "conversation_id": "c", "mapping": mapping, **more}


def node(text, parent=None, role="user", **message):
    content = {"content_type": "text", "parts": [text]}
    return {"parent": parent, "children": [], "message": {"author": {"role": role}, "content": content, **message}}


# What they become


def test_a_chatgpt_conversation_keeps_its_branches_without_what_was_hidden():
    first, _ = taken_in(sample("chatgpt.json"))
    question = "[image: sky.png]\n\nWhy is the sky in this picture blue?\n\n[file: notes.pdf]"
    assert tree(first) == {
        (None, "user", question),
        (question, "assistant", "Because of Rayleigh scattering."),
        (question, "assistant", "Air scatters blue light more."),
        ("Because of Rayleigh scattering.", "user", "And at sunset? 🌇"),
    }
    assert problems_of(sample("chatgpt.json")) == []


def test_a_chatgpt_conversation_keeps_title_times_model_and_its_place():
    first, second = taken_in(sample("chatgpt.json"))
    assert (first.title, first.pinned, first.archived, first.model) == ("Why the sky is blue", True, False, "gpt-4o")
    assert first.created_at == datetime.fromtimestamp(1714557600.5, UTC)
    assert first.updated_at == datetime.fromtimestamp(1714561200.25, UTC)
    assert [message.at.timestamp() for message in first.messages] == [1714557601, 1714557604, 1714557700, 1714557650]
    assert (second.title, second.archived, second.system_prompt) == ("Imported conversation", True, "Answer in verse.")


def test_the_tip_of_a_chatgpt_conversation_is_its_current_node_or_the_nearest_message_before_it():
    first, second = taken_in(sample("chatgpt.json"))
    assert text_at(first, first.tip) == "And at sunset? 🌇"
    assert text_at(second, second.tip) == "Hi"


def test_a_librechat_conversation_keeps_its_branches():
    [conversation] = taken_in(sample("librechat_flat.json"))
    question = "How do I sort?\n\n[file: data.csv]"
    assert tree(conversation) == {
        (None, "user", question),
        (question, "assistant", "With `sorted`."),
        (question, "assistant", "With `list.sort`."),
    }
    assert conversation.system_prompt == "Be terse."
    assert text_at(conversation, conversation.tip) == "With `list.sort`."
    assert {message.model for message in conversation.messages} == {None, "gpt-4o", "gpt-4o-mini"}


def test_a_nested_librechat_export_is_the_same_conversation():
    [flat] = taken_in(sample("librechat_flat.json"))
    [nested] = taken_in(sample("librechat_recursive.json"))
    assert nested.id == flat.id
    assert {message.id for message in nested.messages} == {message.id for message in flat.messages}


def test_an_open_webui_chat_keeps_branches_tags_and_its_place():
    [chat] = taken_in(sample("open_webui.json"))
    question = "Soup?\n\n[image: pot.png]"
    assert tree(chat) == {
        (None, "user", question),
        (question, "assistant", "Lentils."),
        (question, "assistant", "Tomatoes."),
    }
    assert (chat.title, chat.tags, chat.archived, chat.pinned) == ("Soup", ("Food", "evening"), True, True)
    assert (chat.system_prompt, chat.model, text_at(chat, chat.tip)) == ("You are a cook.", "qwen", "Tomatoes.")
    assert chat.created_at == datetime(2025, 1, 1, tzinfo=UTC)


def test_a_claude_conversation_is_a_line_of_messages():
    [haiku] = taken_in(sample("claude.json"))
    assert tree(haiku) == {
        (None, "user", "Write a haiku\n\n[file: style.txt]"),
        ("Write a haiku\n\n[file: style.txt]", "assistant", "Old pond"),
    }
    assert haiku.title == "Haiku"


def test_a_single_conversation_needs_no_list_around_it():
    [item, _] = sample("chatgpt.json")
    assert taken_in(item)[0].messages == taken_in([item])[0].messages


def test_the_same_conversation_gets_the_same_id_and_another_user_another_one():
    source = formats.read(sample("claude.json")[0], "")
    assert conversation_id("ada", source) == conversation_id("ada", formats.read(sample("claude.json")[0], "[7]"))
    assert conversation_id("ada", source) != conversation_id("bob", source)


def test_a_conversation_without_an_id_is_known_by_its_content():
    def identity(text):
        item = chatgpt({"a": node(text)})
        del item["conversation_id"]
        return conversation_id("ada", formats.read(item, ""))

    assert identity("one") == identity("one") != identity("two")


# What is made to do harm


def test_circles_are_opened_and_told():
    loop = {"a": node("1", "c"), "b": node("2", "a"), "c": node("3", "b"), "self": node("4", "self")}
    [conversation] = taken_in([chatgpt(loop)])
    assert len(conversation.messages) == 4
    assert sum(message.parent_id is None for message in conversation.messages) == 2
    told = problems_of([chatgpt(loop)])
    assert {place for place, _ in told} == {"[0].mapping.a", "[0].mapping.self"}
    assert all("circle" in message for _, message in told)


def test_a_circle_of_what_is_left_out_does_not_hold_up():
    hidden = {"a": {"parent": "b", "message": None}, "b": {"parent": "a", "message": None}, "c": node("x", "a")}
    [conversation] = taken_in([chatgpt(hidden, current_node="a")])
    assert tree(conversation) == {(None, "user", "x")}
    assert text_at(conversation, conversation.tip) == "x"


def test_a_parent_that_is_not_in_the_file_is_none():
    content = [chatgpt({"a": node("1", "gone")})]
    assert tree(taken_in(content)[0]) == {(None, "user", "1")}
    assert problems_of(content) == [
        ("[0].mapping.a", "follows a message that is not in the file; it begins a branch of its own")
    ]


def test_of_two_messages_with_one_id_the_first_is_taken():
    twice = {"conversationId": "c", "messages": [{"messageId": "m", "text": text, "sender": "User"} for text in "ab"]}
    assert tree(taken_in([twice])[0]) == {(None, "user", "a")}
    assert problems_of([twice]) == [("[0].messages[1]", "has the id of another message; only the first one is taken")]


def test_what_has_the_wrong_type_is_left_out_and_its_place_is_told():
    content = [
        chatgpt(
            {
                "a": {
                    **node("1"),
                    "message": {"author": {"role": "user"}, "content": {"parts": ["1", 7, None, ["x"]]}},
                },
                "b": "text",
                "c": {"parent": "a", "message": 5},
                "d": node("d", "a", role={"x": 1}),
                "e": {"parent": "a", "message": {"author": "user", "content": {"parts": {"0": "x"}}}},
                "__proto__": node("2", "a"),
                "constructor": node("3", "__proto__"),
            }
        )
    ]
    assert tree(taken_in(content)[0]) == {(None, "user", "1"), ("1", "user", "2"), ("2", "user", "3")}
    assert [place for place, _ in problems_of(content)] == [
        "[0].mapping.a.message.content.parts[1]",
        "[0].mapping.a.message.content.parts[3]",
        "[0].mapping.b",
        "[0].mapping.c.message",
        "[0].mapping.d.message.content",
        "[0].mapping.e.message.content.parts",
    ]


def test_a_chain_of_fifty_thousand_messages_is_followed_to_its_end_in_linear_time():
    def chain(length):
        return chatgpt(
            {str(n): node("x", str(n - 1), role="tool") for n in range(length)} | {"end": node("y", "49999")}
        )

    begun = time.process_time()
    [conversation] = taken_in([chain(50_000)])
    assert tree(conversation) == {(None, "user", "y")}
    assert time.process_time() - begun < 20


def test_a_branch_as_deep_as_a_conversation_may_be_large_is_kept():
    deep = chatgpt({str(n): node(str(n), str(n - 1) if n else None) for n in range(MAX_MESSAGES)})
    [conversation] = taken_in([deep])
    assert len(conversation.messages) == MAX_MESSAGES
    assert text_at(conversation, conversation.tip) == str(MAX_MESSAGES - 1)


@pytest.mark.parametrize("count", [MAX_MESSAGES + 1, MAX_ENTRIES + 1])
def test_a_conversation_with_too_many_messages_is_refused_by_name(count):
    mapping = {str(n): {"parent": None, "message": node("x")["message"]} for n in range(count)}
    with pytest.raises(Unreadable, match="more than"):
        taken_in([chatgpt(mapping)])


def test_children_are_older_than_no_parent_of_theirs_and_nothing_lies_in_the_future():
    mapping = {
        "a": node("a", create_time=1714557600),
        "b": node("b", "a", create_time=1714557500),
        "c": node("c", "b", create_time=float("1e12")),
        "d": node("d", "c", create_time="2124-01-01T00:00:00Z"),
        "e": node("e", "d", create_time=True),
        "f": node("f", "e", create_time=10**400),
    }
    [conversation] = taken_in([chatgpt(mapping)])
    times = {message.id: message.at for message in conversation.messages}
    for message in conversation.messages:
        assert message.at <= NOW
        assert message.parent_id is None or times[message.parent_id] < message.at


def test_messages_without_times_keep_the_order_of_the_file():
    content = {"conversationId": "c", "messages": [{"messageId": str(n), "text": str(n)} for n in range(20)]}
    [conversation] = taken_in([content])
    in_time = sorted(conversation.messages, key=lambda message: message.at)
    assert [message.text for message in in_time] == [str(n) for n in range(20)]
    assert len({message.at for message in conversation.messages}) == 20
    assert conversation.messages[-1].at <= NOW


def test_a_huge_text_is_cut_visibly_and_told():
    content = [chatgpt({"a": node("x" * (MAX_TEXT_CHARS + 5))})]
    [message] = taken_in(content)[0].messages
    assert message.text.startswith("x" * MAX_TEXT_CHARS)
    assert message.text.endswith(f"[… cut: {MAX_TEXT_CHARS} of {MAX_TEXT_CHARS + 5} characters]")
    assert problems_of(content)[0][0] == "[0].mapping.a.message.content"


def test_text_that_cannot_be_stored_is_marked():
    [conversation] = taken_in(
        parsed(
            b'[{"mapping": {"\\ud800": {"message": {"author": {"role": "user"}, "content": '
            b'{"parts": ["half \\ud83d"]}}}}, "title": "\\udfff"}]'
        )
    )
    assert tree(conversation) == {(None, "user", "half \ufffd")}
    json.dumps([conversation.title, conversation.id]).encode()


def test_ids_that_differ_only_in_what_cannot_be_stored_stay_apart():
    [conversation] = taken_in([chatgpt({chr(code): node(str(code)) for code in (0xD800, 0xD801)})])
    assert len({message.id for message in conversation.messages}) == 2


def test_a_system_prompt_that_is_too_long_is_left_out_and_told():
    content = [chatgpt({"s": node("x" * (MAX_SYSTEM_PROMPT_CHARS + 1), role="system"), "a": node("1", "s")})]
    assert taken_in(content)[0].system_prompt is None
    assert tree(taken_in(content)[0]) == {(None, "user", "1")}
    assert len(problems_of(content)) == 1


def test_only_the_first_system_message_becomes_the_system_prompt():
    mapping = {"s": node("first", role="system"), "t": node("second", "s", role="system"), "a": node("1", "t")}
    [conversation] = taken_in([chatgpt(mapping)])
    assert conversation.system_prompt == "first"
    assert tree(conversation) == {(None, "user", "1")}


@pytest.mark.parametrize("text", ["\ue200" * 50_000, "\ue200cite" * 20_000])
def test_half_open_citation_marks_do_not_take_forever(text):
    begun = time.process_time()
    taken_in([chatgpt({"a": node(f"{text}x")})])
    assert time.process_time() - begun < 5


def test_problems_are_bounded_and_counted():
    problems = Problems()
    for number in range(1000):
        problems.note("x" * 5000, str(number))
    assert (len(problems.kept), problems.count) == (Problems.KEPT, 1000)
    assert max(len(each.place) for each in problems.kept) <= 200


@pytest.mark.parametrize(
    "item",
    [None, 5, "text", [], {}, {"messages": []}, {"format": "else"}, {"chat": 5}, {"history": {"messages": []}}],
    ids=repr,
)
def test_what_is_no_conversation_is_refused(item):
    assert not formats.is_known(item)
    with pytest.raises(Unreadable, match="not a conversation"):
        formats.read(item, "")


@pytest.mark.parametrize(
    "item",
    [
        {"mapping": []},
        {"mapping": {}},
        {"chat_messages": None},
        {"chat": {"history": 5}},
        {"conversationId": 1, "messages": {}},
        {"messagesTree": [[], 7, {"children": [None]}]},
        {"format": formats.OURS, "version": 2},
        {"format": formats.OURS, "version": 1, "messages": "x"},
    ],
    ids=repr,
)
def test_a_conversation_without_messages_is_refused(item):
    with pytest.raises(Unreadable):
        taken_in([item])


# Bytes


def zipped():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("conversations.json"), "[]")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (zipped(), "ZIP archive: unpack it"),
        (gzip.compress(b"[]", mtime=0), "gzip archive: unpack it"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'["\xff"]', "cannot be read as utf-8"),
        (b"[1,]", "not valid JSON"),
        (b"[NaN]", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[" + b"9" * 5000 + b"]", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"<html>", "not valid JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bytes_that_are_no_json_are_refused_with_the_reason(raw, said):
    with pytest.raises(InvalidRequest, match=said) as refused:
        parsed(raw)
    assert refused.value.fields[0].field == "body"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_json_may_come_in_any_unicode_encoding(encoding):
    assert parsed('[{"title": "Größe 🌇"}]'.encode(encoding)) == [{"title": "Größe 🌇"}]


def test_many_nested_lists_are_no_conversation_and_no_failure():
    content = parsed(b"[" * 200 + b"]" * 200)
    assert [formats.is_known(item) for _, item in formats.items_of(content)] == [False]


# Anything

KNOWN_NAMES = """
    mapping message author role content parts parent children current_node title id conversation_id create_time metadata
    attachments text type chat history messages parentId currentId childrenIds timestamp files tags meta conversationId
    messageId parentMessageId sender isCreatedByUser messagesTree options promptPrefix error chat_messages uuid format
    version conversation settings system_prompt created_at tip params system asset_pointer content_type recipient
"""
NAMES = st.sampled_from(KNOWN_NAMES.split())
WORDS = st.sampled_from(["user", "assistant", "system", "tool", "text", "a", "b", "c", formats.OURS, "multimodal_text"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS | st.just(1)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES | WORDS | st.text(max_size=5), inner, max_size=8),
    max_leaves=60,
)
MESSAGES = st.dictionaries(
    WORDS,
    st.fixed_dictionaries(
        {},
        optional={
            "parent": WORDS | ANY_JSON,
            "children": st.lists(WORDS) | ANY_JSON,
            "message": st.fixed_dictionaries(
                {},
                optional={
                    "author": st.fixed_dictionaries({"role": WORDS | ANY_JSON}) | ANY_JSON,
                    "content": st.fixed_dictionaries({"parts": st.lists(st.text() | ANY_JSON)}) | ANY_JSON,
                    "create_time": st.floats() | ANY_JSON,
                    "metadata": ANY_JSON,
                },
            )
            | ANY_JSON,
        },
    )
    | ANY_JSON,
)
ALMOST = st.fixed_dictionaries(
    {"mapping": MESSAGES}, optional={"title": ANY_JSON, "current_node": WORDS | ANY_JSON, "create_time": ANY_JSON}
)


@given(ANY_JSON | st.lists(ALMOST | ANY_JSON, max_size=4))
def test_any_json_becomes_conversations_or_is_refused(content):
    for place, item in formats.items_of(content):
        formats.title_of(item)
        try:
            source = formats.read(item, place)
            new = converted(source, conversation_id("ada", source), now=NOW)
        except Unreadable:
            continue
        known = set()
        for message in new.messages:
            assert message.parent_id is None or message.parent_id in known, "parents come first"
            assert message.role in ("user", "assistant")
            assert message.text.strip()
            message.text.encode()
            assert message.at <= NOW + timedelta(seconds=1)
            known.add(message.id)
        assert new.tip in known
        assert len(known) == len(new.messages)
        new.title.encode()


@given(st.dictionaries(st.integers(0, 30), st.integers(0, 35), max_size=30), st.sets(st.integers(0, 30)))
def test_whatever_the_parents_are_every_message_with_text_is_kept_once(parents, hidden):
    mapping = {str(n): node("" if n in hidden else f"text {n}", str(parent)) for n, parent in parents.items()}
    visible = [n for n in parents if n not in hidden]
    if not visible:
        with pytest.raises(Unreadable):
            taken_in([chatgpt(mapping)])
        return
    [conversation] = taken_in([chatgpt(mapping)])
    assert sorted(message.text for message in conversation.messages) == sorted(f"text {n}" for n in visible)
