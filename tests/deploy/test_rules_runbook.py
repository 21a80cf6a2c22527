"""Every alert has its section in the runbook, and no section is left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.rules import RUNBOOK, Alert
from tests.support.rules_groups import alerts
from tests.support.rules_money import FOR_THE_PARTY, HINDERED, SPENDS
from tests.support.rules_tower import CRITICAL, WAITING

TEXT = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
SECTIONS = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))


def test_alerts_and_sections_are_the_same_set() -> None:
    """A link of an alert leads somewhere, and no section describes an alert that is gone."""
    assert {alert.name for alert in alerts()} == set(SECTIONS)
    assert len(re.findall("^### ", TEXT, re.MULTILINE)) == len(SECTIONS)


def test_links_of_alerts_are_anchors_of_the_page() -> None:
    """The address of an alert is that of its heading, in lower case."""
    assert {f"{RUNBOOK}#{name.lower()}" for name in SECTIONS} == {alert.runbook for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_section_says_what_to_do(alert: Alert) -> None:
    """Each section begins with the severity, says where to look and what to do."""
    section = SECTIONS[alert.name]
    expected = (True, True, True)
    found = (section.startswith(f"*{alert.severity}* · "), "**Look**" in section, "**Do**" in section)
    assert expected == found


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("WatchtowerNotReadyCritical", CRITICAL),
        ("WatchtowerNotReady", WAITING),
        ("WatchtowerUnexpectedSpend", SPENDS),
        ("WatchtowerAnswerHindered", HINDERED),
        ("WatchtowerPartyMustAct", FOR_THE_PARTY),
    ],
)
def test_alerts_of_several_kinds_have_a_row_for_each(name: str, values: tuple[str, ...]) -> None:
    """Where one alert stands for several troubles, its section has a row for each and for nothing else."""
    assert list(values) == re.findall(r"^\| `(\w+)` \|", SECTIONS[name], re.MULTILINE)
