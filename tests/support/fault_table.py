"""Which test shows that a fault of the catalogue does no harm, read from the names and docstrings of the tests.

`python -m tests.support.fault_table > docs/faults.md` writes the table anew.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.support.scenarios import plays

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"test_fault_([A-Z]\d+)_\w+")

FAMILIES = {
    "N": "The node",
    "Z": "ZMQ",
    "C": "The chain",
    "M": "Mempool and fees",
    "P": "Process, storage, host",
    "A": "Clients and the API",
}

FAULTS = {
    "N1": "the node is down when the tower starts",
    "N2": "the node is down for many blocks",
    "N3": "the node loads, downloads blocks, or has more headers than blocks",
    "N4": "the node's work queue is full, calls time out or are reset",
    "N5": "the node accepts a connection and never answers",
    "N6": "the node did what it was asked for, and its answer is lost",
    "N7": "the node's cookie changes",
    "N8": "an answer is cut off, of a wrong type or gigantic",
    "N9": "a block is gone because the node prunes",
    "N10": "the node comes back with fewer blocks",
    "N11": "another node or network stands behind the address",
    "N12": "the node is stuck or cut off from the network",
    "N13": "two nodes follow different chains",
    "N14": "a valid block that a parser may stumble over",
    "N15": "a node with another relay policy",
    "N16": "the node's clock is wrong",
    "Z1": "notifications are lost",
    "Z2": "the last notification is lost",
    "Z3": "notifications are doubled, swapped or late",
    "Z4": "the counter starts again or jumps",
    "Z5": "the connection is dead without a sign",
    "Z6": "a flood of notifications",
    "Z7": "forged or malformed notifications",
    "Z8": "a transaction of a disconnected block is announced",
    "C1": "one block is replaced at the same height",
    "C2": "deep reorganizations",
    "C3": "the breach leaves the chain and comes back later",
    "C4": "another revoked state takes the place of the breach",
    "C5": "an honest close takes the place of the breach",
    "C6": "the penalty leaves the chain",
    "C7": "after more than ten blocks the node's mempool is empty",
    "C8": "the chain moves between two calls",
    "C9": "the chain flips back and forth",
    "C10": "a thousand breaches in one block",
    "C11": "a breach while the tower was down before its first match ever",
    "C12": "a reorganization beyond the kept history",
    "C13": "a breach confirmed at the restart, one block before the deadline, and at it",
    "C14": "the funding is older than the registration",
    "M1": "the penalty is evicted",
    "M2": "the mempool's minimum rises above the bid",
    "M3": "a fee spike up to the deadline",
    "M4": "no estimate, or an absurd one",
    "M5": "an unconfirmed breach is replaced by another revoked state",
    "M6": "a bid is refused because of its fee",
    "M7": "pinning by descendants",
    "M8": "replacement cycling",
    "M9": "an older bid confirms",
    "M10": "miners leave the penalty out",
    "M11": "answers -25 and -27",
    "M12": "the value does not pay for a penalty",
    "M13": "a ladder of signed penalties without the rung that is needed",
    "P1": "the process dies at any step",
    "P2": "SIGKILL during a commit",
    "P3": "power loss",
    "P4": "the disk is full",
    "P5": "a write or an fsync fails",
    "P6": "the log is locked by somebody else",
    "P7": "bytes of the log change",
    "P8": "the log is an old copy",
    "P9": "a second tower on the same log",
    "P10": "a second tower with the same keys and another log",
    "P11": "the host's clock is wrong or jumps",
    "P12": "a task dies or stalls silently",
    "P13": "an event that a read model cannot apply",
    "P14": "the read models are lost",
    "P15": "an upgrade of the log is interrupted",
    "P16": "no file descriptors or memory left",
    "P17": "a stop at any step",
    "P18": "two writers in one process",
    "A1": "garbage, wrong signatures, wrong numbers",
    "A2": "bodies that are too large or never end",
    "A3": "deep, doubled or out-of-range JSON",
    "A4": "slow clients",
    "A5": "requests are replayed",
    "A6": "uploads repeated, out of order, or with a lost answer",
    "A7": "a flood of registrations",
    "A8": "somebody else's hints are occupied",
    "A9": "a delegated penalty with hostile content",
    "A10": "an answer without durability",
    "A11": "guessing of channel names and tokens",
    "A12": "an API token or a party's key leaks",
    "A13": "secrets in logs and answers",
    "A14": "the node's password leaks",
}

SCENARIOS = {
    "N2": ("N02", "B17"),
    "N3": ("N03",),
    "N10": ("R08",),
    "N12": ("N03",),
    "N13": ("N04",),
    "N15": ("N05",),
    "N16": ("N09",),
    "Z1": ("N01",),
    "Z2": ("N01",),
    "Z4": ("N01",),
    "Z8": ("R11",),
    "C1": ("R01",),
    "C3": ("R05",),
    "C4": ("B06", "B07", "R03"),
    "C5": ("B08", "B09", "R04"),
    "C6": ("R02", "R09"),
    "C9": ("R12",),
    "C10": ("B25",),
    "C13": ("B21",),
    "M1": ("B27",),
    "M4": ("B03", "N08"),
    "M5": ("B06",),
    "M7": ("B02", "B03", "B04", "B05"),
    "M8": ("D17",),
    "M11": ("N06", "N07"),
    "M12": ("B23",),
    "M13": ("D07",),
    "P11": ("N09",),
    "P14": ("N10",),
    "A6": ("F06", "F12"),
    "A9": ("D02", "D04", "D07"),
}
"""Faults that scenarios of docs/scenarios.md play."""

ALSO: dict[str, tuple[str, ...]] = {
    "C14": (
        "test_spent_funding_output_is_refused",
        "test_arming_finds_a_spend_that_was_mined_during_the_registration",
        "test_spend_between_registration_and_first_pass",
        "test_spend_in_the_mempool_between_registration_and_first_pass",
    ),
    "M4": ("test_a_missing_estimate_stops_nothing", "test_bid_never_falls_and_stays_between_floor_and_cap"),
    "M8": ("test_attack_A5_replacement_cycling",),
    "P8": ("test_an_older_copy_of_the_log_adopts_the_higher_bid", "test_a_party_that_is_behind_its_tower_is_frozen"),
    "P9": ("test_a_second_instance_ends_with_3", "test_a_second_instance_fails_at_once_and_names_the_first"),
    "A1": (
        "test_the_operator_finds_no_failure",
        "test_a_party_finds_no_failure",
        "test_changed_bodies_are_refused_or_taken",
        "test_changed_signatures_are_refused",
        "test_a_refused_call_leaves_no_trace",
        "test_F08_each_of_the_eight_signatures_is_checked",
    ),
    "A10": (
        "test_fault_P1_nothing_is_lost_wherever_it_fails",
        "test_fault_P1_a_killed_process_comes_back",
        "test_killed_writers_lose_nothing_acknowledged",
        "test_f12_a_lost_answer_is_repaired_by_the_next_upload",
    ),
    "A12": ("test_a_token_may_do_what_its_scopes_say",),
    "A13": (
        "test_no_secret_leaves_its_file",
        "test_errors_do_not_repeat_what_was_wrong",
        "test_the_log_of_a_fault_shows_no_locals",
    ),
    "A14": ("test_adapter_calls_only_allowed_methods",),
}
"""Tests that show it without the id in their name."""

NOT_HERE = {
    "A8": "hints belong to sealed penalties, which are not built (docs/promises.md)",
}


class Proof(NamedTuple):
    """A test of a fault: function, file below the root, first paragraph of its docstring."""

    name: str
    file: str
    says: str


@cache
def proofs() -> dict[str, tuple[Proof, ...]]:
    """The tests of each fault, those on a real node first."""
    found: dict[str, list[Proof]] = {fault: [] for fault in FAULTS}
    by_name = {proof.name: proof for proof in _functions()}
    for proof in by_name.values():
        if match := NAMED.fullmatch(proof.name):
            found[match[1]].append(proof)
    for fault, names in ALSO.items():
        found[fault] += [by_name[name] for name in names]
    for fault, scenarios in SCENARIOS.items():
        found[fault] += [Proof(p.name, p.file, p.says) for p in plays() if p.id in scenarios and p.on_node]
    return {fault: tuple(dict.fromkeys(sorted(tests, key=_place))) for fault, tests in found.items()}


def _place(proof: Proof) -> tuple[bool, str, str]:
    return not proof.file.startswith("tests/regtest/"), proof.file, proof.name


def _functions() -> Iterator[Proof]:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield Proof(node.name, file, " ".join((ast.get_docstring(node) or "").split()))


HEAD = """# Faults and their tests

What may go wrong around a tower, and the tests that show what happens then. Tests under `tests/regtest` and
`tests/chaos` run with a real bitcoind, and so do most of those under `tests/crash`. The simulation (`make sim`) and the
random schedules on real nodes (`make chaos`) play most of them together and at random moments.

This file is written by `python -m tests.support.fault_table > docs/faults.md`.
"""


def table() -> str:
    """The document."""
    parts = [HEAD]
    for letter, title in FAMILIES.items():
        parts.append(f"\n## {title}\n\n| id | fault | tests |\n|---|---|---|\n")
        parts += [f"| {fault} | {text} | {_tests(fault)} |\n" for fault, text in FAULTS.items() if fault[0] == letter]
    return "".join(parts)


def _tests(fault: str) -> str:
    links = "<br>".join(f"[{proof.name}](../{proof.file})" for proof in proofs()[fault])
    return links or f"*{NOT_HERE[fault]}*"


if __name__ == "__main__":
    sys.stdout.write(table())
