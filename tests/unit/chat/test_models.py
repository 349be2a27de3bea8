"""The catalogue survives entries that nobody expected."""

from functions.chat import models, repository

GOOD = {
    "id": "acme/good",
    "name": "Good",
    "context_length": 1000,
    "architecture": {"output_modalities": ["text"]},
    "pricing": {"prompt": "0.000001", "completion": "0.000002"},
}


class Provider:
    def __init__(self, *entries):
        self.entries = entries

    def list_models(self):
        return iter(self.entries)


def synchronised(monkeypatch, *entries) -> list[str]:
    saved: list[str] = []
    monkeypatch.setattr(models, "openrouter", lambda: Provider(*entries))
    monkeypatch.setattr(repository, "save_models", lambda offered, _: saved.extend(model.slug for model in offered))
    models.sync()
    return saved


def test_an_entry_of_an_unknown_shape_does_not_keep_the_others_out(monkeypatch):
    odd = [
        {**GOOD, "id": "acme/no-price", "pricing": {"prompt": None, "completion": "0"}},
        {**GOOD, "id": "acme/nothing", "architecture": None},
        {**GOOD, "id": "acme/words", "pricing": {"prompt": "cheap", "completion": "0"}},
        {"id": "acme/empty"},
        {},
    ]
    assert synchronised(monkeypatch, *odd, GOOD) == ["acme/good"]


def test_an_empty_catalogue_leaves_the_stored_one_alone(monkeypatch):
    assert synchronised(monkeypatch) == []
