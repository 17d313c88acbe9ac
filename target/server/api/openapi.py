"""/openapi.json: the routes and models of the API as an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from target.models import answers
from target.models.checking import adapter
from target.server.api.routes import Route
from target.server.command import Json

REFERENCES = "#/components/schemas/{model}"
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
    from pydantic import TypeAdapter

    found = list(routes)
    inputs: list[Any] = [
        (f"{route.name}.body", "validation", adapter(route.body)) for route in found if route.body is not None]
    outputs: list[Any] = [(f"{route.name}.answer", "serialization", adapter(answer_type(route.answer))) for route in found]
    outputs.append(("error", "serialization", adapter(answers.Error)))
    schemas, definitions = TypeAdapter.json_schemas([*inputs, *outputs], ref_template=REFERENCES)
    by_name = {key[0]: value for key, value in schemas.items()}
    paths: dict[str, Any] = {}
    for route in found:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_name)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lunette", "version": version("lunette"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                 "description": "Volumes, snapshots and clones as LUNs of an iSCSI target. docs/api.md says more."},
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "What `lunette token create` shows once."},
                "certificate": {"type": "mutualTLS", "description": "Its subject's OU is the scope."}}},
    }


def _operation(route: Route, schemas: Json) -> Json:
    answer = schemas[f"{route.name}.answer"]
    content = {media: {"schema": answer if media == "application/json" else LINES if "json" in media else {"type": "string"}}
               for media in route.media}
    words = "" if route.scope is None else f" Scope: {route.scope}." + (" Not for tokens with a prefix." if route.whole else "")
    operation: Json = {
        "operationId": route.name, "summary": route.summary, "description": (route.summary + words).strip(),
        "security": [] if route.scope is None else [{"token": []}, {"certificate": []}],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {**{str(status): {"description": "As it is." if status == 200 else "It is not so.", "content": content}
                         for status in route.statuses},
                      "default": {"description": "Refused or failed.",
                                  "content": {"application/json": {"schema": schemas["error"]}}}},
    }
    if route.lines:
        operation["requestBody"] = {"content": {media: {"schema": LINES} for media in STREAMED}}
    elif route.body is not None:
        body = schemas[f"{route.name}.body"]
        needed = bool(adapter(route.body).json_schema().get("required"))        # else no body is an empty one
        operation["requestBody"] = {"required": needed, "content": {"application/json": {"schema": body}}}
    return operation


def _path_parameters(route: Route) -> list[Json]:
    return [{"name": name, "in": "path", "required": True,
             "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}} for name in re.findall(r"\{(\w+)\}", route.path)]


def _query_parameters(route: Route) -> list[Json]:
    if route.query is None:
        return []
    schema = adapter(route.query).json_schema(ref_template=REFERENCES)
    required = set(schema.get("required", ()))
    rows = []
    for name, each in schema["properties"].items():
        kinds = [kind for kind in each.pop("anyOf", []) if kind != {"type": "null"}]       # a query has no null
        described = each.pop("description", "")
        if each.get("default", 0) is None:
            del each["default"]
        rows.append({"name": name, "in": "query", "required": name in required, "description": described,
                     "schema": {**each, **(kinds[0] if kinds else {})}})
    return rows
