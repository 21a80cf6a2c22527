"""Two processes over encrypted TCP: either one is killed at every message boundary, and both go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.party_process import PartyProcess
from watchtower.devnode.launch import free_ports

pytestmark = pytest.mark.slow

STEP = 1_000


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[PartyProcess, PartyProcess]]:
    """A dials B; both run."""
    port_a, port_b = free_ports(2)
    b = PartyProcess(tmp_path / "bob", port_b)
    a = PartyProcess(tmp_path / "alice", port_a, (b.address,))
    with a, b:
        yield a, b


def test_two_processes_live_a_channel(processes: tuple[PartyProcess, PartyProcess]) -> None:
    """Open, update in and out of turn from both sides, close: both processes say the same."""
    a, b = processes
    channel = a.ask("open", peer=b.key)["channel"]

    assert {"sequence": 1} == a.ask("update", peer=b.key, channel=channel, balances=[499_000, 501_000])
    assert {"sequence": 2} == a.ask("update", peer=b.key, channel=channel, balances=[498_000, 502_000])
    assert {"sequence": 3} == b.ask("update", peer=a.key, channel=channel, balances=[499_000, 501_000])
    assert both_at_rest(a, b, channel)["balances"] == [499_000, 501_000]
    assert 200 < len(a.ask("close", peer=b.key, channel=channel, balances=[499_000, 501_000])["raw"])


# A passes 13 points in an update that it proposes, B passes 9; a fuse that is longer than that does not burn down.
@pytest.mark.parametrize(("victim", "points"), [(0, 13), (1, 9)], ids=["proposer", "acceptor"])
def test_a_crash_at_every_boundary_loses_nothing(
    processes: tuple[PartyProcess, PartyProcess], victim: int, points: int
) -> None:
    """After each kill and restart both sides stand at one state, with everything older revoked, and go on."""
    a, b = processes
    channel = a.ask("open", peer=b.key)["channel"]
    for point in range(1, points + 1):
        before = both_at_rest(a, b, channel)
        wanted = [before["balances"][0] - STEP, before["balances"][1] + STEP]
        processes[victim].ask("crash", after=point)
        a.tell("update", peer=b.key, channel=channel, balances=wanted)
        processes[victim].revive()
        forget_answer(a)

        after = both_at_rest(a, b, channel)
        assert after["sequence"] in (before["sequence"], before["sequence"] + 1)
        assert after["balances"] in (before["balances"], wanted)
        assert (after["balances"] == wanted) == (after["sequence"] > before["sequence"])

    final = both_at_rest(a, b, channel)
    done = a.ask("update", peer=b.key, channel=channel, balances=final["balances"])
    assert {"sequence": final["sequence"] + 1} == done


def forget_answer(a: PartyProcess) -> None:
    """Read what the interrupted call gave: a number, or that the connection ended; a killed process says nothing."""
    a.tell("crash", after=-1)
    while a.answer() != {}:
        pass


def both_at_rest(a: PartyProcess, b: PartyProcess, channel: str) -> dict[str, Any]:
    """The one place where both stand, once nothing is in flight."""
    mine = a.ask("rest", peer=b.key, channel=channel)
    theirs = b.ask("rest", peer=a.key, channel=channel)
    assert mine["sequence"] - 1 == mine["own_released"] == theirs["own_released"]
    assert mine == theirs
    assert not mine["frozen"]
    return mine
