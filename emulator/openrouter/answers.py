"""What the model says to a chat request: composed from the request alone, before a byte of it is sent."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import images, media, text, tools
from emulator.openrouter.png import gradient
from emulator.openrouter.pricing import Bill, Tokens

if TYPE_CHECKING:
    from random import Random

    from emulator.openrouter.catalogue import Model, Resolved
    from emulator.openrouter.chat_request import ChatRequest
    from emulator.openrouter.faults import FaultSet
    from emulator.openrouter.media import Media
    from emulator.openrouter.tools import ToolCall

# A model without pictures of its own draws this many tokens when the `images` fault makes it.
DEFAULT_IMAGE_TOKENS: Final = 1290
# How the providers call the ends that the API calls stop and length.
_NATIVE: Final = {
    "anthropic": {"stop": "end_turn", "length": "max_tokens"},
    "google": {"stop": "STOP", "length": "MAX_TOKENS"},
    "openai": {"stop": "completed", "length": "max_output_tokens"},
    "x-ai": {"stop": "completed", "length": "max_output_tokens"},
}


@dataclass(slots=True)
class Answer:
    """A whole answer. Tokens are produced in the order reasoning, content, tool calls, images."""

    model: Model
    shown_model: str
    provider: str
    prompt_tokens: int
    faults: FaultSet
    finish_reason: str | None = "stop"
    native_finish_reason: str | None = None
    cached_tokens: int = 0
    web_searches: int = 0
    parsed_files: tuple[Media, ...] = ()
    paid_pages: int = 0
    reasoning: list[str] = field(default_factory=list)
    reasoning_hidden: bool = False
    content: list[str] = field(default_factory=list)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_tokens: int = 0
    image_urls: list[str] = field(default_factory=list)
    image_tokens: int = 0
    seed: str = ""

    @property
    def shows_reasoning(self) -> bool:
        return bool(self.reasoning) and not self.reasoning_hidden

    @property
    def completion_tokens(self) -> int:
        return len(self.reasoning) + len(self.content) + self.tool_tokens + self.image_tokens

    def bill(self, produced: int | None = None, *, waived: bool = False) -> Bill:
        """The bill for the tokens produced so far, or for all. No completion token: nothing is charged."""
        completion = self.completion_tokens if produced is None else produced
        before_images = self.completion_tokens - self.image_tokens
        tokens = Tokens(
            prompt=self.prompt_tokens,
            completion=completion,
            cached=self.cached_tokens,
            reasoning=min(completion, len(self.reasoning)),
            image=max(0, completion - before_images),
            web_searches=self.web_searches,
            parsed_pages=self.paid_pages,
        )
        cost = self.model.price.cost(tokens)
        return Bill(tokens, cost, byok=self.faults.flag("byok"), waived=waived or completion == 0)

    def message(self) -> dict[str, Any]:
        """The message of an answer that is not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.content), "refusal": None}
        message["reasoning"] = self.reasoning_text()
        if self.shows_reasoning and self.reasoning_style != "encrypted":  # as recorded: those come in streams only
            message["reasoning_details"] = self.reasoning_details()
        if self.tool_calls:
            message["tool_calls"] = [self.tool_call(index) for index in range(len(self.tool_calls))]
        if self.image_urls:
            message["images"] = self.images()
        if annotations := self.annotations():
            message["annotations"] = annotations
        return message

    def reasoning_text(self) -> str | None:
        """None where the thoughts are hidden or encrypted."""
        shown = self.shows_reasoning and self.reasoning_style != "encrypted"
        return "".join(self.reasoning) if shown else None

    def reasoning_details(self) -> list[dict[str, Any]]:
        """The blocks of an answer that is not streamed: a signature stands beside the text it signs."""
        whole = self.reasoning_detail("".join(self.reasoning))
        if self._is_signed:
            return [whole | {"signature": self._signature}]
        return [whole, self._encrypted(1)] if self.reasoning_style == "summary" else [whole]

    def reasoning_detail(self, thought: str) -> dict[str, Any]:
        """A piece of reasoning, whole or one of a stream."""
        style = self.reasoning_style
        if style == "encrypted":
            return self._encrypted(0)
        return {"type": f"reasoning.{style}", style: thought, "format": self._reasoning_format, "index": 0}

    def opening_reasoning(self) -> list[dict[str, Any]]:
        """What a stream of thoughts begins with: an empty piece with an empty signature, where there is one."""
        return [self.reasoning_detail("") | {"signature": ""}] if self._is_signed else []

    def closing_reasoning(self) -> list[dict[str, Any]]:
        """What a stream of thoughts ends with: an empty piece and the signature, or an encrypted copy."""
        if self.reasoning_style == "summary":
            return [self._encrypted(1)]
        signed = {"type": "reasoning.text", "signature": self._signature, "format": self._reasoning_format, "index": 0}
        return [self.reasoning_detail(""), signed] if self._is_signed else []

    def tool_call(self, index: int) -> dict[str, Any]:
        """A whole tool call, its arguments as the faults want them."""
        call = self.tool_calls[index]
        function = {"name": call.name}
        match self.faults.choice("tool_arguments"):
            case "missing":
                pass
            case "invalid":
                function["arguments"] = call.arguments[: max(1, len(call.arguments) - 2)]
            case _:
                function["arguments"] = call.arguments
        return {"id": call.id, "index": index, "type": "function", "function": function}

    def images(self) -> list[dict[str, Any]]:
        return [
            {"type": "image_url", "image_url": {"url": url}, "index": index}
            for index, url in enumerate(self.image_urls)
        ]

    def annotations(self) -> list[dict[str, Any]]:
        """The files that were parsed, then what was found on the web."""
        files = [media.annotation(file) for file in self.parsed_files]
        return files + ([self._citation()] if self.web_searches else [])

    def _citation(self) -> dict[str, Any]:
        citation = {
            "url": "https://example.com/article",
            "title": "An article on the subject",
            "content": "What the article says about it.",
            "start_index": 0,
            "end_index": min(20, sum(map(len, self.content))),
        }
        return {"type": "url_citation", "url_citation": citation}

    @property
    def reasoning_style(self) -> str:
        """`text`, `summary` or `encrypted`; plain text where only a fault makes the model think."""
        return self.model.reasoning.style if self.model.reasoning else "text"

    @property
    def _is_signed(self) -> bool:
        return self._reasoning_format == "anthropic-claude-v1"

    @property
    def _signature(self) -> str:
        return self._opaque("Et0BCkgI")

    @property
    def _reasoning_format(self) -> str | None:
        return self.model.reasoning.format if self.model.reasoning else None

    def _encrypted(self, index: int) -> dict[str, Any]:
        data, item = self._opaque("gAAAAAB"), text.seeded("rs", self.seed).getrandbits(200)
        return {
            "type": "reasoning.encrypted",
            "data": data,
            "id": f"rs_{item:050x}",
            "format": self._reasoning_format,
            "index": index,
        }

    def _opaque(self, start: str) -> str:
        return start + b64encode(text.seeded("opaque", self.seed).randbytes(120)).decode()


def compose(request: ChatRequest, resolved: Resolved, shown_model: str, provider: str, faults: FaultSet) -> Answer:
    """The answer of a model to a request; the same every time for the same model, messages and seed."""
    model = resolved.model
    prompt_tokens = request.prompt_tokens_for(model)
    seed = "\x1e".join([model.id, str(request.seed), *(f"{each.role}\x1d{each.text}" for each in request.messages)])
    answer = Answer(model, shown_model, provider, prompt_tokens, faults, seed=seed)
    answer.cached_tokens = min(prompt_tokens, faults.number("cached_tokens") or 0)
    engine = media.engine_for(model, request.pdf_engine)
    if engine != media.NATIVE_ENGINE:
        answer.parsed_files = tuple(each for each in request.media if each.kind == "file")
    if engine == media.OCR_ENGINE:
        answer.paid_pages = sum(file.pages for file in answer.parsed_files)
    if faults.flag("zero_completion"):
        answer.finish_reason = None
        return answer
    random = text.seeded(seed)
    answer.web_searches = int(request.web or resolved.variant == "online")
    budget = request.max_tokens or model.max_output
    if _reasons(request, resolved, faults):
        answer.reasoning_hidden = request.reasoning_hidden
        answer.reasoning = text.tokenize(text.thoughts(request.asked, random))[: budget // 2]
    draws = _draws(request, model, faults)
    answer.tool_calls = () if draws else tools.calls_for(request, random)
    answer.content = text.tokenize(_content(request, answer, random, draws=draws))
    if draws:
        _draw(answer, request)
    _limit(answer, budget)
    return answer


def _reasons(request: ChatRequest, resolved: Resolved, faults: FaultSet) -> bool:
    """Whether thoughts come first. A directive asks for exactly its words, so only an explicit wish adds to them."""
    if faults.flag("reasoning"):
        return True
    habit = resolved.model.reasoning
    if habit is None:
        return False
    if request.reasoning is not None:
        return request.reasoning or habit.mandatory
    return (habit.default_enabled or resolved.variant == "thinking") and text.forced(request.asked) is None


def _draws(request: ChatRequest, model: Model, faults: FaultSet) -> bool:
    wanted = "image" in request.modalities or not request.modalities
    return faults.flag("images") or ("image" in model.outputs and wanted)


def _content(request: ChatRequest, answer: Answer, random: Random, *, draws: bool) -> str:
    asked = request.asked
    words = text.forced(asked)
    if words is None:
        if answer.tool_calls:
            words = ""
        elif draws:
            speaks = "text" in answer.model.outputs and request.modalities != ("image",)
            words = f"Here is **{text.topic_of(asked)}**, çizdim 🎨" if speaks else ""
        elif request.output_schema is not None:
            words = json.dumps(tools.sample(request.output_schema, asked), ensure_ascii=False)
        else:
            words = text.errand(request.instructions, asked) or text.reply(asked, random)
            if request.messages[-1].role == "tool":
                words = f"The tool says: {request.messages[-1].text[:200]}\n\n{words}"
    return text.cut_at_stop(words, request.stops)


def _draw(answer: Answer, request: ChatRequest) -> None:
    width, height = images.chat_size(request.image_config)
    png = gradient(f"{answer.model.id} {request.asked} {request.seed}", width, height)
    answer.image_urls = [f"data:image/png;base64,{b64encode(png).decode()}"]
    answer.image_tokens = answer.model.image_tokens or DEFAULT_IMAGE_TOKENS


def _limit(answer: Answer, budget: int) -> None:
    """Cut words and arguments at the budget, and name the end that follows from it. Pictures are all or nothing."""
    left = budget - len(answer.reasoning)
    cut = len(answer.content) > left
    answer.content = answer.content[:left]
    left -= len(answer.content)
    calls = []
    for call in answer.tool_calls:
        name_tokens, pieces = text.count_tokens(call.name), text.tokenize(call.arguments)
        wanted = name_tokens + len(pieces)
        cut = cut or wanted > left
        if left > 0:
            kept = "".join(pieces[: max(0, left - name_tokens)])
            calls.append(tools.ToolCall(call.id, call.name, kept))
            answer.tool_tokens += min(wanted, left)
        left -= min(wanted, left)
    answer.tool_calls = tuple(calls)
    answer.finish_reason = "length" if cut else "tool_calls" if answer.tool_calls else "stop"
    answer.native_finish_reason = _NATIVE.get(answer.model.author, {}).get(answer.finish_reason, answer.finish_reason)
