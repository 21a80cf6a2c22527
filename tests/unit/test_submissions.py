"""Submitted states are counted by what became of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.errors import DomainError, InvalidSignature, SequenceGap, UnknownChannel
from tests.unit.test_metrics import samples
from watchtower.gauges.submissions import OUTCOMES, counted
from watchtower.ports import StoreBusy, WatchtowerError
from watchtower.telemetry.catalog import CATALOG
from watchtower.telemetry.metrics import Metrics


class Answer(msgspec.Struct):
    """The part of an answer that is looked at."""

    duplicate: bool


@pytest.fixture
def metrics() -> Metrics:
    """A fresh registry."""
    return Metrics(build=("0", "0", "regtest", "sqlite"))


@pytest.mark.parametrize(("duplicate", "outcome"), [(False, "accepted"), (True, "duplicate")])
def test_an_answer_is_counted(metrics: Metrics, duplicate: bool, outcome: str) -> None:
    """A repetition is told apart."""
    accept: Any = lambda _name, _request: Answer(duplicate)  # noqa: E731
    counted(accept, metrics)("ab", Any)
    assert 1 == samples(metrics)["watchtower_state_updates_total", (outcome,)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SequenceGap("7"), "sequence_gap"),
        (InvalidSignature("state"), "invalid_signature"),
        (UnknownChannel("none"), "unknown_channel"),
        (StoreBusy("full"), "error"),
    ],
)
def test_a_refusal_is_counted_and_raised(metrics: Metrics, error: DomainError | WatchtowerError, outcome: str) -> None:
    """The caller still gets the typed error."""

    def refuse(_name: str, _request: Any) -> Any:
        raise error

    with pytest.raises(type(error)):
        counted(refuse, metrics)("ab", Any)
    assert 1 == samples(metrics)["watchtower_state_updates_total", (outcome,)]


def test_every_outcome_is_in_the_catalog() -> None:
    """A label outside the closed list would be an error at the worst moment."""
    allowed = next(dict(row.labels)["outcome"] for row in CATALOG if row.name == "state_updates_total")
    assert set() == {*OUTCOMES.values(), "accepted", "duplicate", "error"} - set(allowed)
