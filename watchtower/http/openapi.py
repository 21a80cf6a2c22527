"""The OpenAPI 3.1 document, made from the table of endpoints and the types of the bodies."""

from __future__ import annotations

from typing import Any

import msgspec

from domain.units import MAX_SEQUENCE
from watchtower.http.endpoint import Endpoint
from watchtower.http.endpoints import ENDPOINTS
from watchtower.http.problems import PROBLEM_TYPE, TITLES, status_of
from watchtower.wire.api import Problem
from watchtower.wire.hexes import Hex

PATH = "/openapi.json"
VERSION = "1"
"""Of the API, not of the service: it changes when a client has to."""

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
REF = "#/components/schemas/{name}"

GUARDED = (
    "access-file",
    "clock-skew",
    "forbidden",
    "internal",
    "rate-limited",
    "store-away",
    "store-busy",
    "store-error",
    "too-busy",
    "unauthorized",
)
"""What every address with a credential may answer."""

WITH_BODY = ("malformed", "request-timeout", "too-large", "unsupported-media-type", "conflict")

Tree = dict[str, Any]


def document() -> Tree:
    """The document as plain dictionaries; the same table always gives the same bytes."""
    forms: list[Any] = [Problem]
    for endpoint in ENDPOINTS:
        forms += [endpoint.query, endpoint.answer] + ([] if endpoint.body is None else [endpoint.body])
    schemas, components = msgspec.json.schema_components(forms, schema_hook=_schema, ref_template=REF)
    references = dict(zip(forms, schemas, strict=True))
    paths: Tree = {}
    for endpoint in ENDPOINTS:
        parameters = _parameters(endpoint, _resolved(references[endpoint.query], components))
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, parameters, references)
    for form in {endpoint.query for endpoint in ENDPOINTS}:
        components.pop(form.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "State channel watchtower",
            "version": VERSION,
            "summary": "Stores states of Bitcoin state channels and punishes the publication of revoked ones.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items())), "securitySchemes": _security_schemes()},
    }


def slugs_of(endpoint: Endpoint) -> tuple[str, ...]:
    """All problems that this endpoint may answer, each once, in order of their status."""
    found = set(endpoint.problems)
    if endpoint.scope is not None:
        found |= set(GUARDED)
    if endpoint.query.__struct_fields__ or endpoint.names_channel or endpoint.scope is None:
        found.add("malformed")
    if endpoint.names_channel:
        found.add("unknown-channel")
    if endpoint.body is not None:
        found |= set(WITH_BODY)
    return tuple(sorted(found, key=lambda slug: (status_of(slug), slug)))


def _operation(endpoint: Endpoint, parameters: list[Tree], references: dict[Any, Tree]) -> Tree:
    operation: Tree = {"operationId": endpoint.name, "summary": endpoint.summary}
    if endpoint.description:
        operation["description"] = endpoint.description
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": references[endpoint.body]}}}
    operation["responses"] = _responses(endpoint, references)
    if endpoint.scope is not None:
        signed: list[Tree] = [{"signature": [], "digest": [], "covered": []}] if endpoint.takes_parties else []
        operation["security"] = [{"token": []}, *signed]
        operation["x-scope"] = endpoint.scope
    return operation


def _responses(endpoint: Endpoint, references: dict[Any, Tree]) -> Tree:
    """Answers by status; several problems of one status are named in its description."""
    content = {JSON: {"schema": references[endpoint.answer]}}
    if endpoint.is_stream:
        content = {EVENT_STREAM: {"schema": {"type": "string"}, "x-data": references[endpoint.answer]}}
    found: Tree = {
        str(status): {"description": endpoint.summary, "content": dict(content)} for status in endpoint.statuses
    }
    for slug in slugs_of(endpoint):
        status = str(status_of(slug))
        said = f"`{slug}`: {TITLES.get(slug, 'The service cannot answer now')}"
        answer = found.setdefault(status, {"description": "", "content": {}})
        answer["content"][PROBLEM_TYPE] = {"schema": references[Problem]}
        answer["description"] += f". {said}" if answer["description"] else said
    return dict(sorted(found.items()))


def _parameters(endpoint: Endpoint, query: Tree) -> list[Tree]:
    found: list[Tree] = []
    if endpoint.names_channel:
        found.append(
            {
                "name": "id",
                "in": "path",
                "required": True,
                "description": "Channel id or proposal id, or an unambiguous beginning of it.",
                "schema": {"type": "string", "pattern": "^[0-9a-f]{4,64}$"},
            }
        )
    if "{number}" in endpoint.path:
        said = "A state number, or `registration`."
        kind: Tree = {"type": "string", "pattern": "^([0-9]{1,20}|registration)$"}
        found.append({"name": "number", "in": "path", "required": True, "description": said, "schema": kind})
    if endpoint.is_stream:
        said = "Where to go on: the id of the last event that arrived."
        last: Tree = {"type": "integer", "minimum": 0, "maximum": MAX_SEQUENCE}
        found.append({"name": "Last-Event-ID", "in": "header", "required": False, "description": said, "schema": last})
    for name, schema in query.get("properties", {}).items():
        found.append({"name": name, "in": "query", "required": False, "schema": _not_null(schema)})
    return found


def _not_null(schema: Tree) -> Tree:
    """A parameter that is missing has no value; it is never the text `null`."""
    variants = [variant for variant in schema.get("anyOf", ()) if variant != {"type": "null"}]
    return dict(variants[0]) if variants else schema


def _resolved(schema: Tree, components: dict[str, Any]) -> Tree:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Tree = components[name] if name else schema
    return found


def _security_schemes() -> Tree:
    found: Tree = {"token": {"type": "http", "scheme": "bearer", "description": "A token of the operator, `wt_…`."}}
    for name, header in (("signature", "Signature"), ("covered", "Signature-Input"), ("digest", "Content-Digest")):
        said = f"The header `{header}` of a request signed by a party (docs/api.md)."
        found[name] = {"type": "apiKey", "in": "header", "name": header, "description": said}
    return found


def _schema(form: type) -> Tree:
    """The text form of byte strings."""
    if not issubclass(form, Hex):
        raise NotImplementedError(f"{form.__name__} has no schema")
    if form.SIZE is not None:
        return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * form.SIZE}}}$"}
    return {"type": "string", "pattern": "^([0-9a-f]{2})*$", "maxLength": 2 * form.LIMIT}
