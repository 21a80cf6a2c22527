"""Which test plays which scenario of the catalogue, read from the names and docstrings of the tests.

`python -m tests.support.scenarios > docs/scenarios.md` writes the table anew.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"test_(?:scenario_)?([A-Za-z]\d\d)_\w+")
FAMILIES = {
    "F": "Funding and updates",
    "B": "Breaches and their punishment",
    "R": "Reorganizations",
    "C": "Closes, settlements, conditional outputs",
    "D": "Delegation, proofs, hostile input",
    "N": "Node and infrastructure",
}
SHARED = {
    "test_B08_B09_an_honest_spend_replaces_a_breach": "B09",
    "test_F02_F03_the_funding_comes_goes_and_comes_back": "F03",
}
"""Tests of two scenarios; the name begins with the first one."""

NOT_HERE = {
    "D03": "the tower has no coins that it could add to a rung; an alert tells when a ladder is too short",
    "D05": "sealed penalties are not built",
    "D06": "sealed penalties are not built",
}
"""Scenarios of the catalogue that have no test, and why. Those of its further profiles (L, S) are not built either."""

ALSO = {"C13": (("tests/regtest/test_contract_rescue.py", "test_parties_settle_together"),)}
"""Tests that play a scenario without its id in their name."""


class Play(NamedTuple):
    """A test of a scenario: id, file below the root, function, first sentence of its docstring."""

    id: str
    file: str
    name: str
    says: str

    @property
    def on_node(self) -> bool:
        """True if a real node takes part."""
        return self.file.startswith("tests/regtest/")


@cache
def plays() -> tuple[Play, ...]:
    """All of them in the order of the table."""
    found = [play for path in sorted((ROOT / "tests").rglob("test_*.py")) for play in _plays_of(path)]
    order = "".join(FAMILIES)
    return tuple(sorted(found, key=lambda play: (order.index(play.id[0]), play.id, not play.on_node, play.file)))


def _plays_of(path: Path) -> Iterator[Play]:
    file = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        says = " ".join((ast.get_docstring(node) or "").split())
        match = NAMED.fullmatch(node.name)
        ids = {match[1].upper()} if match and match[1][0].upper() in FAMILIES else set()
        ids |= {SHARED[node.name]} if node.name in SHARED else set()
        ids |= {id_ for id_, others in ALSO.items() if (file, node.name) in others}
        yield from (Play(id_, file, node.name, says) for id_ in sorted(ids))


HEAD = """# Scenarios and their tests

The ids are those of the protocol's catalogue of scenarios. A test has the id in its name; tests under `tests/regtest`
play the scenario with a real bitcoind, others decide it in memory. Run one with `pytest -k C02 tests/regtest`.

This file is written by `python -m tests.support.scenarios > docs/scenarios.md`.
"""


def table() -> str:
    """The document."""
    parts = [HEAD]
    for letter, title in FAMILIES.items():
        parts.append(f"\n## {title}\n\n| id | test | what it shows |\n|---|---|---|\n")
        parts += [
            f"| {play.id} | [{play.name}](../{play.file}) | {play.says.replace('|', chr(92) + '|')} |\n"
            for play in plays()
            if play.id[0] == letter
        ]
        parts += [f"| {id_} | | *{why}* |\n" for id_, why in NOT_HERE.items() if id_[0] == letter]
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(table())
