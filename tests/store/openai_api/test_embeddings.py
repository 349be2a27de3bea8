"""Embeddings from the request to the ledger, and the catalogue of models that make them."""

import struct
from base64 import b64decode
from decimal import Decimal
from typing import Any

import pytest

from functions.credits import service as credits
from functions.openai_api import repository, service
from functions.openai_api.domain import EmbeddingModel
from shared.clients import firestore_client, openrouter
from shared.clock import utc_now
from shared.openrouter import Embeddings, Usage
from shared.openrouter.vectors import packed
from shared.store import field_filter
from tests.store.openai_api.conftest import EMBEDDING_MODEL


def documents_of(collection: str, uid: str) -> list[dict[str, Any]]:
    """Those of one user."""
    query = firestore_client().collection(collection).where(filter=field_filter("uid", "==", uid))
    return [snapshot.to_dict() or {} for snapshot in query.get()]


@pytest.mark.parametrize(
    ("given", "count"), [("one", 1), (["one", "two"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2), (["x"] * 2048, 2048)]
)
def test_every_form_of_input_is_embedded(program, given, count):
    answer = program.embed(given, dimensions=4)
    assert answer.status_code == 200
    assert [item["index"] for item in answer.json["data"]] == [*range(count)]
    assert {len(item["embedding"]) for item in answer.json["data"]} == {4}


def test_numbers_and_packed_numbers_are_the_same(program):
    floats = program.embed(["one"], dimensions=16).json["data"][0]["embedding"]
    text = program.embed(["one"], dimensions=16, encoding_format="base64").json["data"][0]["embedding"]
    assert list(struct.unpack("<16f", b64decode(text))) == pytest.approx(floats)


def test_they_are_paid_once_and_recorded(program):
    answer = program.embed(["a longer text that has some tokens"])
    assert answer.json["credits"]["charged_micro"] == program.spent_micro() > 0
    [record] = documents_of("usage_records", program.uid)
    assert (record["capability"], record["status"], record["model"]) == ("embeddings", "completed", EMBEDDING_MODEL)
    assert record["prompt_tokens"] == answer.json["usage"]["prompt_tokens"]
    assert record["charged_micro"] == program.spent_micro()
    assert "embeddings.created" in [event["type"] for event in documents_of("events", program.uid)]
    program.assert_money_is_in_order()


def test_a_request_with_a_key_of_its_own_is_paid_once(program):
    headers = {"Idempotency-Key": f"once-{program.uid}"}
    first = program.embed("Hello", headers=headers)
    said = first.get_data()
    first.close()
    spent = program.spent_micro()
    again = program.embed("Hello", headers=headers)
    assert again.get_data() == said
    assert program.spent_micro() == spent
    program.assert_money_is_in_order()


def test_a_repetition_of_an_answer_that_was_too_large_to_keep_is_refused_and_costs_nothing(program):
    headers = {"Idempotency-Key": f"large-{program.uid}"}
    first = program.embed(["x"] * 600, headers=headers, encoding_format="base64")
    assert len(first.get_data()) > 4 * 1024 * 1024
    first.close()
    spent = program.spent_micro()
    again = program.embed(["x"] * 600, headers=headers, encoding_format="base64")
    assert (again.status_code, again.json["error"]["reason"]) == (409, "already_answered")
    assert again.headers["x-should-retry"] == "false"
    assert program.spent_micro() == spent
    program.assert_money_is_in_order()


@pytest.mark.parametrize("model", ["nobody/embeds-this", "openai/gpt-4o-mini", "../../users", "a", "x" * 200])
def test_a_model_that_does_not_embed_is_not_found(program, model):
    answer = program.post("/v1/embeddings", {"model": model, "input": "x"})
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")
    program.assert_money_is_in_order()


def test_a_name_that_openai_uses_is_found(program):
    assert program.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}).status_code == 200


def test_who_has_no_credits_gets_none(poor_program):
    answer = poor_program.embed()
    assert (answer.status_code, answer.json["error"]["code"]) == (402, "insufficient_quota")


def test_an_error_after_a_200_is_an_error_and_gives_the_credits_back(program, standin):
    standin.fault(match={"path": "/embeddings"}, error_200="body")
    answer = program.embed()
    assert answer.status_code == 502
    assert answer.headers["x-should-retry"] == "false"
    assert program.spent_micro() == 0
    program.assert_money_is_in_order()


def test_a_refusal_of_the_provider_is_the_clients_to_mend(program):
    answer = program.embed(dimensions=99_999)
    assert answer.status_code == 400
    assert program.spent_micro() == 0
    program.assert_money_is_in_order()


def test_an_input_that_the_model_cannot_read_is_named_and_costs_nothing(program, standin):
    standin.fault(match={"path": "/embeddings"}, context_overflow=True)
    answer = program.embed()
    error = answer.json["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "input")
    assert program.spent_micro() == 0
    program.assert_money_is_in_order()


def test_a_key_pays_from_its_own_limit_and_only_for_its_models(program):
    assert program.with_key(allowed_models=["openai/gpt-4o-mini"]).embed().status_code == 403
    assert program.with_key(monthly_limit_micro=1).embed(["x" * 1000]).status_code == 402
    assert program.with_key().embed().status_code == 200
    program.assert_money_is_in_order()


def given_instead(monkeypatch, **changes):
    """What the provider answers from here on."""
    answer: dict[str, Any] = {
        "vectors": (packed([1.0, 0.0]),),
        "usage": Usage(prompt_tokens=10, completion_tokens=0, cost_pico_usd=None),
        "generation_id": None,
        "model": EMBEDDING_MODEL,
    }
    monkeypatch.setattr(type(openrouter()), "embed", lambda *_, **__: Embeddings(**(answer | changes)))
    monkeypatch.setattr(service, "_LEARN_COST_AFTER_S", 0.0)


def test_a_cost_that_nobody_tells_is_the_price_of_the_tokens(program, monkeypatch):
    given_instead(monkeypatch)
    assert program.embed("x").status_code == 200
    price = credits.credits_for_cost(10 * 20_000, 20)  # 0.02 US dollars for a million
    assert program.spent_micro() == price
    program.assert_money_is_in_order()


def test_a_hold_that_ran_out_meanwhile_is_paid_all_the_same(program, monkeypatch):
    given_instead(monkeypatch, usage=Usage(prompt_tokens=10, completion_tokens=0, cost_pico_usd=1_000_000))
    begin = service._begin

    def slowly(*arguments, **named):
        job = begin(*arguments, **named)
        credits.release(job.hold, now=utc_now(), reason="expired")
        return job

    monkeypatch.setattr(service, "_begin", slowly)
    assert program.embed("x").status_code == 200
    assert program.spent_micro() > 0
    program.assert_money_is_in_order()


# The catalogue


def test_the_catalogue_is_the_providers_with_exact_prices(standin):
    assert repository.find_embedding_model(EMBEDDING_MODEL) == EmbeddingModel(
        EMBEDDING_MODEL, "OpenAI: Text Embedding 3 Small", 8192, Decimal("0.00000002"), Decimal(0)
    )


def test_a_model_that_the_provider_gives_up_leaves_the_catalogue(standin, monkeypatch):
    entries = [*openrouter().list_embedding_models()]
    broken = [{"id": "acme/broken"}, {"id": "acme/odd", "pricing": None}]
    monkeypatch.setattr(type(openrouter()), "list_embedding_models", lambda _: iter([*entries[1:], *broken]))
    assert service.sync_embedding_models() == len(entries) - 1
    assert entries[0]["id"] not in [model.slug for model in repository.list_embedding_models()]
    monkeypatch.setattr(type(openrouter()), "list_embedding_models", lambda _: iter([]))
    assert service.sync_embedding_models() == 0
    assert len(repository.list_embedding_models()) == len(entries) - 1, "an empty catalogue is no news"
    monkeypatch.undo()
    assert service.sync_embedding_models() == len(entries)
