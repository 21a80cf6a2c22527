"""The catalogue of scenarios: none is without its test, and the document names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.support.scenarios import ROOT, plays

LINK = re.compile(r"^\| ([A-Z]\d\d) \| \[(\w+)\]\(\.\./([\w/]+\.py)\) \|", re.MULTILINE)
ON_A_NODE = [
    *(f"F{number:02}" for number in (*range(1, 13), 14, 15, 16)),
    *(f"B{number:02}" for number in (*range(1, 23), 24, 26, 27, 28, 29, 30)),
    *(f"R{number:02}" for number in range(1, 11)),
    *(f"C{number:02}" for number in range(1, 15)),
    *(f"D{number:02}" for number in (7, 8, 9, 10, 11, 12, 14, 15)),
    *(f"N{number:02}" for number in range(1, 11)),
]
"""What is a matter of transactions and blocks."""


@pytest.mark.parametrize("scenario", ON_A_NODE)
def test_a_scenario_is_played_on_a_node(scenario: str) -> None:
    """At least one test with a real bitcoind has the id."""
    assert scenario in {play.id for play in plays() if play.on_node}


def test_the_document_names_tests_that_exist() -> None:
    """Each row of the table is a test of today; write the document anew if one was renamed."""
    document = (ROOT / "docs" / "scenarios.md").read_text()
    existing = {(play.id, play.name, play.file) for play in plays()}
    named = set(LINK.findall(document))
    assert set() == named - existing
    assert set(ON_A_NODE) <= {id_ for id_, _, _ in named}


def test_each_says_what_it_shows() -> None:
    """A row without a sentence would help nobody."""
    assert [] == [play.name for play in plays() if not play.says]
