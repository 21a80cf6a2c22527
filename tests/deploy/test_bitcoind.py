"""deploy/bitcoind: the example is made from what the program calls, and can be read by bitcoind's rules."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import bitcoin_conf
from watchtower.cli.init import bitcoind_lines

EXAMPLE = Path(__file__).parents[2] / "deploy" / "bitcoind" / "bitcoin.conf.example"


def test_the_example_is_the_generated_one() -> None:
    """After a change: make pages."""
    assert bitcoin_conf.text() == EXAMPLE.read_text(), test_the_example_is_the_generated_one.__doc__


def test_the_example_has_every_line_that_init_prints() -> None:
    """But for the password's hash."""
    active = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    printed = bitcoind_lines("rpcauth=watchtower:", "watchtower")

    assert [] == [line for line in printed if not any(each.startswith(line) for each in active)]


def test_every_line_is_a_setting_or_a_comment() -> None:
    """key=value, without blanks around the sign, as bitcoind reads it."""
    lines = [line.removeprefix("#") for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("# ")]

    assert [] == [line for line in lines if not re.fullmatch(r"[a-z]+=\S+", line)]
    assert len(lines) > 8
