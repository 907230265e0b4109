"""The OpenAPI 3.1 document, made from the table of routes and the protocol's dataclasses."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from http import HTTPStatus
from typing import Any, Literal

from pydantic import TypeAdapter

from gridtune_common import __version__
from gridtune_common.protocol import Problem
from gridtune_steering.api.routing import ROUTES, Access, Route
from gridtune_steering.api.validation import TEXT_LIMITS, adapter

_PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")
_REFERENCE = "#/components/schemas/{model}"
_Mode = Literal["validation", "serialization"]


@cache
def document() -> dict[str, Any]:
    """The document; the same for the life of the process."""
    references, definitions = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for entry in ROUTES:
        path = "/api/v1" + _PARAMETER.sub(r"{\2}", entry.path)
        paths.setdefault(path, {})[entry.method.lower()] = _operation(entry, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gridtune steering",
            "version": __version__,
            "description": "Hyperparameter optimisation as a service: submit tasks, ask for points, tell results.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _schemas() -> tuple[dict[tuple[type, _Mode], dict[str, Any]], dict[str, Any]]:
    wanted: dict[tuple[type, _Mode], TypeAdapter[Any]] = {(Problem, "serialization"): adapter(Problem)}
    for entry in ROUTES:
        if entry.body is not None:
            wanted[entry.body, "validation"] = adapter(entry.body)
        if entry.returns is not None:
            wanted[entry.returns, "serialization"] = adapter(entry.returns)
    schemas, definitions = TypeAdapter.json_schemas(
        [(kind, mode, validator) for (kind, mode), validator in wanted.items()], ref_template=_REFERENCE
    )
    known = definitions.get("$defs", {})
    for entry in ROUTES:
        if entry.body is not None:
            _limit_texts(known[entry.body.__name__])
    return schemas, known


def _limit_texts(schema: dict[str, Any]) -> None:
    for name, (low, high) in TEXT_LIMITS.items():
        if name in schema["properties"]:
            schema["properties"][name] |= {"minLength": low, "maxLength": high}


def _operation(entry: Route, references: dict[tuple[type, _Mode], dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": entry.name,
        "summary": entry.summary,
        "responses": _responses(entry, references),
    }
    parameters = [*_path_parameters(entry), *_query_parameters(entry)]
    if parameters:
        operation["parameters"] = parameters
    if entry.body is not None:
        content = {"application/json": {"schema": references[entry.body, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    elif entry.accepts:
        operation["requestBody"] = {"required": True, "content": {entry.accepts: {}}}
    if not entry.access.needs_token:
        operation["security"] = []
    return operation


def _responses(entry: Route, references: dict[tuple[type, _Mode], dict[str, Any]]) -> dict[str, Any]:
    normal: dict[str, Any] = {"description": entry.status.phrase}
    if entry.returns is not None:
        normal["content"] = {"application/json": {"schema": references[entry.returns, "serialization"]}}
    elif entry.content:
        normal["content"] = {kind: {} for kind in entry.content}
    responses = {str(entry.status.value): normal}
    for status in entry.also:
        responses[str(status.value)] = {"description": status.phrase}
    problem = {"application/problem+json": {"schema": references[Problem, "serialization"]}}
    responses["4XX"] = {"description": "The request was refused; the problem says why.", "content": problem}
    responses["5XX"] = {"description": "The service could not answer.", "content": problem}
    if HTTPStatus.GONE in entry.also:
        responses["410"]["content"] = problem
    return responses


def _path_parameters(entry: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0} if kind == "int" else {"type": "string", "minLength": 1},
        }
        for kind, name in _PARAMETER.findall(entry.path)
    ]


def _query_parameters(entry: Route) -> list[dict[str, Any]]:
    if entry.access is Access.SIGNED:
        said = "Part of the signed address, which is to be used as it was given."
        text = {"type": "string", "minLength": 1}
        return [
            {"name": name, "in": "query", "required": True, "description": said, "schema": text}
            for name in ("expires", "signature")
        ]
    if entry.query is None:
        return []
    schema = adapter(entry.query).json_schema(ref_template=_REFERENCE)
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", []))
    return [
        {
            "name": f.name,
            "in": "query",
            "required": f.name in required,
            "schema": _inlined(schema["properties"][f.name], definitions),
        }
        for f in dataclasses.fields(entry.query)
    ]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references: query strings use few and small ones. ``null`` is how a parameter is left out."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema if item != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    return {
        key: _inlined(value, definitions) for key, value in schema.items() if not (key == "default" and value is None)
    }
