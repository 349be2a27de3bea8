"""Deterministic words: the tokenizer, the replies, and the directives a test may put into a message."""

# ruff: noqa: RUF001 - Turkish letters that look like others are the point here

from __future__ import annotations

import json
import re
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FORCED_TOKENS: Final = 200_000
_TOKEN: Final = re.compile(r"\s?\S{1,5}|\s+")
_DIRECTIVE: Final = re.compile(r"^[ \t]*/(say|tokens|repeat)[ \t]+(.+?)\r?$", re.MULTILINE)
_REPEAT: Final = re.compile(r"(\d{1,6})[ \t]+(\S+)")
_LEAD_IN: Final = re.compile(
    r"^\s*(?:please |can you |could you )*"
    r"(?:tell me about|explain|describe|what is|what are|who is|who are|write about|write|draw|help me with)\s+",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[\w'’-]+")
_ERRAND: Final = re.compile(r"\b(?:(title)|summary|summari[sz]e)\b", re.IGNORECASE)
_MAX_TOPICS: Final = 40

_OPENINGS: Final = (
    "Here is a short answer about **{topic}**.",
    "Good question: let us look at **{topic}** together.",
    "You asked about **{topic}**, so here is the essence.",
    "In brief, **{topic}** comes down to a few plain facts.",
)
_SENTENCES: Final = (
    "The first thing to know is that the details matter more than the headline.",
    "A small example usually explains it better than a long definition.",
    "Most people begin with the simple case and meet the exceptions later.",
    "It helps to write down what you already know before you go on.",
    "Two sources rarely agree on every point, so compare them calmly.",
    "The usual mistake is to measure only once and trust the number.",
    "If time is short, start with the part that is hardest to undo.",
    "Ölçmeden karar vermek çoğu zaman yanıltır, küçük adımlar güven verir.",
    "Şöyle düşünün: iyi bir soru, cevabın yarısıdır.",
    "In practice the boring solution is often the one that lasts.",
    "Keep the parts separate, then each of them stays easy to check.",
    "That is why a careful plan saves more effort than it costs.",
)
_BULLETS: Final = (
    "- **Begin small** and look at the result\n- **Name things** as others do\n- **Check twice** before you change it",
    "- What is known: the goal\n- What is open: the order of the steps\n- What to avoid: haste",
    "1. Collect the facts\n2. Choose one path\n3. Gözden geçirin ve paylaşın",
)
_CLOSINGS: Final = (
    "Kolay gelsin, görüşmek üzere! 🚀",
    "İsterseniz bir örnekle sürdürebilirim 🌿",
    "Shall I go deeper? Başka bir sorunuz varsa çekinmeyin 👋",
)
_THOUGHTS: Final = (
    "The user is asking about {topic}.",
    "Let me think about what matters here.",
    "I should keep the answer short and useful.",
    "There are two ways to explain it, and the plain one is better.",
    "An example would help, şimdi bir tane seçeyim.",
    "I will close with an offer to go on.",
)
_FILLER: Final = (
    "the",
    "plan",
    "is",
    "clear",
    "and",
    "each",
    "step",
    "adım",
    "holds",
    "so",
    "far",
    "çok",
    "iyi",
    "now",
)


def clean(text: str) -> str:
    """Text that can be written as UTF-8: JSON may smuggle in half of a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def tokenize(text: str) -> list[str]:
    """Pieces of at most six characters that join to the text again, so there are never more tokens than bytes."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    return len(_TOKEN.findall(text))


def seeded(*parts: str) -> Random:
    """A generator that depends on the parts alone, in every process and on every machine."""
    digest = blake2b("\x1f".join(parts).encode("utf-8", "replace"), digest_size=8).digest()
    return Random(int.from_bytes(digest, "big"))  # noqa: S311 - repeatable prose, not secrets


def topic_of(text: str) -> str:
    """A few words of what was asked, safe inside a sentence."""
    words = _WORD.findall(_LEAD_IN.sub("", text[:400]))
    return " ".join(words[:6])[:60].strip() or "your request"


def forced(text: str) -> str | None:
    """What a directive line makes the model say: `/say <text>`, `/tokens N`, `/repeat N <word>`; None without one."""
    found = _DIRECTIVE.search(text)
    if not found:
        return None
    name, rest = found[1], found[2]
    if name == "say":
        return rest
    if name == "tokens":
        return _exactly(int(rest)) if rest.isascii() and rest.isdigit() else None
    repeat = _REPEAT.fullmatch(rest.rstrip())
    return " ".join([repeat[2]] * min(int(repeat[1]), MAX_FORCED_TOKENS)) if repeat else None


def _exactly(count: int) -> str:
    """Every word, with the blank before it, is one token."""
    count = min(count, MAX_FORCED_TOKENS)
    return " ".join(_FILLER[index % len(_FILLER)] for index in range(count))


def reply(asked: str, random: Random) -> str:
    """A paragraph or three about what was asked: 40 to 120 words, always with letters outside ASCII."""
    topic = topic_of(asked)
    sentences = random.sample(_SENTENCES, random.randint(3, 6))
    opening = random.choice(_OPENINGS).format(topic=topic)
    paragraphs = [" ".join([opening, *sentences[:3]]), random.choice(_BULLETS)]
    if sentences[3:]:
        paragraphs.append(" ".join(sentences[3:]))
    paragraphs.append(random.choice(_CLOSINGS))
    return "\n\n".join(paragraphs)


def errand(instructions: str, asked: str) -> str | None:
    """A title or a summary of a JSON document, where the system message asks for one; None where it does not."""
    wanted = _ERRAND.search(instructions)
    document = _json_object(asked) if wanted else None
    if wanted is None or document is None:
        return None
    topics = [topic_of(each) for each in _texts_in(document) if each.strip()]
    if wanted[1]:
        title = topics[0] if topics else "Nothing in particular"
        return title[:1].upper() + title[1:]
    return f"So far it was about {'; '.join(topics[:_MAX_TOPICS])}."


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _texts_in(value: Any) -> Iterator[str]:
    """Every text of the document in its order, but for who says it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if name != "role":
                yield from _texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts_in(each)


def thoughts(asked: str, random: Random) -> str:
    """What a reasoning model shows of its thinking."""
    topic = topic_of(asked)
    return " ".join(thought.format(topic=topic) for thought in _THOUGHTS[: random.randint(3, len(_THOUGHTS))])


def cut_at_stop(text: str, stops: tuple[str, ...]) -> str:
    """The text up to the first stop sequence."""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
