"""The table of endpoints and the OpenAPI document that is made from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domain.status import ChannelStatus
from tests.support.towers import Bench
from watchtower.http.endpoints import ENDPOINTS
from watchtower.http.openapi import document, slugs_of
from watchtower.http.problems import TITLES, status_of
from watchtower.wire.hexes import to_json
from watchtower.wire.queries import ChannelsQuery

CHECKED_IN = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_checked_in_document_is_the_served_one() -> None:
    """`watchtower api openapi > docs/openapi.json` was run after the last change of the table."""
    assert json.loads(to_json(document())) == json.loads(CHECKED_IN.read_text())


@pytest.mark.asyncio
async def test_the_document_is_served_without_a_token(tmp_path: Path) -> None:
    """A stranger may read how to talk to the tower."""
    async with Bench(tmp_path).http() as http:
        del http.headers["Authorization"]
        answer = await http.get("/openapi.json")

    assert 200 == answer.status_code
    assert json.loads(to_json(document())) == answer.json()


def test_every_row_is_an_operation() -> None:
    """Each row of the table is in the document under its method, with a name of its own."""
    paths = document()["paths"]
    found = {paths[row.path][row.method.lower()]["operationId"] for row in ENDPOINTS}

    assert {row.name for row in ENDPOINTS} == found
    assert len(ENDPOINTS) == len(found)


def test_every_reference_leads_somewhere() -> None:
    """No schema is named that is not there, and none is there that nobody names."""
    text = json.dumps(document())
    names = set(document()["components"]["schemas"])
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert names == named


def test_every_problem_of_a_row_is_known() -> None:
    """A slug in the table is a slug that the service has: it has a status that is not that of a fault."""
    slugs = {slug for row in ENDPOINTS for slug in slugs_of(row)} - {"internal"}

    assert [] == sorted(slug for slug in slugs if status_of(slug) == 500)
    assert slugs & set(TITLES)


def test_the_filter_knows_every_status() -> None:
    """The type of the query parameter lists what `ChannelStatus` has."""
    shown = next(
        parameter["schema"]["enum"]
        for parameter in document()["paths"]["/v1/channels"]["get"]["parameters"]
        if parameter["name"] == "status"
    )

    assert sorted(ChannelStatus) == sorted(shown)
    assert ChannelsQuery().status is None
