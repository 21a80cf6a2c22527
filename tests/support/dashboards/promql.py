"""What a query names, read by a real parser; Grafana's variables are replaced first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import promql_parser

EVERYTHING = {
    "$job": ".+",
    "$instance": ".+",
    "$__rate_interval": "30s",
    "$__interval": "15s",
    "$__range": "10m",
}
"""Values of the variables when everything is selected."""

CHANGES = frozenset({"rate", "increase", "changes"})
"""Functions that give a counter a meaning."""


class Match(msgspec.Struct, frozen=True):
    """A label of a selector with its operator (=, !=, =~, !~) and value."""

    label: str
    operator: str
    value: str


class Selector(msgspec.Struct, frozen=True):
    """A metric in a query; `function` is the call that its range is given to, "" outside of one."""

    name: str
    matches: tuple[Match, ...]
    function: str


_OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def substituted(expr: str, values: Mapping[str, str] = EVERYTHING) -> str:
    """The expression without variables, the longest names first."""
    for name in sorted(values, key=len, reverse=True):
        expr = expr.replace(name, values[name])
    return expr


def selectors(expr: str) -> list[Selector]:
    """All selectors of an expression without variables; raises `ValueError` with the parser's complaint."""
    return list(_selectors(promql_parser.parse(expr), ""))


def _selectors(node: object, function: str) -> Iterator[Selector]:
    match node:
        case promql_parser.VectorSelector():
            yield _selector(node, function)
        case promql_parser.MatrixSelector():
            yield _selector(node.vector_selector, function)
        case promql_parser.Call():
            for each in node.args:
                yield from _selectors(each, node.func.name)
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs, function)
            yield from _selectors(node.rhs, function)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            yield from _selectors(node.expr, function)  # type: ignore[attr-defined]


def _selector(node: promql_parser.VectorSelector, function: str) -> Selector:
    matches = tuple(Match(each.name, _operator(each), each.value) for each in node.matchers.matchers)
    return Selector(str(node.name), matches, function)


def _operator(matcher: promql_parser.Matcher) -> str:
    return _OPERATORS[str(matcher.op).rpartition(".")[2]]
