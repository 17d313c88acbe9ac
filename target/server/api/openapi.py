"""/openapi.json: the routes and models of the API as an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from target.models import answers
from target.models.checking import schemas
from target.server.api.routes import Route
from target.server.command import Json
from target.version import VERSION

STREAMED = ("application/x-ndjson", "text/plain")     # bodies that are read as they come, whatever they are called
LINES = {"type": "string", "description": "One JSON value a line."}


def answer_type(name: str) -> Any:
    """A type of `target/models/answers.py` by its name: Any, None, Object, list[Object]."""
    listed = re.fullmatch(r"list\[(\w+)\]", name)
    if listed:
        return list[answer_type(listed[1])]  # type: ignore[misc]
    return {"Any": Any, "None": None}[name] if name in ("Any", "None") else getattr(answers, name)


def document(routes: Iterable[Route]) -> Json:
    """The whole of it."""
    found = list(routes)
    kinds = {f"{route.name}.{part}": kind for route in found for part, kind in _kinds(route)} | {"error": answers.Error}
    made, components = schemas(kinds.values())
    by_name = dict(zip(kinds, made, strict=True))
    paths: dict[str, Any] = {}
    for route in found:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_name, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lunette", "version": VERSION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                 "description": "Volumes, snapshots and clones as LUNs of an iSCSI target. docs/api.md says more."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "What `lunette token create` shows once."},
                "certificate": {"type": "mutualTLS", "description": "Its subject's OU is the scope."}}},
    }


def _kinds(route: Route) -> Iterator[tuple[str, Any]]:
    """The types that a route takes and answers with."""
    yield "answer", answer_type(route.answer)
    if route.body is not None:
        yield "body", route.body
    if route.query is not None:
        yield "query", route.query


def _operation(route: Route, by_name: Json, components: Json) -> Json:
    answer = by_name[f"{route.name}.answer"]
    content = {media: {"schema": answer if media == "application/json" else LINES if "json" in media else {"type": "string"}}
               for media in route.media}
    words = "" if route.scope is None else f" Scope: {route.scope}." + (" Not for tokens with a prefix." if route.whole else "")
    operation: Json = {
        "operationId": route.name, "summary": route.summary, "description": (route.summary + words).strip(),
        "security": [] if route.scope is None else [{"token": []}, {"certificate": []}],
        "parameters": [*_path_parameters(route), *_query_parameters(route, by_name, components)],
        "responses": {**{str(status): {"description": "As it is." if status == 200 else "It is not so.", "content": content}
                         for status in route.statuses},
                      "default": {"description": "Refused or failed.",
                                  "content": {"application/json": {"schema": by_name["error"]}}}},
    }
    if route.lines:
        operation["requestBody"] = {"content": {media: {"schema": LINES} for media in STREAMED}}
    elif route.body is not None:
        body = by_name[f"{route.name}.body"]
        needed = bool(_resolved(body, components).get("required"))       # else no body is an empty one
        operation["requestBody"] = {"required": needed, "content": {"application/json": {"schema": body}}}
    return operation


def _path_parameters(route: Route) -> list[Json]:
    return [{"name": name, "in": "path", "required": True,
             "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}} for name in re.findall(r"\{(\w+)\}", route.path)]


def _query_parameters(route: Route, by_name: Json, components: Json) -> list[Json]:
    if route.query is None:
        return []
    schema = _resolved(by_name[f"{route.name}.query"], components)
    required = set(schema.get("required", ()))
    rows = []
    for name, each in schema["properties"].items():
        row = dict(each)
        kinds = [kind for kind in row.pop("anyOf", []) if kind != {"type": "null"}]        # a query has no null
        described = row.pop("description", "")
        if row.get("default", 0) is None:
            del row["default"]
        rows.append({"name": name, "in": "query", "required": name in required, "description": described,
                     "schema": {**row, **(kinds[0] if kinds else {})}})
    return rows


def _resolved(schema: Json, components: Json) -> Json:
    found: Json = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found
