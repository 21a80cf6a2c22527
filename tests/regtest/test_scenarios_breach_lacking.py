"""Breaches when something is missing: a secret, a key, estimates, blocks, a node that answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from domain.events import (
    AlertKind,
    BreachDetected,
    PenaltyPrepared,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.breaches import FaultyNode, only
from tests.regtest.clients import client_of
from tests.regtest.conftest import MakeWorld, StartNode
from tests.regtest.world import PASSPHRASE, SWEEP, World
from watchtower.channels.register import register
from watchtower.client.errors import ChannelIsClosed
from watchtower.devnode.regtest import RpcRefused
from watchtower.keystore import FileKeystore
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import Answer, BlockNotAvailable, NodeError


def test_scenario_B26_missing_secret(world: World) -> None:
    """Revoked but not uploaded: an honest close until the owner hands over the secret, then punished."""
    pair = world.open(updates=2)
    pair.updates(2)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()
    assert [] == world.events(pair, BreachDetected)

    world.reveal(pair, 2)
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 2)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


@pytest.mark.asyncio
@pytest.mark.parametrize("published", [2, 3, 4])
async def test_scenario_B26_client_delivers_the_missing_secrets(world: World, published: int) -> None:
    """The peer closes with a state whose revocation was not uploaded yet: the client's next call brings the secret."""
    pair = world.open(updates=2)
    pair.updates(3)
    world.node.generate_block([pair.commitment(Side.A, published)])
    world.look()

    async with client_of(world, pair) as client:
        with pytest.raises(ChannelIsClosed):
            await client.synchronize(pair.channel_id)
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, published)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


def test_scenario_B26_missing_key(world: World) -> None:
    """Without the revocation key the breach is an alert; a repeated registration brings the key and the penalty."""
    pair = world.open(updates=3)
    world.stop()
    (world.directory / "keystore").unlink()
    FileKeystore.create(world.directory / "keystore", PASSPHRASE, cost=2).close()
    world.wake()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    assert {AlertKind.UNARMED_BREACH} == world.channel(pair).alerts
    assert [] == world.events(pair, PenaltyPrepared)

    register(world.context, pair.registration(Side.B))
    world.look()

    assert world.mempool_spender(world.contest(pair, 1)) is not None
    assert frozenset() == world.channel(pair).alerts


def test_scenario_B03_no_fee_estimator(start_node: StartNode, tmp_path: Path) -> None:
    """A node that takes no transactions from peers refuses to estimate fees; that does not stop the penalty."""
    node = start_node(extra_args=["-blocksonly"])
    world = World(node, tmp_path / "tower")
    pair = world.open(updates=3)
    with pytest.raises(RpcRefused, match="disabled"):
        node.rpc("estimatesmartfee", 2)

    node.generate_block([pair.commitment(Side.A, 1)])
    world.look()

    assert world.mempool_spender(world.contest(pair, 1)) is not None
    world.close()


def test_scenario_B21_deadline_counts_headers_not_our_cursor(make_world: MakeWorld) -> None:
    """While blocks cannot be read the deadline still comes nearer: the bid follows the node's headers."""

    def unreadable(_block_hash: bytes) -> bytes:
        raise BlockNotAvailable("block: pruned")

    world = make_world(node_port=FaultyNode)
    pair = world.open(updates=3, challenge_period=20)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    assert 19 == only(world, pair, PenaltyPrepared).remaining
    world.port.faults["block"] = unreadable  # type: ignore[attr-defined]
    for _ in range(18):
        world.node.generate_block()

    report = world.tower.run_pass(SWEEP)

    assert isinstance(report.error, BlockNotAvailable)
    last = world.events(pair, PenaltyPrepared)[-1]
    assert isinstance(last, PenaltyPrepared)
    assert 1 == last.remaining
    spender = world.mempool_spender(world.contest(pair, 1))
    assert spender is not None
    assert last.txid == spender.txid


def test_scenario_B24_node_trouble_with_one_penalty_does_not_stop_the_other(make_world: MakeWorld) -> None:
    """The node gives no usable answer about one penalty: the other goes out, also in the start after a restart."""
    refused: list[bytes] = []

    def moody(adapter: BitcoindNode) -> FaultyNode:
        def broadcast(raw: bytes) -> Answer:
            if Transaction.parse(raw).inputs[0].outpoint in refused:
                raise NodeError("sendrawtransaction: the node's reply has another shape than expected")
            return adapter.broadcast(raw)

        def broadcast_many(raws: Sequence[bytes]) -> tuple[Answer, ...]:
            return tuple(broadcast(raw) for raw in raws)

        port = FaultyNode(adapter)
        port.faults["broadcast"] = broadcast
        port.faults["broadcast_many"] = broadcast_many
        return port

    world = make_world(node_port=moody)
    first, second = world.open(updates=2, challenge_period=12), world.open(updates=2, challenge_period=20)
    refused.append(world.contest(first, 0))
    world.node.generate_block([first.commitment(Side.A, 0), second.commitment(Side.A, 0)])

    report = world.tower.run_pass(SWEEP)
    again = world.restart()

    assert [world.stream(first)] * 2 == [each.respond.troubles[0].stream for each in (report, again)]
    assert world.mempool_spender(world.contest(second, 0)) is not None
    refused.clear()
    world.look()
    assert world.mempool_spender(world.contest(first, 0)) is not None
