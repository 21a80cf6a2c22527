"""The real service, killed by SIGKILL at every named point, and asked to stop at every one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from domain.chain import make_outpoint
from domain.units import Side
from tests.crash.mortal import SIGKILLED, Mortal
from tests.crash.points import NAMES
from tests.support.healthy import Watched
from tests.support.parties import Pair
from watchtower.devnode.regtest import RegtestNode

Story = Callable[[Mortal, Pair], Pair]


@pytest.fixture
def mortal(shared_node: RegtestNode, tmp_path: Path) -> Iterator[Mortal]:
    """A tower at the node's present tip."""
    shared_node.mine(1)
    tower = Mortal(shared_node, tmp_path / "tower")
    yield tower
    tower.close()


def punish(mortal: Mortal, pair: Pair) -> Pair:
    """A stale commitment waits, is mined, and its penalty is mined."""
    mortal.node.send_raw(pair.commitment(Side.A, 0))
    contest = make_outpoint(pair.commitment_txid(Side.A, 0), 0)
    mortal.until(lambda: mortal.node.spender(contest))
    mortal.node.generate_block([pair.commitment(Side.A, 0)])
    mortal.caught_up()
    mortal.until(lambda: mortal.node.spender(contest))
    mortal.node.mine(1)
    mortal.caught_up()
    return pair


def punish_late(mortal: Mortal, pair: Pair) -> Pair:
    """Empty blocks until the bid rises."""
    mortal.node.generate_block([pair.commitment(Side.A, 0)])
    contest = make_outpoint(pair.commitment_txid(Side.A, 0), 0)
    first = mortal.until(lambda: mortal.node.spender(contest))
    for _ in range(18):
        mortal.node.generate_block()
        mortal.caught_up()
    mortal.until(lambda: mortal.node.spender(contest) != first)
    mortal.node.mine(1)
    mortal.caught_up()
    return pair


def punish_and_reorganize(mortal: Mortal, pair: Pair) -> Pair:
    """Breach and penalty leave the chain, deeper than the node's mempool takes them back."""
    punish(mortal, pair)
    mortal.node.mine(10)
    mortal.caught_up()
    mortal.node.reorg(12)
    contest = make_outpoint(pair.commitment_txid(Side.A, 0), 0)
    mortal.until(lambda: mortal.node.spender(contest))
    mortal.node.mine(1)
    mortal.caught_up()
    mortal.until(lambda: mortal.node.spender(contest))
    mortal.node.mine(1)
    mortal.caught_up()
    return pair


def punish_for_good(mortal: Mortal, pair: Pair) -> Pair:
    """A hundred blocks on top."""
    punish(mortal, pair)
    mortal.node.mine(100)
    mortal.caught_up()
    return pair


def open_and_punish(mortal: Mortal, pair: Pair) -> Pair:
    """Another channel is registered and updated."""
    del pair
    return punish(mortal, mortal.open())


def stop(mortal: Mortal, pair: Pair) -> Pair:
    """Asked to end; whatever that does, the next start goes on."""
    mortal.service.wait_for("service_started")  # before that a signal ends it as it ends every program
    mortal.service.terminate()
    mortal.revive()
    return punish(mortal, pair)


STORIES: dict[str, Story] = {
    "bump_commit": punish_late,
    "disconnect": punish_and_reorganize,
    "package": punish_and_reorganize,
    "resolve_commit": punish_for_good,
    "register_commit": open_and_punish,
    "state_commit": open_and_punish,
    "receipt_sign": open_and_punish,
    "receipt_send": open_and_punish,
    "shutdown_drain": stop,
}
"""The story that reaches a name, where it is not `punish`."""

BEFORE_SIGNALS = ("migration_step", "shutdown_drain")
"""Passed before the service listens to signals, or after it has heard one."""

QUICK = ("broadcast", "state_commit", "shutdown_drain", "migration_step")


REACHED = [name for name in NAMES if name != "audit_commit"]
"""The audit writes only where the scanner was wrong; that story is played inside the tests' own process."""


def _cases(names: Sequence[str], quick: Sequence[str]) -> list[object]:
    """Every point; a few of them belong to every run of the tests."""
    return [
        pytest.param(
            f"{name}:{side}",
            id=f"{name}-{side}",
            marks=[] if name in quick and side == "after" else [pytest.mark.crash],
        )
        for name in names
        for side in ("before", "after")
    ]


def play(mortal: Mortal, point: str, kind: str) -> None:
    """A protected channel, then its story on a service that fails at the point."""
    mortal.start()
    pair = mortal.open(challenge_period=24)
    mortal.end()
    mortal.outdate_views()
    mortal.start_failing(point, kind)
    served = STORIES.get(point.split(":", maxsplit=1)[0], punish)(mortal, pair)
    mortal.see_it_die()
    mortal.end()
    mortal.check(Watched(served))


@pytest.mark.parametrize("point", _cases(REACHED, QUICK))
def test_fault_P1_a_killed_process_comes_back(mortal: Mortal, point: str) -> None:
    """SIGKILL at the point; the program starts again and everything due has happened."""
    play(mortal, point, "kill")

    assert [0, SIGKILLED, 0] == mortal.codes


@pytest.mark.parametrize("point", _cases([n for n in REACHED if n not in BEFORE_SIGNALS], ("broadcast",)))
def test_fault_P17_a_stop_at_any_point_is_orderly(mortal: Mortal, point: str) -> None:
    """SIGTERM at the point: what was begun is finished or done again by the next start; the exit code is 0."""
    play(mortal, point, "stop")

    assert [0, 0, 0] == mortal.codes


def test_fault_P16_idle_sockets_take_no_file_that_the_tower_needs(mortal: Mortal) -> None:
    """64 open files, a thousand idle connections: the breach is answered, and the process lives on."""
    mortal.start()
    pair = mortal.open()
    mortal.end()
    mortal.start_with_files(64)
    mortal.service.wait_watching()
    host, port = mortal.service.address("api").split(":")
    idle: list[socket.socket] = []
    for _ in range(1_000):
        idle.append(socket.socket())
        idle[-1].setblocking(False)
        idle[-1].connect_ex((host, int(port)))

    punish(mortal, pair)
    for each in idle:
        each.close()
    mortal.end()

    assert [0, 0] == mortal.codes
    mortal.check(Watched(pair))
