"""The API document is open to anybody, so it is made once and not for each who asks."""

import json

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from functions import api
from functions.system import http
from shared.http.pipeline import serve


def get(path: str):
    return serve(http.routes)(Request(EnvironBuilder(path=path).get_environ()))


@pytest.fixture(scope="module")
def whole():
    return api.document()


@pytest.mark.parametrize("path", ["/api/v1/openapi.json", "/api/v1/docs"])
def test_however_many_ask_it_is_made_once(monkeypatch, path, whole):
    made = []

    def counted():
        made.append(1)
        return whole

    monkeypatch.setattr(api, "document", counted)
    http._document_as_json.cache_clear()
    http._document_as_html.cache_clear()
    answers = {get(path).get_data() for _ in range(5)}
    assert (len(answers), len(made)) == (1, 1)


def test_it_is_the_document_of_the_whole_api(whole):
    assert json.loads(get("/api/v1/openapi.json").get_data()) == whole
