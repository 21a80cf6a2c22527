"""The catalogue of scenarios: none is without its test, and the document names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.support.scenarios import NOT_HERE, ROOT, plays

pytestmark = pytest.mark.slow

LINK = re.compile(r"^\| ([A-Z]\d\d) \| \[(\w+)\]\(\.\./([\w/]+\.py)\) \|", re.MULTILINE)
CATALOGUE = [
    f"{family}{number:02}"
    for family, count in {"F": 16, "B": 30, "R": 12, "C": 14, "D": 17, "N": 10}.items()
    for number in range(1, count + 1)
]
COMPUTED = {"D13"}
"""What no node can say anything about."""

ON_A_NODE = [each for each in CATALOGUE if each not in NOT_HERE and each not in COMPUTED]


@pytest.mark.parametrize("scenario", ON_A_NODE)
def test_a_scenario_is_played_on_a_node(scenario: str) -> None:
    """At least one test with a real bitcoind has the id."""
    assert scenario in {play.id for play in plays() if play.on_node}


def test_every_scenario_has_a_test_or_a_reason() -> None:
    """What has none is named with the reason, and what has one is not."""
    assert set(NOT_HERE) == set(CATALOGUE) - {play.id for play in plays()}


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
