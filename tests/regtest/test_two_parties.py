"""Two party processes with real money: funded, updated, killed, closed together, and confirmed on the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.transaction import Transaction
from tests.support.party_process import PartyProcess
from watchtower.devnode.launch import free_ports
from watchtower.devnode.regtest import RegtestNode

SPLIT = [400_000, 600_000]


@pytest.fixture
def processes(node: RegtestNode, tmp_path: Path) -> Iterator[tuple[PartyProcess, PartyProcess]]:
    """A has the node's wallet and dials B."""
    port_a, port_b = free_ports(2)
    b = PartyProcess(tmp_path / "bob", port_b)
    a = PartyProcess(tmp_path / "alice", port_a, (b.address,), (f"{node.rpc_url}/wallet/purse", str(node.cookie_path)))
    with a, b:
        yield a, b


def at_rest(a: PartyProcess, b: PartyProcess, channel: str) -> dict[str, Any]:
    """Where both stand, which is one place."""
    mine = a.ask("rest", peer=b.key, channel=channel)
    assert mine == b.ask("rest", peer=a.key, channel=channel)
    return mine


def test_a_funded_channel_survives_two_kills_and_closes(
    node: RegtestNode, processes: tuple[PartyProcess, PartyProcess]
) -> None:
    """Funding confirms, both processes die in the middle of updates, the close pays the last agreed balances."""
    a, b = processes
    channel = a.ask("open", peer=b.key)["channel"]
    (funding,) = node.mempool()
    node.mine(1)

    assert {"sequence": 1} == a.ask("update", peer=b.key, channel=channel, balances=[450_000, 550_000])
    for victim, point in ((a, 9), (b, 5)):
        victim.ask("crash", after=point)
        a.tell("update", peer=b.key, channel=channel, balances=SPLIT)
        victim.revive()
        a.tell("crash", after=-1)
        while a.answer() != {}:
            pass
        standing = at_rest(a, b, channel)
        assert standing["balances"] in ([450_000, 550_000], SPLIT)
    done = a.ask("update", peer=b.key, channel=channel, balances=SPLIT)
    assert {"sequence": standing["sequence"] + 1} == done

    raw = bytes.fromhex(a.ask("close", peer=b.key, channel=channel, balances=SPLIT)["raw"])
    node.send_raw(raw)
    node.mine(1)
    close = Transaction.parse(raw)

    assert node.confirmation(close.txid) is not None
    assert funding == close.inputs[0].outpoint[:32]
    assert [399_000, 600_000] == sorted(output.value for output in close.outputs)


def test_a_crash_before_the_broadcast_loses_no_funding(
    node: RegtestNode, processes: tuple[PartyProcess, PartyProcess]
) -> None:
    """The process dies with the signed funding transaction in its log only; the next one sends it."""
    a, b = processes
    a.ask("crash_before_broadcast")
    a.tell("open", peer=b.key)
    a.revive()
    before = node.mempool()

    assert set() == before
    assert 1 == a.ask("send_fundings")["sent"]
    assert 1 == len(node.mempool())
