"""Calls of the API in this process, and what their answers must be."""

from __future__ import annotations

import httpx
import msgspec

from watchtower.wire.hexes import to_plain

JSON = {"Content-Type": "application/json"}


async def post(http: httpx.AsyncClient, path: str, body: object) -> httpx.Response:
    """POST a struct or plain body as JSON."""
    return await http.post(path, content=msgspec.json.encode(to_plain(body)), headers=JSON)


def assert_problem(answer: httpx.Response, status: int, slug: str, *words: str) -> None:
    """The answer is the RFC 9457 document of this slug and its detail has these words."""
    document = answer.json()
    assert (answer.status_code, document["status"]) == (status, status), document
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"urn:state-channel:{slug}"
    assert document["title"]
    for word in words:
        assert word in document["detail"]


def assert_problem_without_detail(answer: httpx.Response, status: int, slug: str) -> None:
    """A problem whose title says everything."""
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:state-channel:{slug}")
