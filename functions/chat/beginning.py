"""How a turn begins: which models, what at most it can cost, the hold, and what goes to the model.

In a conversation the hold is made while the conversation is read, so a turn waits for one round trip. What decides the
price (the conversation's settings, images in its history) is known of the last turn or taken for usual; when the
reading shows that it needs more, the hold is taken back and made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.access import service as access
from functions.chat import prompt, repository
from functions.chat.context import Context, fitting, parts_size, size_of
from functions.chat.domain import (
    DEFAULT_CONTEXT_TOKENS,
    MAX_HISTORY_MESSAGES,
    MESSAGE_OVERHEAD_TOKENS,
    ConversationState,
    Generation,
    Message,
    Prompt,
    Question,
    Role,
    Settings,
    json_bytes,
    require_answers_to_calls,
)
from functions.chat.ending import Place
from functions.chat.turn import Request, Turn
from functions.chat.uploads import service as uploads
from functions.chat.uploads.domain import PDF_PLUGINS, Attachment
from functions.credits import service as credits
from functions.models import service as models
from functions.models.domain import answer_tokens, highest_cost_pico_usd
from shared import store
from shared.errors import AppError, Conflict, FieldError, InsufficientCredits, InvalidRequest, NotFound
from shared.identity.recent import Recent
from shared.ids import derived_id, new_id
from shared.openrouter import CONTEXT_LENGTH_EXCEEDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from functions.chat.domain import Part
    from functions.chat.repository import Opened
    from functions.credits.service import Hold
    from functions.models.domain import Model
    from shared.clock import Clock
    from shared.identity.caller import Caller
    from shared.store import Batch

HOLD_TTL = timedelta(minutes=15)
"""Longer than any request may take. A turn that outlives its hold all the same is charged as a correction."""
NO_PLAN = "enterprise"
"""What work of our own may use, which no user asked for."""
_JUDGED_AT_MOST = 3
_MESSAGES_BESIDE_HISTORY = 4
"""System prompt, summary, question, and the instruction to go on."""
_BYTES_PER_TOKEN = 3
_IMAGE = "image"
_SHORTENED_UPSTREAM_TOKENS = 8_192
"""For models that read no more than this the provider by itself leaves out the middle of what is too long
(https://openrouter.ai/docs/guides/features/message-transforms)."""
_CONVERSATIONS_REMEMBERED = 20_000
_REMEMBERED_FOR = timedelta(minutes=5)


@dataclass(frozen=True)
class Facts:
    """What of a conversation decides how much a turn in it can cost."""

    settings: Settings = field(default_factory=Settings)
    images: int = 0
    file_bytes: int = 0
    has_documents: bool = False
    """Files whose text nothing bounds but what the model can read."""
    asked_bytes: int = 0
    """Of a question that is answered once more, when it is a large part of what may go along: it does so beside it."""


@dataclass(frozen=True)
class Terms:
    """What a turn holds credits for."""

    settings: Settings
    chain: tuple[Model, ...]
    amount_micro: int


@dataclass(frozen=True)
class Key:
    """Who asks, and the id under which the turn is known to a repetition of its request."""

    uid: str
    generation_id: str
    caller: Caller | None = None

    @property
    def plan(self) -> str:
        return self.caller.plan if self.caller else NO_PLAN


class AlreadyBegun(Exception):
    """There is a generation with this id: an earlier attempt at the same request began it."""

    def __init__(self, generation_id: str) -> None:
        super().__init__(generation_id)
        self.generation_id = generation_id


class _Misjudged(Exception):
    """The conversation is another than was thought; nothing is held any more."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.facts = facts


_remembered: Recent[Facts] = Recent(size=_CONVERSATIONS_REMEMBERED, keep=_REMEMBERED_FOR)


def begin(key: Key, conversation_id: str, question: Question, *, clock: Clock, keep_partial: bool) -> Turn:
    """Hold the credits and read the conversation, both at once.

    Raises NotFound for a conversation that is not this user's, InvalidRequest for an unknown model or message,
    PermissionDenied for a model that the plan has not, InsufficientCredits, and AlreadyBegun; in each case nothing is
    held and nothing is written.
    """
    facts = _remembered.get(_name(key.uid, conversation_id), clock())
    if facts is None:
        facts = _facts_first(key, conversation_id, question)
    for _ in range(_JUDGED_AT_MOST):
        try:
            terms = _for_key(key, terms_of(question, facts, key.plan), clock())
        except AppError:
            # What is remembered, or taken for usual, is no reason to refuse: what is stored may be.
            stored = _stored_facts(key, conversation_id)
            if stored.settings == facts.settings:
                raise
            facts = stored
            continue
        try:
            return _begin_on(terms, facts, key, conversation_id, question, clock=clock, keep_partial=keep_partial)
        except _Misjudged as error:
            facts = error.facts
            key = replace(key, generation_id=derived_id("gen", key.generation_id))
    raise Conflict("The conversation is being changed by somebody else; ask again.", retry_after_s=1)


def begin_alone(key: Key, asked: Prompt, *, clock: Clock, keep_partial: bool) -> Turn:
    """A turn outside any conversation. Raises as `begin` does, and InvalidRequest for messages that nobody can read."""
    chain = models.choose(asked.model, plan=key.plan, fallbacks=asked.fallbacks)
    tokens, images, has_documents = prompt.bound_of(asked.messages, asked.parameters)
    _require_room(chain, asked.messages, most_tokens=tokens)
    _require_eyes(chain, images, "messages")
    facts = Facts(images=images, has_documents=has_documents)
    amount_micro = _highest_micro(chain, tokens, facts, asked.max_tokens)
    terms = Terms(Settings(model=asked.model, max_tokens=asked.max_tokens), chain, amount_micro)
    terms = _for_key(key, terms, clock())
    generation = _generation(key, None, None, terms, clock())
    hold, refusal = _hold(generation, terms, key)
    if refusal is not None:
        raise refusal
    assert hold is not None, "without a refusal there is a hold"
    request = Request(
        terms.chain, asked.messages, asked.parameters, max_tokens=asked.max_tokens, names_model=asked.model is not None
    )
    return Turn(generation, hold, request, Place(), clock=clock, keep_partial=keep_partial)


def terms_of(question: Question, facts: Facts, plan: str) -> Terms:
    """Which models are asked and what is held: enough for the dearest of them, whatever the conversation holds."""
    settings = question.settings.over(facts.settings)
    chain = models.choose(settings.model, plan=plan, fallbacks=settings.fallbacks or ())
    text, images, has_documents = uploads.prompt_bound(attachments_in(question.parts))
    _require_eyes(chain, images, "content")
    tokens = (
        (settings.context_tokens or DEFAULT_CONTEXT_TOKENS)
        + len((settings.system_prompt or "").encode())
        + parts_size(question.parts)
        + prompt.FRAME_BYTES
        + json_bytes(question.parameters)
        + text
        + facts.file_bytes
        + facts.asked_bytes
        + MESSAGE_OVERHEAD_TOKENS * (MAX_HISTORY_MESSAGES + _MESSAGES_BESIDE_HISTORY)
    )
    beside = replace(facts, images=facts.images + images, has_documents=facts.has_documents or has_documents)
    return Terms(settings, chain, _highest_micro(chain, tokens, beside, settings.max_tokens))


def attachments_in(parts: Iterable[Part]) -> list[Attachment]:
    return [
        Attachment(
            id=part["upload_id"],
            name=part["name"],
            content_type=part["content_type"],
            size_bytes=part["size_bytes"],
            kind=part["type"],
            conversation_id=None,
        )
        for part in parts
        if part["type"] in ("image", "file")
    ]


def _highest_micro(chain: Sequence[Model], tokens: int, facts: Facts, max_tokens: int | None) -> int:
    """What is held: at least the smallest amount, so every turn has a hold, and an account in debt none."""
    return max(1, *(_highest_of(model, tokens, facts, max_tokens) for model in chain))


def _highest_of(model: Model, tokens: int, facts: Facts, max_tokens: int | None) -> int:
    highest = highest_cost_pico_usd(
        model,
        prompt_tokens=model.context_tokens if facts.has_documents else tokens,
        answer_tokens=answer_tokens(model, max_tokens),
        images=facts.images,
    )
    return credits.credits_for_cost(highest, model.markup_percent)


def _facts_first(key: Key, conversation_id: str, question: Question) -> Facts:
    """What is taken for usual; a key that may not ask every model needs to know which one it will be."""
    if question.settings.model is not None or key.caller is None or key.caller.key is None:
        return Facts()
    return _stored_facts(key, conversation_id)


def _stored_facts(key: Key, conversation_id: str) -> Facts:
    opened = repository.find_opened(key.uid, conversation_id)
    return Facts(settings=_settings_of(opened)) if opened else Facts()


def _require_eyes(chain: Sequence[Model], images: int, field_name: str) -> None:
    """Refuse images that no model of the chain can see."""
    if images and not any(_IMAGE in model.input_modalities for model in chain):
        problem = f"has images, which {chain[0].slug} cannot see: leave them out or choose another model"
        raise InvalidRequest.of(field_name, problem)


def _require_room(chain: Sequence[Model], messages: Sequence[Mapping[str, Any]], *, most_tokens: int) -> None:
    """Refuse what no model of the chain can read, however few tokens it has; in doubt the model is asked.

    A conversation needs no such rule: what goes along is cut, and of a question's length this is never certain.
    """
    largest = max(model.context_tokens for model in chain)
    if most_tokens <= largest or largest <= _SHORTENED_UPSTREAM_TOKENS:
        return
    least = prompt.least_tokens(messages)
    if least > largest:
        raise InvalidRequest(
            f"The messages have at least {least:,} tokens, and the model reads {largest:,}: shorten them or choose "
            "another model.",
            fields=[FieldError("messages", f"must not have more than {largest:,} tokens")],
            error_type=CONTEXT_LENGTH_EXCEEDED,
        )


def _for_key(key: Key, terms: Terms, now: datetime) -> Terms:
    """The terms without the models that the caller's API key may not ask. Raises PermissionDenied when none is left,
    InsufficientCredits when the key has spent its limit.

    What was begun with the key before may be told again, whatever the key may do by now.
    """
    if key.caller is None or key.caller.key is None:
        return terms
    allowed = []
    refusal: AppError | None = None
    for model in terms.chain:
        try:
            access.check_key(key.caller, model.slug, needed_micro=terms.amount_micro, now=now)
        except AppError as error:
            refusal = refusal or error
            if terms.settings.model == model.slug:
                break
        else:
            allowed.append(model)
    if not allowed and refusal is not None and repository.find_generation(key.uid, key.generation_id) is None:
        raise refusal
    return replace(terms, chain=tuple(allowed)) if allowed else terms


def _begin_on(
    terms: Terms, facts: Facts, key: Key, conversation_id: str, question: Question, *, clock: Clock, keep_partial: bool
) -> Turn:
    generation = _generation(key, conversation_id, question, terms, clock())
    opening = repository.start_opening(key.uid, conversation_id)
    hold, refusal = _hold(generation, terms, key)
    try:
        opened = opening.result()
        if opened is None:
            raise NotFound("There is no such conversation.")
        branch = _branch(key.uid, opened, question)
        said = _settings_of(opened)
        right = terms  # the settings decide how much of the conversation goes along, too
        if said != facts.settings:
            right = _for_key(key, terms_of(question, replace(facts, settings=said), key.plan), clock())
        asked_bytes = _asked_bytes(branch, question, right.settings)
        summary, history = _history(branch, question, right, asked_bytes)
        found = _facts(said, history, asked_bytes)
        if found != facts:
            terms = _covered(terms, found, question, key, refused=refusal is not None, now=clock())
        if refusal is not None:
            raise refusal
        request = _request(key.uid, terms, question, (summary, history), now=clock())
    except (AppError, _Misjudged):
        if hold is not None:
            _let_go(generation, hold, clock())
        raise
    assert hold is not None, "without a refusal there is a hold"
    _remembered.put(_name(key.uid, conversation_id), replace(found, asked_bytes=0), clock())
    place = Place(
        first_turn=opened.conversation.message_count == 0,
        temporary=opened.conversation.state is ConversationState.TEMPORARY,
        context=branch,
        follows_tip=branch.tip is not None and branch.tip == opened.context.tip,
        # What one question leaves out is not lost to those after it.
        budget_bytes=max(each.context_tokens or DEFAULT_CONTEXT_TOKENS for each in (said, terms.settings)),
    )
    placed = replace(generation, parent_id=branch.tip)
    return Turn(placed, hold, request, place, clock=clock, keep_partial=keep_partial)


def _name(uid: str, conversation_id: str) -> str:
    return f"{uid}/{conversation_id}"


def _generation(
    key: Key, conversation_id: str | None, question: Question | None, terms: Terms, now: datetime
) -> Generation:
    model = terms.chain[0]
    return Generation(
        id=key.generation_id,
        uid=key.uid,
        conversation_id=conversation_id,
        message_id=new_id("msg"),
        user_message_id=new_id("msg") if question and question.adds_message else None,
        parent_id=question.parent_id if question else None,
        question=question.parts if question else (),
        question_role=question.role.value if question else Role.USER.value,
        continues=question.continues if question else None,
        model=model.slug,
        markup_percent=model.markup_percent,
        started_at=now,
    )


# The hold


def _hold(generation: Generation, terms: Terms, key: Key) -> tuple[Hold | None, InsufficientCredits | NotFound | None]:
    def also(batch: Batch) -> None:
        repository.start_generation(batch, generation)
        if generation.conversation_id is not None:
            repository.begin_in_conversation(batch, generation)

    try:
        hold = credits.hold(
            generation.uid,
            generation.id,
            terms.amount_micro,
            purpose="chat",
            ref=_reference(generation, key),
            ttl=HOLD_TTL,
            now=generation.started_at,
            also=also,
            undo=lambda batch: repository.forget_generation(batch, generation),
        )
    except InsufficientCredits as refusal:
        refused = credits.find_hold(generation.uid, generation.id)
        if refused is not None and refused.created_at != generation.started_at:
            raise AlreadyBegun(generation.id) from refusal
        return None, refusal
    except store.StaleWrite:
        return None, NotFound("There is no such conversation.")
    except Conflict as error:  # the hold has ended since, or the model's price has changed
        raise AlreadyBegun(generation.id) from error
    if hold.created_at != generation.started_at:
        raise AlreadyBegun(generation.id)
    return hold, None


def _reference(generation: Generation, key: Key) -> dict[str, str]:
    reference = {"generation_id": generation.id}
    if generation.conversation_id is not None:
        reference["conversation_id"] = generation.conversation_id
    if key.caller is not None and key.caller.key is not None:
        reference[access.KEY_BUDGET] = key.caller.key.budget_id
    return reference


def _covered(terms: Terms, found: Facts, question: Question, key: Key, *, refused: bool, now: datetime) -> Terms:
    """The terms by what was found, if what is held is enough for them. Raises _Misjudged."""
    right = _for_key(key, terms_of(question, found, key.plan), now)
    same_model = right.chain[0].slug == terms.chain[0].slug
    if same_model and (
        right.amount_micro == terms.amount_micro if refused else right.amount_micro <= terms.amount_micro
    ):
        return right
    raise _Misjudged(found)


def _let_go(generation: Generation, hold: Hold, now: datetime) -> None:
    """Take back what was begun: nothing was asked."""
    batch = store.new_batch()
    credits.release_into(batch, hold, now=now, reason="not_asked")
    repository.forget_generation(batch, generation)
    store.commit(batch)


# What goes to the model


def _branch(uid: str, opened: Opened, question: Question) -> Context:
    """The branch that the new message follows; its `tip` is that message's parent. Raises InvalidRequest, NotFound."""
    if question.replaces is not None:
        replaced = _get_message(uid, opened, question.replaces)
        if replaced.role != Role.USER:
            raise InvalidRequest.of("message_id", "is not a message of yours; regenerate an answer instead")
        return _get_branch(uid, opened, replaced.parent_id)
    if question.regenerates is not None:
        target = _get_message(uid, opened, question.regenerates)
        return _get_branch(uid, opened, target.parent_id if target.role == Role.ASSISTANT else target.id)
    if question.continues is not None:
        answer = _get_message(uid, opened, question.continues)
        if answer.role != Role.ASSISTANT:
            raise InvalidRequest.of("message_id", "is not an answer, so there is nothing to go on with")
        return _get_branch(uid, opened, answer.id)
    branch = _find_branch(uid, opened, question.parent_id or opened.conversation.tip)
    if branch is None:
        raise InvalidRequest.of("parent_id", "is not a message of this conversation")
    if question.role is Role.TOOL:
        require_answers_to_calls(question.parts, branch.messages[-1] if branch.messages else None)
    return branch


def _get_message(uid: str, opened: Opened, message_id: str) -> Message:
    known = {message.id: message for message in opened.context.messages}
    found = known.get(message_id) or repository.find_node(uid, opened.conversation.id, message_id)
    if found is None:
        raise NotFound("There is no such message in this conversation.")
    return found


def _get_branch(uid: str, opened: Opened, message_id: str | None) -> Context:
    branch = _find_branch(uid, opened, message_id)
    if branch is None:
        raise NotFound("What this message follows is gone.")
    return branch


def _find_branch(uid: str, opened: Opened, message_id: str | None) -> Context | None:
    if message_id is None:
        return Context()
    if opened.context.tip is not None and (known := opened.context.up_to(message_id)):
        return known
    made = repository.find_context(uid, opened.conversation.id, message_id, limit=MAX_HISTORY_MESSAGES)
    if made is None:
        return None
    covered = opened.context.summarised_to
    if covered in {message.id for message in made.messages}:
        return made.summarised(opened.context.summary, covered)
    return made


def _asked_bytes(branch: Context, question: Question, settings: Settings) -> int:
    """How much goes along beside the context, so that a long question is answered once more as it was asked."""
    if question.regenerates is None:
        return 0
    asked = next((size_of(message) for message in reversed(branch.messages) if message.role == Role.USER), 0)
    return asked if 2 * asked > (settings.context_tokens or DEFAULT_CONTEXT_TOKENS) else 0


def _history(branch: Context, question: Question, terms: Terms, asked_bytes: int) -> tuple[str, list[Message]]:
    """The summary and the messages that go along, as the settings and the model's size allow.

    What the model can read is reckoned at three bytes a token; when that was too much it says so itself.
    """
    model, settings = terms.chain[0], terms.settings
    beside = parts_size(question.parts) + len((settings.system_prompt or "").encode())
    room = (model.context_tokens - answer_tokens(model, settings.max_tokens)) * _BYTES_PER_TOKEN - beside
    budget = min((settings.context_tokens or DEFAULT_CONTEXT_TOKENS) + asked_bytes, max(room, 0))
    summary, history = fitting(branch, budget)
    if question.role is Role.TOOL and not (history and history[-1].tool_calls):
        problem = "is too little for the calls that these results answer"
        raise InvalidRequest.of("context_tokens", problem)
    return summary, history


def _facts(said: Settings, history: Sequence[Message], asked_bytes: int) -> Facts:
    text, images, has_documents = uploads.prompt_bound(
        attachments_in(part for message in history for part in message.parts)
    )
    return Facts(said, images=images, file_bytes=text, has_documents=has_documents, asked_bytes=asked_bytes)


def _settings_of(opened: Opened) -> Settings:
    said = opened.conversation.settings.model_dump(exclude_none=True)
    if "fallbacks" in said:
        said["fallbacks"] = tuple(said["fallbacks"])
    return Settings(**said)


def _request(uid: str, terms: Terms, question: Question, told: tuple[str, list[Message]], *, now: datetime) -> Request:
    summary, history = told
    if question.adds_message:
        history = [*history, Message(id="", parent_id=None, role=question.role.value, parts=question.parts)]
    attached = attachments_in(part for message in history for part in message.parts)
    links = uploads.upstream_parts(uid, attached, now=now) if attached else []
    shown = {attachment.id: part for attachment, part in zip(attached, links, strict=True)}
    messages = prompt.messages_of(terms.settings, summary, history, shown, go_on=question.continues is not None)
    parameters = {**prompt.parameters_of(terms.settings), **question.parameters}
    if uploads.prompt_bound(attached).whole_context:
        parameters["plugins"] = list(PDF_PLUGINS)
    return Request(
        terms.chain,
        tuple(messages),
        parameters,
        max_tokens=terms.settings.max_tokens,
        names_model=terms.settings.model is not None,
    )
