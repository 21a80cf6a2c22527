"""Closes that an owner asks for, transactions that are shown to the tower, and profile 1, on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.chain import BlockRef, display, from_display
from domain.contract.params import FLAG_RESCUE_LEAF, SEGWIT
from domain.errors import ChannelClosed
from domain.events import (
    AlertCleared,
    AlertKind,
    AlertRaised,
    CloseSigned,
    CommitmentPublished,
    SpendSeen,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.contract_stage import enter, publish
from tests.regtest.disputes import ask, challenge, stopped_short, sweep_of
from tests.regtest.world import World
from tests.support.proofs import ladder_proof, rungs
from watchtower.client.errors import (
    SelfBreachRefused,
    StateRefused,
)
from watchtower.client.party import exchange
from watchtower.devnode.regtest import RegtestNode


def test_unilateral_close_and_settlement(world: World) -> None:
    """The own commitment of the newest state goes out, comes back after an eviction and a reorg, and is settled."""
    pair = world.open(updates=3, challenge_period=4)
    result = ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 3))
    world.look()
    world.node.restart(["-persistmempool=0"])
    world.look()
    in_mempool_again = pair.commitment_txid(Side.B, 3) in world.node.mempool()
    world.node.mine(1)
    world.look()
    world.node.reorg(1, [[], []])
    world.look()
    for _ in range(6):
        world.node.mine(1)
        world.look()

    settled = world.node.spender(world.contest(pair, 3, Side.B))
    assert ("UNILATERAL", "IN_MEMPOOL", 1) == (result.kind, result.outcome, result.fee_output)
    assert in_mempool_again
    assert Transaction.parse(pair.settlement(Side.B, 3)).txid == settled
    assert (1, "SETTLED") == (len(world.events(pair, CommitmentPublished)), world.status(pair))


def test_an_own_commitment_is_sent_again_before_it_was_ever_seen(world: World) -> None:
    """Published while the node had no room for it, it goes out with the first pass that finds room; no log has it."""
    pair = world.open(updates=2)
    world.node.restart(["-minrelaytxfee=0.0001"])
    result = ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 2))
    kept = [raw for raw in (getattr(event, "raw", None) for event in world.events(pair)) if raw is not None]
    world.node.restart()

    world.look(2)

    assert "FEE_CHILD_NEEDED" == result.outcome
    assert bytes.fromhex(result.transaction) not in kept
    assert pair.commitment_txid(Side.B, 2) in world.node.mempool()


def test_unilateral_close_with_a_fee_child(world: World) -> None:
    """Where the fixed fee is too low, the transaction of the answer and a child on its anchor are taken together."""
    pair = world.open(updates=1)
    world.node.restart(["-minrelaytxfee=0.0001"])
    result = ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 1))
    raw = bytes.fromhex(result.transaction)
    child = world.node.anchor_child(Transaction.parse(raw).txid, vout=result.fee_output, fee=10_000)

    world.node.submit_package([raw, child])
    world.look()

    assert "UNILATERAL" == world.status(pair)


def test_unilateral_close_of_a_revoked_state(world: World) -> None:
    """The party refuses to sign it, and the tower refuses signatures that were made elsewhere."""
    pair = world.open(updates=3)
    stale = Transaction.parse(pair.commitment(Side.B, 1)).inputs[0].witness
    low = pair.params.keys_a.fund[1:] < pair.params.keys_b.fund[1:]
    signatures = (stale[1].hex(), stale[0].hex()) if low else (stale[0].hex(), stale[1].hex())

    with pytest.raises(Exception, match="own state 1 was revoked"):
        ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 1))
    with pytest.raises(SelfBreachRefused, match="own state 1 was revoked"):
        ask(
            world,
            pair,
            lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 1, signatures),
            with_party=False,
        )

    assert [] == world.events(pair, CommitmentPublished)
    assert set() == world.node.mempool()


def test_scenario_B15_own_old_state_is_replaced_by_the_newest(world: World) -> None:
    """An own revoked state raises SELF_BREACH; the newest one, asked for through the client, replaces it."""
    pair = world.open(updates=3, challenge_period=3)
    world.node.send_raw(pair.commitment(Side.B, 1))
    world.look()
    assert frozenset({AlertKind.SELF_BREACH}) == world.channel(pair).alerts

    result = ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 3))
    raw = bytes.fromhex(result.transaction)
    child = world.node.anchor_child(Transaction.parse(raw).txid, fee=5_000)
    world.node.submit_package([raw, child])
    for _ in range(5):
        world.look()
        world.node.mine(1)
    world.look()

    assert "FEE_CHILD_NEEDED" == result.outcome
    assert [AlertKind.SELF_BREACH] == [alert.kind for alert in world.events(pair, AlertRaised)]
    assert [AlertKind.SELF_BREACH] == [alert.kind for alert in world.events(pair, AlertCleared)]
    assert world.status(pair) == "SETTLED"


def test_cooperative_close_until_it_confirms(world: World) -> None:
    """Both sign through the client; the tower sends it, again after an eviction, a restart and a reorg."""
    pair = world.open(updates=3)
    balances = pair.balances
    result = ask(world, pair, lambda client: client.close_channel_cooperative(pair.channel_id.hex(), balances))
    world.node.restart(["-persistmempool=0"])
    world.restart()
    world.look()
    txid = Transaction.parse(bytes.fromhex(result.transaction)).txid
    in_mempool_again = txid in world.node.mempool()
    world.node.mine(1)
    world.look()
    world.node.reorg(1, [[], []])
    world.look(2)
    world.node.mine(1)
    world.look()

    raw = world.node.transaction(txid)
    assert raw is not None
    paid = {out.spk: out.value for out in Transaction.parse(raw).outputs}
    assert ("COOPERATIVE", "IN_MEMPOOL") == (result.kind, result.outcome)
    assert in_mempool_again
    assert balances[0] == paid[pair.params.keys_a.payout]
    assert balances[1] - 392 == paid[pair.params.keys_b.payout]
    assert (1, "SETTLED") == (len(world.events(pair, CloseSigned)), world.status(pair))


def test_cooperative_closes_that_are_refused(world: World) -> None:
    """Balances that do not add up, another division than was signed, and a foreign transaction: nothing is stored."""
    pair = world.open(updates=1)
    name = pair.channel_id.hex()
    stored = world.channel(pair).version
    close = pair.close(Side.B)
    other = (pair.balances[0] - 5, pair.balances[1] + 5)

    with pytest.raises(Exception, match="do not add up to the capacity"):
        ask(world, pair, lambda client: client.close_channel_cooperative(name, (1, 2)))
    with pytest.raises(StateRefused, match="do not add up"):
        ask(world, pair, lambda client: client.close_channel_cooperative(name, (1, 2), transaction=close.hex()))
    with pytest.raises(StateRefused, match="not the cooperative close with these final balances"):
        ask(world, pair, lambda client: client.close_channel_cooperative(name, other, transaction=close.hex()))
    with pytest.raises(StateRefused, match="not the cooperative close"):
        raw = pair.commitment(Side.A, 1).hex()
        ask(world, pair, lambda client: client.close_channel_cooperative(name, pair.balances, transaction=raw))

    assert stored == world.channel(pair).version
    assert set() == world.node.mempool()


def test_validate_the_transactions_of_a_channel(world: World) -> None:
    """Each kind is recognized in mempool, log and chain, and every check of the real ones holds."""
    pair = world.open(updates=3, challenge_period=3)
    name = pair.channel_id.hex()

    def validate(tx_id: str, **options: Any) -> Any:
        return ask(world, pair, lambda client: client.validate_transaction(tx_id, **options))

    funding = validate(pair.funding.raw.hex())
    coming = validate(pair.commitment(Side.A, 3).hex(), ask_node=True)
    world.node.send_raw(pair.commitment(Side.A, 1))
    world.look()
    stale = validate(display(pair.commitment_txid(Side.A, 1)))
    spender = world.mempool_spender(world.contest(pair, 1))
    assert spender is not None
    penalty = validate(display(spender.txid))
    settlement = validate(pair.settlement(Side.A, 3).hex(), channel_id=name)
    refused = validate(pair.settlement(Side.A, 3).hex(), channel_id=name, ask_node=True)

    assert ("funding", True) == (funding.kind, funding.valid)
    assert ("commitment", True, "A", 3, False) == (
        coming.kind,
        coming.valid,
        coming.party,
        coming.sequence,
        coming.revoked,
    )
    assert ("commitment", True, 1, True) == (stale.kind, stale.valid, stale.sequence, stale.revoked)
    assert ("penalty", True, 1) == (penalty.kind, penalty.valid, penalty.sequence)
    assert ("settlement", True, 3) == (settlement.kind, settlement.valid, settlement.sequence)
    assert ("settlement", False, ["node"]) == (
        refused.kind,
        refused.valid,
        [each.check for each in refused.findings if not each.ok],
    )


def test_the_state_of_a_channel(world: World) -> None:
    """`get_channel_state` gives the newest complete state back, byte for byte."""
    pair = world.open(updates=3)
    state = ask(world, pair, lambda client: client.get_channel_state(pair.channel_id.hex()))
    content = pair.state(3).content

    assert (3, 3, None) == (state.sequence, state.final_sequence, state.pending)
    assert (content.header.hex(), content.state_data.hex()) == (state.header, state.state_data)
    assert pair.state(3).sigs_a.settle_b.hex() == state.signatures.a.settle_b
    assert [] == world.events(pair, SpendSeen)


@pytest.fixture
def segwit_world(node: RegtestNode, tmp_path: Path) -> Iterator[World]:
    """A world whose channels have profile 1."""
    story = World(node, tmp_path / "tower", profile=SEGWIT)
    yield story
    story.close()


def test_segwit_v0_channels_have_disputes_and_closes_too(segwit_world: World) -> None:
    """Ladder, own close, cooperative close and their checks with ECDSA signatures (protocol annex C)."""
    world = segwit_world
    contested = stopped_short(world, newest=2)
    world.node.generate_block([contested.commitment(Side.A, 1)])
    world.look()
    challenge(world, contested, 1, ladder_proof(contested, 1, rungs(contested, 1, sweep_of(contested))))
    world.look()
    alone, together = world.open(updates=1), world.open(updates=1)
    own = ask(world, alone, lambda client: client.close_channel_unilateral(alone.channel_id.hex(), 1))
    joint = ask(
        world, together, lambda client: client.close_channel_cooperative(together.channel_id.hex(), together.balances)
    )
    world.look()
    checked = [
        ask(world, pair, lambda client, raw=raw: client.validate_transaction(raw))
        for pair, raw in ((alone, own.transaction), (together, joint.transaction))
    ]
    world.node.mine(1)
    world.look()

    assert ["IN_MEMPOOL", "IN_MEMPOOL"] == [own.outcome, joint.outcome]
    assert [[], []] == [[each for each in found.findings if not each.ok] for found in checked]
    assert ("PUNISHED", "UNILATERAL", "SETTLED") == (
        world.status(contested),
        world.status(alone),
        world.status(together),
    )


def test_scenario_C13_by_what_the_tower_says(world: World) -> None:
    """A's commitment is in a block: B's client hears so from its tower, and the split of both is in the next block."""
    pair = world.open(updates=1, flags=FLAG_RESCUE_LEAF)
    closed_at = publish(world.node, pair.commitment(Side.A, 1))
    world.look()
    status = ask(world, pair, lambda client: client.get_funding_status(pair.channel_id.hex()))
    assert status.spent_by is not None
    block = BlockRef(closed_at, from_display(status.spent_by.block_hash or ""))
    pair.a.note_funding_spend(pair.channel_id, from_display(status.spent_by.txid), block)

    exchange.run(pair.b, pair.a, pair.b.propose_rescue(pair.channel_id, (497_800, 501_000)))

    joint = pair.a.rescue_transaction(pair.channel_id)
    assert joint is not None
    assert 816 == enter(world.node, joint)
    assert closed_at + 1 == world.node.height()
    with pytest.raises(ChannelClosed, match="U6"):
        pair.b.offer(pair.channel_id, (400_000, 600_000), (), b"")
