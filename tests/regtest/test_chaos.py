"""Twenty fixed random schedules on two real nodes; `make chaos` plays as many others as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import draw
from tests.chaos.run import command, run_plan, workshop
from watchtower.devnode.provision import Found

SEEDS = (*range(19), 150)
"""9 runs the tower as a process; 150 once found an answer in the log without its intent."""


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_whatever_goes_wrong(bitcoind_path: Found, prepared_chain: Path, seed: int) -> None:
    """Every breach is punished in time, log and views tell the chain, fees never fall, nobody is accused falsely."""
    plan = draw(seed)
    with workshop() as directory:
        outcome = run_plan(plan, directory, bitcoind_path, prepared_chain)
    assert "" == outcome.failure, command(plan)
