"""Honest and cooperative closes on a real node: settled in time, preimages kept, final after enough blocks."""

from __future__ import annotations

import pytest

from domain.contract.conditions import Condition
from domain.errors import InvalidState
from domain.events import (
    AlertKind,
    BroadcastOutcome,
    ChannelResolved,
    Payload,
    PenaltyPrepared,
    PreimageLearned,
    ResolvedAs,
    SettleBroadcast,
    SettleConfirmed,
    SettlePrepared,
    SoftFinal,
    Source,
    SpendConfirmed,
    SpendKind,
    SpendReplaced,
    SpendSeen,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import World
from tests.support.parties import Pair, htlc, preimage_of
from watchtower.channels.accept_state import accept_state
from watchtower.ports import Answer
from watchtower.wire.api import UpdateRequest

EXPIRY = 5_000


def named(world: World, pair: Pair, *kinds: type[Payload]) -> list[str]:
    """Names of the channel's events of these types, in order."""
    return [type(event).__name__ for event in world.events(pair) if isinstance(event, kinds)]


def learned(world: World, pair: Pair) -> list[tuple[bytes, Source]]:
    """Preimages that the tower took from the chain, with their source."""
    events = world.events(pair, PreimageLearned)
    return [(event.preimage, event.source) for event in events if isinstance(event, PreimageLearned)]


def with_htlc(world: World, *, challenge_period: int) -> tuple[Pair, Condition]:
    """A channel whose newest state, 1, holds one HTLC of 30,000 sat from B to A; the tower has that state."""
    pair = world.open(challenge_period=challenge_period)
    condition = htlc(Side.B, 1, 30_000, EXPIRY)
    world.upload(pair, pair.with_htlcs(condition))
    return pair, condition


def success_claim(pair: Pair, condition: Condition, preimage: bytes, closer: Side = Side.A) -> bytes:
    """A's claim of the HTLC in state 1."""
    return pair.a.claim_success(pair.channel_id, 1, closer, condition.key, preimage, 2_000)


def test_scenario_C03_settle_too_early(world: World) -> None:
    """An honest close is not sent a block too early, and is settled in exactly the block h_c + T."""
    pair = world.open(updates=3, challenge_period=10)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    closed_at = world.node.height()
    world.look()
    waiting = []
    for _ in range(10):
        waiting.append(len(world.node.mempool()))
        world.node.mine(1)
        world.look()

    settled = world.node.spender(world.contest(pair, 3))
    assert settled is not None
    assert [0] * 9 + [1] == waiting
    assert world.height_of(settled) == closed_at + 10
    assert world.status(pair) == "SETTLED"


def test_settlement_pays_both_their_balances(world: World) -> None:
    """A's output bears all fees and anchors, B's is its balance to the satoshi."""
    pair = world.open(updates=3, challenge_period=2)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.node.mine(1)
    world.look()
    world.node.mine(1)
    world.look()

    raw = world.node.transaction(Transaction.parse(pair.settlement(Side.A, 3)).txid)
    assert raw is not None
    paid = {output.spk: output.value for output in Transaction.parse(raw).outputs}
    payout_a, payout_b = (pair.params.keys(side).payout for side in Side)
    assert pair.balances[1] == paid[payout_b]
    assert 0 < pair.balances[0] - paid[payout_a] < 2_000


def test_own_close_is_settled_by_the_tower(world: World) -> None:
    """The owner's own commitment of the newest state is no breach; the tower settles it after T."""
    pair = world.open(updates=3, challenge_period=4)
    own = pair.b.sign_commitment(pair.channel_id, 3)
    world.node.send_raw(own)
    world.look()
    seen = world.channel(pair).present_spend
    world.node.mine(4)
    world.restart()
    world.node.mine(1)
    world.look()

    assert seen is not None
    assert (SpendKind.OWN_CLOSE, Side.B, 3) == (seen.kind, seen.side, seen.sequence)
    assert world.status(pair) == "SETTLED"
    assert world.events(pair, PenaltyPrepared) == []
    assert frozenset() == world.channel(pair).alerts


def test_own_close_of_a_state_in_flight_is_settled(world: World) -> None:
    """Between messages 2 and 4 both states are publishable; the older one of the owner is settled as well."""
    pair = world.open(updates=2, challenge_period=2)
    state = pair.update_request(Side.B, pair.update()).state
    accept_state(world.context, world.stream(pair), UpdateRequest(state=state))  # the secret of state 2 is missing
    world.node.generate_block([pair.commitment(Side.B, 2)])
    world.node.mine(1)
    world.look()
    world.node.mine(1)
    world.look()

    assert world.height_of(Transaction.parse(pair.settlement(Side.B, 2)).txid) == world.node.height()
    assert world.status(pair) == "SETTLED"


@pytest.mark.parametrize("restarted", [False, True])
def test_settlement_is_retried_when_first_refused(world: World, restarted: bool) -> None:
    """A node that refuses the settlement once is asked again with the same bytes in the next pass."""
    pair = world.open(updates=2, challenge_period=2)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()
    world.node.mine(1)
    refuse_once(world)
    world.look()
    first = world.node.mempool()
    (world.restart if restarted else world.look)()

    assert set() == first
    assert ["SettlePrepared", "SettleBroadcast"] == named(world, pair, SettlePrepared, SettleBroadcast)
    assert {Transaction.parse(pair.settlement(Side.A, 2)).txid} == world.node.mempool()


def refuse_once(world: World) -> None:
    """Let the node's next answer to a broadcast be a refusal; the transaction does not reach it."""
    real = world.port.broadcast
    answers = iter([Answer(BroadcastOutcome.NOT_YET_FINAL, -26, "non-BIP68-final")])
    world.port.broadcast = lambda raw: next(answers, None) or real(raw)  # type: ignore[method-assign]


def test_settlement_below_the_minimum_feerate_is_an_alert(world: World) -> None:
    """The fee of a settlement is fixed: a node that wants more needs a child from the owner, so the owner is told."""
    pair = world.open(updates=2, challenge_period=2)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.node.mine(1)
    world.node.restart(["-minrelaytxfee=0.0001"])
    world.look(passes=2)
    raised = world.channel(pair).alerts
    world.node.restart()
    world.look(passes=2)

    assert frozenset({AlertKind.SETTLEMENT_UNAVAILABLE}) == raised
    assert frozenset() == world.channel(pair).alerts
    assert {Transaction.parse(pair.settlement(Side.A, 2)).txid} == world.node.mempool()


def test_evicted_settlement_is_sent_again(world: World) -> None:
    """A settlement that left the mempool without a block comes back in the next pass."""
    pair = world.open(updates=2, challenge_period=2)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.node.mine(1)
    world.look()
    settlement = world.node.mempool()
    world.node.restart(["-persistmempool=0"])  # an empty mempool, as after an eviction
    emptied = world.node.mempool()
    world.restart()

    assert (set(), settlement) == (emptied, world.node.mempool())
    assert 1 == len(world.events(pair, SettleBroadcast))


def test_scenario_C07_htlc_preimage_extracted_from_mempool(world: World) -> None:
    """The counterparty's success claim in the mempool gives its preimage away before any block has it."""
    pair, condition = with_htlc(world, challenge_period=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.node.mine(3)
    world.look()
    world.node.mine(1)
    world.look()
    assert world.status(pair) == "SETTLED"

    world.node.send_raw(success_claim(pair, condition, preimage_of(1)))
    world.look(passes=2)

    assert [(preimage_of(1), Source.MEMPOOL)] == learned(world, pair)
    assert ((condition.hash, preimage_of(1)),) == world.channel(pair).preimages
    world.node.mine(1)
    world.look()
    assert 1 == len(learned(world, pair))


def test_scenario_C07_claim_is_a_child_of_the_unconfirmed_settlement(world: World) -> None:
    """The claim may sit on the settlement while both are unconfirmed."""
    pair, condition = with_htlc(world, challenge_period=2)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(1)
    world.look()

    world.node.send_raw(success_claim(pair, condition, preimage_of(1)))
    world.look()

    assert [(preimage_of(1), Source.MEMPOOL)] == learned(world, pair)


@pytest.mark.parametrize("restarted", [False, True])
def test_scenario_C07_preimage_mined_while_the_tower_slept(world: World, restarted: bool) -> None:
    """Close, settlement and claim are all in blocks before the tower looks again: the preimage is found there."""
    pair, condition = with_htlc(world, challenge_period=2)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(1)
    world.node.generate_block([pair.settlement(Side.A, 1), success_claim(pair, condition, preimage_of(1))])
    (world.restart if restarted else world.look)()

    source = Source.CATCH_UP if restarted else Source.BLOCK
    assert [(preimage_of(1), source)] == learned(world, pair)
    assert world.status(pair) == "SETTLED"


def test_scenario_C07_claim_mined_after_a_restart(world: World) -> None:
    """The tower knew the close, was down for settlement and claim, and finds the preimage on its way back."""
    pair, condition = with_htlc(world, challenge_period=2)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.node.mine(1)
    world.node.generate_block([pair.settlement(Side.A, 1)])
    world.node.generate_block([success_claim(pair, condition, preimage_of(1))])
    world.restart()

    assert [(preimage_of(1), Source.CATCH_UP)] == learned(world, pair)


def test_scenario_C10_both_parties_publish(world: World) -> None:
    """The owner's commitment waits in the mempool, a block takes the peer's: one wins, the other is replaced."""
    pair = world.open(updates=3, challenge_period=2)
    own, theirs = pair.commitment(Side.B, 3), pair.commitment(Side.A, 3)
    world.node.send_raw(own)
    world.look()
    world.node.generate_block([theirs])
    world.look()

    assert ["SpendSeen", "SpendReplaced", "SpendConfirmed"] == named(
        world, pair, SpendSeen, SpendReplaced, SpendConfirmed
    )
    replaced = world.events(pair, SpendReplaced)[0]
    assert isinstance(replaced, SpendReplaced)
    assert (Transaction.parse(own).txid, Transaction.parse(theirs).txid) == (replaced.txid, replaced.by)
    world.node.mine(1)
    world.look()
    world.node.mine(1)
    world.look()
    assert world.height_of(Transaction.parse(pair.settlement(Side.A, 3)).txid) == world.node.height()
    assert world.status(pair) == "SETTLED"


def test_scenario_C10_the_other_commitment_wins_in_a_reorg(world: World) -> None:
    """The peer's close is mined, a reorg brings the owner's: the settlement of the present one is sent."""
    pair = world.open(updates=3, challenge_period=2)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.node.mine(1)
    world.look()
    assert world.node.mempool() == {Transaction.parse(pair.settlement(Side.A, 3)).txid}

    world.node.reorg(2, [[pair.commitment(Side.B, 3)], [], []])
    world.look()

    assert world.node.mempool() == {Transaction.parse(pair.settlement(Side.B, 3)).txid}


def test_scenario_C12_coop_close_with_pending_htlc(world: World) -> None:
    """Neither side signs a cooperative close while an HTLC is pending; the channel stays open for the tower."""
    pair, _ = with_htlc(world, challenge_period=2)

    for side in Side:
        with pytest.raises(InvalidState, match="conditions are pending"):
            pair.close(side)
    world.look()

    assert world.status(pair) == "ACTIVE"


@pytest.mark.parametrize("musig", [False, True])
def test_cooperative_close_is_recognized_and_resolved(world: World, musig: bool) -> None:
    """COOP_CLOSING in the mempool, SETTLED in a block, soft-final at 6 confirmations, RESOLVED at 100."""
    pair = world.open(updates=2)
    world.node.send_raw(pair.close(Side.A, musig=musig))
    world.look()
    waiting = world.status(pair)
    world.node.mine(1)
    world.look()
    mined = world.status(pair)
    world.node.mine(4)
    world.look()
    at_five = world.events(pair, SoftFinal)
    world.node.mine(1)
    world.look()
    at_six = world.events(pair, SoftFinal)
    world.node.mine(93)
    world.look()
    at_99 = world.status(pair)
    world.node.mine(1)
    world.look()

    assert ("COOP_CLOSING", "SETTLED", [], 1, "SETTLED") == (waiting, mined, at_five, len(at_six), at_99)
    assert world.status(pair) == "RESOLVED"
    assert [ResolvedAs.COOP] == outcomes(world, pair)
    assert 0 == world.models.watched_count
    assert world.events(pair, PenaltyPrepared) == world.events(pair, SettlePrepared) == []


def outcomes(world: World, pair: Pair) -> list[ResolvedAs]:
    """How the channel was resolved, once."""
    events = world.events(pair, ChannelResolved)
    return [event.outcome for event in events if isinstance(event, ChannelResolved)]


@pytest.mark.parametrize("restarted", [False, True])
def test_finality_when_all_blocks_arrive_in_one_jump(world: World, restarted: bool) -> None:
    """A tower that slept over 100 confirmations announces both depths at the right blocks, once."""
    pair = world.open(updates=2)
    world.node.generate_block([pair.close(Side.B)])
    world.node.mine(110)
    (world.restart if restarted else world.look)()

    soft, resolved = world.events(pair, SoftFinal), world.events(pair, ChannelResolved)
    assert [6] == [event.depth for event in soft if isinstance(event, SoftFinal)]
    assert [100] == [event.depth for event in resolved if isinstance(event, ChannelResolved)]
    assert world.status(pair) == "RESOLVED"


def test_settled_channel_is_resolved_a_hundred_blocks_after_its_settlement(world: World) -> None:
    """The depth is counted from the settlement, not from the close."""
    pair = world.open(updates=2, challenge_period=20)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.node.mine(19)
    world.look()
    world.node.mine(1)
    world.node.mine(98)
    world.look()
    before = world.status(pair)
    world.node.mine(1)
    world.look()

    assert ("SETTLED", "RESOLVED") == (before, world.status(pair))
    assert [ResolvedAs.SETTLED] == outcomes(world, pair)
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


def test_cooperative_close_in_a_reorg_against_a_stale_state(world: World) -> None:
    """A mined cooperative close gives way to a stale commitment: the breach is punished as any other."""
    pair = world.open(updates=3)
    world.node.generate_block([pair.close(Side.A)])
    world.node.mine(5)
    world.look()
    assert world.channel(pair).soft_final is not None

    world.node.reorg(6, [[pair.commitment(Side.A, 1)], *[[]] * 6])
    world.look()
    world.node.mine(1)
    world.look()

    assert world.status(pair) == "PUNISHED"
    assert world.channel(pair).soft_final is None
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


def test_close_of_a_state_that_was_never_uploaded_is_an_alert(world: World) -> None:
    """The tower cannot settle what it never saw; it says so once, and the owner's settlement ends the alert."""
    pair = world.open(updates=2, challenge_period=2)
    pair.update()
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.look(passes=2)
    raised = world.channel(pair).alerts
    world.node.mine(1)
    world.node.generate_block([pair.settlement(Side.A, 3)])
    world.look()

    assert frozenset({AlertKind.SETTLEMENT_UNAVAILABLE}) == raised
    assert frozenset() == world.channel(pair).alerts
    assert world.status(pair) == "SETTLED"
    assert 1 == len(world.events(pair, SettleConfirmed))
