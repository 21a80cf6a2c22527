"""Spends between registration and first pass, and transactions that fund two channels."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from domain.events import (
    BreachDetected,
    SpendKind,
)
from domain.transaction import TxOut
from domain.units import Side
from tests.regtest.fundings import bare, drafted, rival, watch
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import SWEEP, World
from tests.support.parties import Pair, make_party, open_pair
from watchtower.channels.context import Context
from watchtower.channels.register import register
from watchtower.devnode.purse import Funding
from watchtower.ports import NodeError, NodeUnavailable


class SlowKeystore:
    """A keystore during whose write the world moves on: the registration is decided, but not yet in the log."""

    def __init__(self, world: World, meanwhile: Callable[[], None]) -> None:
        self._world = world
        self._meanwhile = meanwhile

    def put(self, proposal_id: bytes, revocation_secret: bytes) -> None:
        """Store, then let blocks pass, once: a registration may bring several secrets."""
        self._world.keystore.put(proposal_id, revocation_secret)
        meanwhile, self._meanwhile = self._meanwhile, lambda: None
        meanwhile()

    def get(self, proposal_id: bytes) -> bytes | None:
        """As the real one."""
        return self._world.keystore.get(proposal_id)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("with_funding_tx", [True, False])
@pytest.mark.parametrize("funded", [True, False])
def test_arming_finds_a_spend_that_was_mined_during_the_registration(
    world: World, funded: bool, with_funding_tx: bool, restarted: bool
) -> None:
    """The block with the close was followed before the registration was in the log: it is looked through again."""
    pair = drafted(world)
    unseen = [] if funded else [pair.funding.raw]
    if funded or not with_funding_tx:
        unseen = []
        world.node.send_raw(pair.funding.raw)
        world.node.mine(1)
        world.look()

    def meanwhile() -> None:
        world.node.generate_block([*unseen, pair.commitment(Side.A, 0)])
        world.look()

    slow: Context = msgspec.structs.replace(world.context, keystore=SlowKeystore(world, meanwhile))
    register(slow, pair.registration(Side.B, with_funding_tx))
    (world.restart if restarted else world.look)()

    spend = world.channel(pair).confirmed_spend
    assert spend is not None
    assert (SpendKind.PEER_CLOSE, 0) == (spend.kind, spend.sequence)
    assert "UNILATERAL" == world.status(pair)
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


@pytest.mark.parametrize("calls", [1, 2])
def test_arming_goes_on_after_the_node_failed_in_a_search(world: World, calls: int) -> None:
    """A search that an error of the node interrupts is taken up again in the next pass."""
    pair = drafted(world)
    world.node.send_raw(pair.funding.raw)
    world.node.mine(3)
    world.look()

    def meanwhile() -> None:
        world.node.generate_block([pair.commitment(Side.A, 0)])
        world.look()

    slow: Context = msgspec.structs.replace(world.context, keystore=SlowKeystore(world, meanwhile))
    register(slow, bare(pair))
    real, answers = world.port.block, iter([False] * (calls - 1) + [True])

    def block(block_hash: bytes) -> bytes:
        if next(answers, False):
            raise NodeUnavailable("connection refused")
        return real(block_hash)

    world.port.block = block  # type: ignore[method-assign]
    failed = world.tower.run_pass(SWEEP)
    before = world.status(pair)
    world.look()

    assert isinstance(failed.error, NodeUnavailable)
    assert failed.again
    assert ("PROPOSED", "UNILATERAL") == (before, world.status(pair))


def test_spend_between_registration_and_first_pass(world: World) -> None:
    """Registered, then closed in the next block, before the tower looked once: the block shows it."""
    pair = drafted(world)
    world.node.send_raw(pair.funding.raw)
    world.node.mine(3)
    watch(world, pair, with_funding_tx=False)
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()

    assert "UNILATERAL" == world.status(pair)


def test_spend_in_the_mempool_between_registration_and_first_pass(world: World) -> None:
    """The same with a close that waits in the mempool: seen by the sweep, then in its block."""
    pair = drafted(world)
    world.node.send_raw(pair.funding.raw)
    world.node.mine(3)
    watch(world, pair, with_funding_tx=False)
    world.node.send_raw(pair.commitment(Side.A, 0))
    world.look()
    waiting = world.channel(pair).mempool_spend
    world.node.mine(1)
    world.look()

    assert waiting is not None
    assert "UNILATERAL" == world.status(pair)
    assert world.channel(pair).confirmed_spend is not None


def test_wrong_answer_of_the_node_ends_the_pass_and_not_the_tower(world: World) -> None:
    """A node that hands over another transaction than it named is a node in trouble: the next pass asks again."""
    pair = world.open(updates=1)
    world.node.send_raw(pair.commitment(Side.A, 0))
    real = world.port.mempool_transaction
    answers = iter([pair.funding.raw])
    world.port.mempool_transaction = lambda txid: next(answers, None) or real(txid)  # type: ignore[method-assign]
    failed = world.tower.run_pass(SWEEP)
    before = world.events(pair, BreachDetected)
    world.look()

    assert isinstance(failed.error, NodeError)
    assert [] == before
    assert world.penalty_of(pair, 0) is not None


def twins(world: World) -> tuple[Pair, Pair]:
    """Two channels that one transaction funds, outputs 0 and 1; not sent, not registered."""
    second: list[Pair] = []

    def fund_both(spk: bytes, amount: int) -> Funding:
        def fund_second(other_spk: bytes, other_amount: int) -> Funding:
            made = world.node.fund_many([TxOut(amount, spk), TxOut(other_amount, other_spk)], broadcast=False)
            return Funding(made.txid, 1, made.raw)

        ends = (make_party("erin"), make_party("frank"))
        second.append(open_pair(fund_second, names=("erin", "frank"), parties=ends, challenge_period=24))
        return Funding(second[0].funding.txid, 0, second[0].funding.raw)

    return drafted(world, fund_both), second[0]


@pytest.mark.parametrize("with_funding_tx", [True, False])
def test_one_transaction_funds_two_channels(world: World, with_funding_tx: bool) -> None:
    """Both are found by its block, both lose it in a reorg, both are void after its double spend."""
    pairs = twins(world)
    conflict = rival(world, pairs[0])
    world.node.send_raw(pairs[0].funding.raw)
    world.node.mine(1)
    for pair in pairs:
        watch(world, pair, with_funding_tx=with_funding_tx)
    world.look()
    funded = [world.status(pair) for pair in pairs]
    world.node.reorg(1)
    world.look()
    gone = [world.status(pair) for pair in pairs]
    world.node.reorg(1, [[conflict], []])
    world.restart()

    assert (["ACTIVE"] * 2, ["FUNDING_BROADCAST"] * 2) == (funded, gone)
    assert ["DOUBLE_SPENT"] * 2 == [world.status(pair) for pair in pairs]
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


def test_two_channels_of_one_transaction_are_breached_in_its_block(world: World) -> None:
    """Funding and both commitments share a block: each channel gets its own verdict and its own answer."""
    first, second = twins(world)
    for pair in (first, second):
        watch(world, pair)
    world.node.generate_block([first.funding.raw])
    world.look()
    world.update(first, 2)
    raws = [first.funding.raw, first.commitment(Side.A, 1), second.commitment(Side.A, 0)]
    world.node.reorg(1, [raws, []])
    world.look()

    kinds = [spend.kind for pair in (first, second) for spend in world.channel(pair).spends]
    assert [SpendKind.BREACH, SpendKind.PEER_CLOSE] == kinds
    assert world.penalty_of(first, 1) is not None
