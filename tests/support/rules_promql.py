"""What an expression of Prometheus reads: the series it selects and the labels it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import promql_parser as promql


class Selector(msgspec.Struct, frozen=True):
    """One selector: the name of the series, and its matchers as (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def nodes(expression: str) -> Iterator[Any]:
    """Every part of an expression. Raises `ValueError` for a text that is none."""
    found: list[Any] = []
    promql.walk(promql.parse(expression), lambda node: found.append(node))
    yield from found


def selectors(expression: str) -> tuple[Selector, ...]:
    """All selectors of an expression, in the order in which they stand."""
    return tuple(_selector(node) for node in nodes(expression) if isinstance(node, promql.VectorSelector))


def _selector(node: Any) -> Selector:
    rows = node.matchers.matchers
    return Selector(node.name, tuple((row.name, _OPERATORS[str(row.op)], row.value) for row in rows))


_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


def grouping_labels(expression: str) -> set[str]:
    """Labels by which the expression sums or joins."""
    found: set[str] = set()
    for node in nodes(expression):
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql.AggregateExpr) and modifier is not None:
            found |= set(modifier.labels)
        if isinstance(node, promql.BinaryExpr) and modifier is not None and modifier.matching is not None:
            found |= set(modifier.matching.labels)
    return found


def read_by(expression: str, recorded: Mapping[str, str]) -> set[str]:
    """Names of all series that the expression reads, through recording rules (name -> expression) down to scrapes."""
    names = {each.name for each in selectors(expression)}
    behind = [read_by(recorded[name], recorded) for name in names if name in recorded]
    return {name for name in names if name not in recorded}.union(*behind)
