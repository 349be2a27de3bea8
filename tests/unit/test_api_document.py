"""The API document is well-formed OpenAPI 3.1, is the one that is kept in the repository, and reads as a page."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from emulator import openapi as writer
from functions.api import all_routes, document
from shared.http.openapi import as_html, describe
from shared.http.routes import Routes, Who

ROOT = Path(__file__).parents[2]
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


class Thing(BaseModel):
    name: str = Field(description="<script>alert('model')</script>")


class Kind(BaseModel):
    inner: Thing


class Filter(BaseModel):
    kind: Thing | None = None
    limit: int


def nasty() -> Routes:
    """Routes whose texts are markup, and a query with a model of its own."""
    routes = Routes("things")

    @routes.post("/api/<b>{thing_id}</b>", who=Who.ANYONE, body=Thing, answer=Kind, query=Filter, streams="Numbers.")
    def make(call):
        """Make <script>alert('summary')</script> & more.

        And <img src=x onerror=alert('description')>.
        """

    return routes


def operations(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(api: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/"), f"{reference} leads out of the document"
    node: Any = api
    for step in reference[2:].split("/"):
        node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


@pytest.fixture(scope="module")
def the_api() -> dict[str, Any]:
    """Made once for all that is asked of it: describing every model is slow."""
    return document()


@pytest.fixture(params=["the API", "nasty routes"])
def api(request) -> dict[str, Any]:
    return request.getfixturevalue("the_api") if request.param == "the API" else describe([nasty()])


def test_the_document_says_what_it_is(api):
    assert re.fullmatch(r"3\.1\.\d+", api["openapi"])
    assert api["info"]["title"]
    assert api["info"]["version"]
    assert api == json.loads(json.dumps(api))


def test_every_path_is_absolute_and_has_known_methods(api):
    for path, method, _ in operations(api):
        assert path.startswith("/")
        assert method in METHODS


def test_every_reference_leads_to_something(api):
    found = set(references(api))
    assert found
    for reference in found:
        assert isinstance(resolved(api, reference), dict)


def test_every_path_parameter_is_declared_just_once(api):
    for path, _, operation in operations(api):
        in_path = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert in_path == re.findall(r"\{([^}]+)\}", path)
        assert all(parameter["required"] for parameter in operation["parameters"] if parameter["in"] == "path")


def test_no_parameter_is_there_twice(api):
    for _, _, operation in operations(api):
        places = [(parameter["in"], parameter["name"]) for parameter in operation["parameters"]]
        assert len(places) == len(set(places))
        assert all("schema" in parameter for parameter in operation["parameters"])


def test_every_operation_has_an_id_of_its_own(api):
    ids = [operation["operationId"] for _, _, operation in operations(api)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z0-9_]+", operation_id) for operation_id in ids)


def test_every_operation_tells_its_success_and_its_problem(api):
    for path, _, operation in operations(api):
        assert operation["summary"]
        success = [code for code in operation["responses"] if code != "default"]
        assert len(success) == 1
        assert 200 <= int(success[0]) < 300
        told_as = "application/json" if path.startswith("/v1/") else "application/problem+json"
        assert list(operation["responses"]["default"]["content"]) == [told_as]
        assert all(response["description"] for response in operation["responses"].values())


def test_every_security_requirement_names_a_scheme_of_the_document(api):
    for _, _, operation in operations(api):
        for requirement in operation["security"]:
            assert set(requirement) <= set(api["components"]["securitySchemes"])


def test_every_route_is_documented_and_says_whether_it_needs_a_token(the_api):
    for routes in all_routes():
        for route in routes:
            operation = the_api["paths"][route.path][route.method.lower()]
            assert operation["tags"] == [routes.capability]
            assert bool(operation["security"]) is (route.who is not Who.ANYONE)
            assert ("requestBody" in operation) is (route.body is not None)


def test_only_health_the_description_what_is_shared_and_a_finished_erasure_are_open_to_anyone(the_api):
    anyone = {path for path, _, operation in operations(the_api) if not operation["security"]}
    assert anyone == {
        "/api/v1/health",
        "/api/v1/health/ready",
        "/api/v1/openapi.json",
        "/api/v1/docs",
        # Its owner gave the link to whomever they liked; the token in it is the secret.
        "/api/v1/shared/{token}",
        # Whoever asked for it has no account any more; the job's id is the secret that only they were told.
        "/api/v1/users/erasures/{job_id}",
    }


def test_no_two_models_share_a_name(the_api):
    names = list(the_api["components"]["schemas"])
    assert all(re.fullmatch(r"[A-Za-z0-9.\-_]+", name) for name in names)
    assert not [name for name in names if "__" in name], "pydantic joins module and name when two models share one"


def test_the_document_in_the_repository_is_up_to_date():
    kept = (ROOT / "docs" / "openapi.json").read_text()
    assert kept == writer.text(), "The API has changed: run `make openapi` and commit docs/openapi.json."


class _Page(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(api: dict[str, Any]) -> _Page:
    page = _Page()
    page.feed(as_html(api))
    return page


def test_the_page_shows_every_operation(api):
    page = parsed(api)
    for path, method, operation in operations(api):
        assert f"{method.upper()} {path}" in page.text
        assert any(operation["summary"] in text for text in page.text)


def test_the_page_shows_every_model_and_links_lead_to_it(api):
    page = parsed(api)
    assert set(page.ids) == set(api["components"]["schemas"])
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_markup_in_descriptions_is_shown_and_not_obeyed():
    page = parsed(describe([nasty()]))
    assert {"script", "img", "b"} & set(page.tags) == set()
    assert any("<script>alert('summary')</script> & more." in text for text in page.text)
    assert any("<img src=x onerror=alert('description')>" in text for text in page.text)
    assert any("<script>alert('model')</script>" in text for text in page.text)
