"""A body that is a file: it arrives as it was sent, whatever it is, and a large one is refused with what to do."""

import pytest

from shared.http.openapi import describe
from shared.http.pipeline import serve
from shared.http.routes import FileBody, Routes, Stream, Who
from tests.unit.shared.exchange import request

routes = Routes("files")


@routes.post("/files", who=Who.ANYONE, body=FileBody, max_body_bytes=64, too_large="send half of it")
def echo(call):
    """Send it back."""
    return Stream(iter([call.body.content]), content_type="application/octet-stream")


@pytest.mark.parametrize("content", [b"", b"{}", b"[NaN]", b"PK\x03\x04", b"\xff\xfe", b"[" * 64, b'"\\ud800"'])
def test_a_file_arrives_as_it_was_sent(content):
    answer = serve(routes)(request("POST", "/files", content))
    assert answer.status_code == 200
    assert answer.get_data() == content


def test_a_file_that_is_too_large_is_refused_with_what_to_do():
    answer = serve(routes)(request("POST", "/files", b"x" * 65))
    assert answer.status_code == 413
    assert answer.get_json(force=True)["detail"].endswith("; send half of it.")


def test_the_document_says_that_the_file_itself_is_the_body():
    document = describe([routes])
    body = document["paths"]["/files"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = document["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]
    assert schema["anyOf"] == [{"type": "object"}, {"type": "array"}]
    assert "properties" not in schema
