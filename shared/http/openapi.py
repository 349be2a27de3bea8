"""The OpenAPI document, made from the route declarations that the pipeline enforces."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from shared.http.dialects import OpenAI, Problem
from shared.http.routes import Empty, Route, Routes, Who
from shared.identity.permissions import KEY_SCOPES, Permission

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

_REF = "#/components/schemas/{model}"
_PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "code", "detail", "trace_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; decide by it."},
        "detail": {"type": "string", "description": "For a person."},
        "trace_id": {"type": "string", "description": "Quote it to support."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_OPENAI_ERROR_SCHEMA = {
    "type": "object",
    "description": "An error in the envelope of OpenAI's API.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "For a person."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field that is wrong."},
                "code": {"type": ["string", "null"], "description": "Stable; decide by it."},
            },
        }
    },
}
_OPENAI_PATHS = "/v1/"

_SECURITY_SCHEMES = {
    "firebase": {"type": "http", "scheme": "bearer", "description": "A Firebase ID token."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key `cp_live_…`; or Bearer."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__session",
        "description": "A session; what changes something also needs its `X-CSRF-Token`.",
    },
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeat a request with the same key and body for 24 hours: it happens once, the answer is the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def describe(all_routes: Iterable[Routes]) -> dict[str, Any]:
    """The document as a JSON-ready dictionary."""
    declared = [(routes.capability, route) for routes in all_routes for route in routes]
    schemas, references = _schemas(route for _, route in declared)
    paths: dict[str, dict[str, Any]] = {}
    for capability, route in declared:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(capability, route, schemas, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "CraftPilot AI", "version": "1", "description": "The backend of an AI product."},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": _PROBLEM_SCHEMA, "OpenAIError": _OPENAI_ERROR_SCHEMA},
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _schemas(routes: Iterable[Route]) -> tuple[dict[str, Any], dict[Any, Any]]:
    inputs: set[type[BaseModel]] = set()
    outputs: set[type[BaseModel]] = set()
    for route in routes:
        inputs.add(route.query)
        if route.body:
            inputs.add(route.body)
        if route.answer:
            outputs.add(route.answer)
    inputs.discard(Empty)
    wanted: list[Any] = [(model, "validation") for model in sorted(inputs, key=lambda model: model.__name__)]
    wanted += [(model, "serialization") for model in sorted(outputs, key=lambda model: model.__name__)]
    references, definitions = models_json_schema(wanted, ref_template=_REF)
    # Those with an underscore only word an error.
    shown = {name: schema for name, schema in definitions.get("$defs", {}).items() if not name.startswith("_")}
    return shown, dict(references)


def _operation(capability: str, route: Route, schemas: dict[str, Any], references: dict[Any, Any]) -> dict[str, Any]:
    first_line, _, rest = route.summary.partition("\n")
    operation: dict[str, Any] = {
        "tags": [capability],
        "operationId": f"{capability}_{route.handler.__name__}",
        "summary": first_line,
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(route, schemas, references),
            *_header_parameters(route),
            *([_IDEMPOTENCY_KEY] if route.changes_state and isinstance(route.who, Permission) else []),
        ],
        "responses": {str(route.status): _success(route, references), "default": _problem(route)},
        "security": _security(route.who),
    }
    if isinstance(route.who, Permission):
        operation["x-permission"] = route.who
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    if route.body:
        schema = references[route.body, "validation"]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _security(who: Permission | Who) -> list[dict[str, list[str]]]:
    """The kinds of credentials that can open the route."""
    if isinstance(who, Who):
        return []
    kinds = ["firebase", "session", *(["api_key"] if who in KEY_SCOPES else [])]
    return [{kind: []} for kind in kinds]


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.parameters]


def _query_parameters(route: Route, schemas: dict[str, Any], references: dict[Any, Any]) -> list[dict[str, Any]]:
    if route.query is Empty:
        return []
    schema = schemas[references[route.query, "validation"]["$ref"].removeprefix(_REF.format(model=""))]
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        for name, field in schema["properties"].items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in route.headers]


def _success(route: Route, references: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.answer:
        content["application/json"] = {"schema": references[route.answer, "serialization"]}
    if route.streams:
        content["text/event-stream"] = {"schema": {"type": "string", "description": route.streams}}
    return {"description": "Done.", "content": content} if content else {"description": "Done."}


def _problem(route: Route) -> dict[str, Any]:
    """Errors as the route's dialect tells them: below `/v1` as OpenAI's API does."""
    model, content_type = "Problem", Problem.error_content_type
    if route.path.startswith(_OPENAI_PATHS):
        model, content_type = "OpenAIError", OpenAI.error_content_type
    schema = {"$ref": _REF.format(model=model)}
    return {"description": "What went wrong.", "content": {content_type: {"schema": schema}}}


def as_html(document: dict[str, Any]) -> str:
    """The document as one plain page: every route, what it needs and the shape of what it takes and gives."""
    rows = [
        f"<section><h3><code>{method.upper()} {html.escape(path)}</code></h3>"
        f"<p>{html.escape(operation['summary'])} {html.escape(operation.get('description', ''))}</p>"
        f"<p class=who>{html.escape(_who_may(operation))}</p>"
        f"{_parameters(operation)}{_models_used(operation)}</section>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    models = [
        f"<section id='{html.escape(name)}'><h3>{html.escape(name)}</h3><ul>{_fields(schema)}</ul></section>"
        for name, schema in document["components"]["schemas"].items()
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>CraftPilot API</title><style>body{font:16px/1.5 system-ui;max-width:52rem;margin:2rem auto;"
        "padding:0 1rem}section{border-top:1px solid #8884;padding:.3rem 0}h3{margin:.4rem 0}p{margin:.2rem 0}"
        ".who{opacity:.7;font-size:.9rem}@media(prefers-color-scheme:dark){body{background:#111;color:#eee}"
        "a{color:#8bf}}</style><h1>CraftPilot API</h1><p>Machine-readable: <a href='/api/v1/openapi.json'>"
        f"openapi.json</a></p><h2>Routes</h2>{''.join(rows)}<h2>Models</h2>{''.join(models)}</html>"
    )


def _who_may(operation: dict[str, Any]) -> str:
    if not operation["security"]:
        return "open to anyone"
    kinds = ", ".join(kind for scheme in operation["security"] for kind in scheme)
    return f"permission {operation['x-permission']} · {kinds}"


def _parameters(operation: dict[str, Any]) -> str:
    """What else a request may say, in its address and its headers."""
    lines = [
        f"<li><code>{html.escape(one['name'])}</code> in the {one['in']}{'' if one['required'] else ' (optional)'}: "
        f"{_kind(one['schema'])}. {html.escape(one.get('description') or one['schema'].get('description', ''))}</li>"
        for one in operation["parameters"]
        if one["in"] != "path"
    ]
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _models_used(operation: dict[str, Any]) -> str:
    def names(content: dict[str, Any]) -> list[str]:
        found = [media["schema"]["$ref"].rsplit("/", 1)[-1] for media in content.values() if "$ref" in media["schema"]]
        return [f"<a href='#{name}'>{name}</a>" for name in found]

    takes = names(operation.get("requestBody", {}).get("content", {}))
    gives = [
        name
        for code, answer in operation["responses"].items()
        if code != "default"
        for name in names(answer.get("content", {}))
    ]
    lines = [f"takes {', '.join(takes)}"] if takes else []
    lines += [f"gives {', '.join(gives)}"] if gives else []
    return f"<p>{' · '.join(lines)}</p>" if lines else ""


def _fields(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"<li>{_kind(schema)}</li>"
    required = set(schema.get("required", ()))
    return "".join(
        f"<li><code>{html.escape(name)}</code>{'' if name in required else ' (optional)'}: {_kind(field)}. "
        f"{html.escape(str(field.get('description', '')))}</li>"
        for name, field in schema.get("properties", {}).items()
    )


def _kind(schema: dict[str, Any]) -> str:
    """What a value is, in a few words; models are linked."""
    if "$ref" in schema:
        name = html.escape(schema["$ref"].rsplit("/", 1)[-1])
        return f"<a href='#{name}'>{name}</a>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_kind(each) for each in schema[several])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if "enum" in schema or "const" in schema:
        return " or ".join(f"“{html.escape(str(each))}”" for each in schema.get("enum", [schema.get("const")]))
    return html.escape(str(schema.get("format", schema.get("type", "anything"))))
