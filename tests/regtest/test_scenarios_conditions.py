"""Conditional outputs on a real node: the tower claims, refunds, races, survives reorganizations and power cuts.

The tower belongs to B. `INCOMING` HTLCs are offered by A to B, `OUTGOING` ones by B to A; amounts in satoshi.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.contract.conditions import Condition
from domain.contract.settlement import plan_settlement
from domain.events import (
    AlertKind,
    ClaimConfirmed,
    ClaimPrepared,
    PreimageLearned,
    Source,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.conditions import (
    T,
    assert_replays,
    claim_of,
    close,
    events,
    give,
    holding,
    incoming,
    mine,
    mine_to,
    outgoing,
    place,
    settle,
    taken,
)
from tests.regtest.world import World
from tests.support.parties import Pair, preimage_of
from watchtower.channels.preimages import get_preimages
from watchtower.channels.register import register
from watchtower.wire.api import RegisterRequest


def paid_to_owner(pair: Pair, tx: Transaction | None) -> int:
    """What a claim pays to B's payout script."""
    assert tx is not None
    return sum(out.value for out in tx.outputs if out.spk == pair.params.keys(Side.B).payout)


@pytest.mark.parametrize("closer", list(Side))
def test_success_is_claimed_while_the_settlement_is_unconfirmed(world: World, closer: Side) -> None:
    """The preimage is known: settlement and claim go out together and are mined in one block."""
    condition = incoming(1, world.node.height() + 200)
    pair = holding(world, condition)
    give(world, pair, preimage_of(1))
    close(world, pair, side=closer)
    claim = world.mempool_spender(place(pair, condition, closer))
    mine(world)

    assert claim is not None
    assert (3, 30_000 - events(world, pair, ClaimPrepared)[0].fee) == (claim.version, paid_to_owner(pair, claim))
    assert [(30_000, True)] == taken(world, pair)
    assert world.height_of(claim.txid) == world.node.height()
    assert_replays(world)


def test_one_claim_at_a_time_is_the_child_the_others_follow(world: World) -> None:
    """Mempools allow an unconfirmed settlement one child: the nearest expiry first, the rest in the next block."""
    height = world.node.height()
    first, second, third = incoming(1, height + 300), incoming(2, height + 200), outgoing(3, height + 1)
    pair = holding(world, first, second, third)
    for number in (1, 2):
        give(world, pair, preimage_of(number))
    close(world, pair)
    world.look()
    children = [claim_of(world, pair, condition) is not None for condition in (first, second, third)]
    mine(world)
    followers = [claim_of(world, pair, condition) is not None for condition in (first, third)]
    mine(world)

    assert [False, True, False] == children
    assert [True, True] == followers
    assert [(30_000, True), (30_000, True), (40_000, True)] == sorted(taken(world, pair))
    assert_replays(world)


def test_a_dear_foreign_child_delays_the_claim_by_one_block(world: World) -> None:
    """Somebody's child holds the one place below the settlement: it pays for it, and ours follows once it is mined."""
    condition = incoming(1, world.node.height() + 200)
    pair = holding(world, condition)
    close(world, pair)
    settlement = Transaction.parse(pair.settlement(Side.A, 1))
    child = world.node.anchor_child(settlement.txid, vout=len(settlement.outputs) - 1, fee=100_000)
    world.node.send_raw(child)
    give(world, pair, preimage_of(1))
    world.look(passes=2)
    refused = claim_of(world, pair, condition)
    mine(world)
    followed = claim_of(world, pair, condition)

    assert refused is None
    assert followed is not None
    assert 1 == len(events(world, pair, ClaimPrepared))


def test_scenario_C06_htlc_timeout_height(world: World) -> None:
    """Our refund is refused at tip E - 1 and sent and accepted at tip E, and mined in block E + 1."""
    expiry = world.node.height() + 20
    condition = outgoing(1, expiry)
    pair = holding(world, condition)
    settle(world, pair)
    mine_to(world, expiry - 1)
    early = claim_of(world, pair, condition)
    refused = world.node.test_accept(pair.b.claim_timeout(pair.channel_id, 1, Side.A, condition.key, 500))
    mine_to(world, expiry)
    refund = claim_of(world, pair, condition)
    mine(world)

    assert early is None
    assert "non-final" in refused
    assert refund is not None
    assert (expiry, expiry + 1) == (refund.lock_time, world.height_of(refund.txid))
    assert [(40_000, True)] == taken(world, pair)
    assert_replays(world)


def test_scenario_C07_the_counterpartys_claim_is_recorded(world: World) -> None:
    """A takes what B offered: the preimage is learned from the mempool, the block says that it is gone. No alert."""
    condition = outgoing(1, world.node.height() + 200)
    pair = holding(world, condition)
    settle(world, pair)
    world.node.send_raw(pair.a.claim_success(pair.channel_id, 1, Side.A, condition.key, preimage_of(1), 500))
    world.look()
    learned = [event.source for event in events(world, pair, PreimageLearned)]
    mine(world)

    assert [Source.MEMPOOL] == learned
    assert ([(40_000, False)], frozenset()) == (taken(world, pair), world.channel(pair).alerts)
    assert [] == world.events(pair, ClaimPrepared)


def test_scenario_C09_trimmed_htlc(world: World) -> None:
    """329 sat have no output: they are fee of the settlement, to the satoshi, and nobody claims them."""
    height = world.node.height()
    trimmed, kept = incoming(1, height + 200, amount=329), incoming(2, height + 200, amount=330)
    pair = holding(world, trimmed, kept)
    give(world, pair, preimage_of(1))
    settle(world, pair)

    tx = Transaction.parse(pair.settlement(Side.A, 1))
    header = pair.state(1).content.read_header()
    plan = plan_settlement(pair.params, *header.balances, [trimmed, kept])
    entries = {out.value for out in tx.outputs}
    assert (329, plan.fee + 329) == (plan.trimmed_sat, pair.params.contest_value - sum(o.value for o in tx.outputs))
    assert {330} == entries & {329, 330}
    assert "SETTLED" == world.status(pair)
    assert [] == world.events(pair, ClaimPrepared)


def test_scenario_C14_peer_balance_zero_no_settle(world: World) -> None:
    """A peer without a balance has no reason to settle its close: the tower publishes it from stored signatures."""
    pair = world.open(updates=1, challenge_period=T, owner=Side.A, balances=(1_000_000, 0), reserve_sat=0)
    pair_state = pair.update((1_000_000, 0))
    world.upload(pair, pair_state, Side.A)
    world.node.generate_block([pair.commitment(Side.B, pair_state)])
    mine(world, T)

    settlement = Transaction.parse(pair.settlement(Side.B, pair_state))
    paid = {out.spk: out.value for out in settlement.outputs}
    assert world.height_of(settlement.txid) == world.node.height()
    assert pair.params.keys(Side.B).payout not in paid
    assert 998_000 < paid[pair.params.keys(Side.A).payout] < 1_000_000


def test_scenario_C04_settle_child_is_htlc_success(world: World) -> None:
    """The minimum rose above the settlement's fixed fee: our claim enters with it and pays for both. No alert."""
    condition = incoming(1, world.node.height() + 200, amount=100_000)
    pair = holding(world, condition)
    give(world, pair, preimage_of(1))
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.restart(["-minrelaytxfee=0.0001"])
    world.node.mine(T - 1)
    world.look(passes=2)
    claim = claim_of(world, pair, condition)
    alerts = world.channel(pair).alerts
    prepared = len(world.events(pair, ClaimPrepared))
    mine(world)

    assert claim is not None
    assert (3, frozenset(), 1) == (claim.version, alerts, prepared)
    assert "SETTLED" == world.status(pair)
    assert [(100_000, True)] == taken(world, pair)
    assert_replays(world)


def test_scenario_C04_a_refund_may_be_the_child_too(world: World) -> None:
    """The expiry has passed when the settlement becomes valid."""
    condition = outgoing(1, world.node.height() + 2, amount=100_000)
    pair = holding(world, condition)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.restart(["-minrelaytxfee=0.0001"])
    world.node.mine(T - 1)
    world.look(passes=2)
    mine(world)

    assert "SETTLED" == world.status(pair)
    assert [(100_000, True)] == taken(world, pair)


def test_without_the_key_the_owner_is_told_and_may_add_it(world: World) -> None:
    """An old registration has no HTLC key: an alert, until exactly the same registration brings it."""
    condition = incoming(1, world.node.height() + 200)
    complete = Pair.registration

    def without_key(*arguments: Any) -> RegisterRequest:
        return msgspec.structs.replace(complete(*arguments), htlc_secret=None)

    with pytest.MonkeyPatch.context() as old:
        old.setattr(Pair, "registration", without_key)
        pair = holding(world, condition)
    give(world, pair, preimage_of(1))
    settle(world, pair)
    told, sent = world.channel(pair).alerts, claim_of(world, pair, condition)
    again = register(world.context, pair.registration(Side.B))
    world.look()

    assert (frozenset({AlertKind.UNARMED_CLAIM}), None) == (told, sent)
    assert not again.created
    assert frozenset() == world.channel(pair).alerts
    assert claim_of(world, pair, condition) is not None


def forwarding(world: World) -> tuple[Pair, Condition, Pair, Condition]:
    """B forwards a payment: A's HTLC comes in upstream, the same payment hash goes out downstream."""
    height = world.node.height()
    secret = preimage_of(7)
    into = incoming(1, height + 400, amount=50_000, preimage=secret)
    out = outgoing(2, height + 200, amount=49_000, preimage=secret)
    return holding(world, into), into, holding(world, out), out


def test_a_preimage_learned_downstream_claims_upstream_at_once(world: World) -> None:
    """The next hop takes its HTLC in the mempool; in the same pass our claim on the previous hop goes out."""
    upstream, into, downstream, out = forwarding(world)
    settle(world, upstream)
    settle(world, downstream)
    before = claim_of(world, upstream, into)
    claim = downstream.a.claim_success(downstream.channel_id, 1, Side.A, out.key, preimage_of(7), 500)
    world.node.send_raw(claim)
    world.look()
    answer = claim_of(world, upstream, into)
    mine(world)

    assert before is None
    assert answer is not None
    assert ([(50_000, True)], [(49_000, False)]) == (taken(world, upstream), taken(world, downstream))
    assert_replays(world)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_preimage_learned_long_before_serves_a_later_close(world: World, restarted: bool) -> None:
    """Downstream was settled and claimed while upstream was open; its close much later finds the preimage."""
    upstream, into, downstream, out = forwarding(world)
    settle(world, downstream)
    claim = downstream.a.claim_success(downstream.channel_id, 1, Side.A, out.key, preimage_of(7), 500)
    world.node.generate_block([claim])
    world.node.mine(110)
    (world.restart if restarted else world.look)()
    resolved = world.status(downstream)
    handed = get_preimages(world.context, world.stream(upstream)).preimages
    close(world, upstream)
    mine(world)

    assert "RESOLVED" == resolved
    assert [(into.hash, preimage_of(7))] == [(bytes(p.payment_hash), bytes(p.preimage)) for p in handed]
    assert [(50_000, True)] == taken(world, upstream)


def test_a_preimage_uploaded_for_one_channel_serves_the_other(world: World) -> None:
    """The client names the downstream channel; the claim is upstream."""
    upstream, into, downstream, _ = forwarding(world)
    settle(world, upstream)
    give(world, downstream, preimage_of(7))
    world.look()

    assert claim_of(world, upstream, into) is not None


def test_our_late_success_outbids_the_counterpartys_refund(world: World) -> None:
    """The preimage came behind the expiry and A's refund is in the mempool: ours replaces it and is mined."""
    expiry = world.node.height() + 10
    condition = incoming(1, expiry)
    pair = holding(world, condition)
    settle(world, pair)
    mine_to(world, expiry)
    world.node.send_raw(pair.a.claim_timeout(pair.channel_id, 1, Side.A, condition.key, 3_000))
    world.look()
    give(world, pair, preimage_of(1))
    world.look()
    ours = claim_of(world, pair, condition)
    mine(world)

    assert ours is not None
    assert paid_to_owner(pair, ours) < 27_000
    assert ([(30_000, True)], frozenset()) == (taken(world, pair), world.channel(pair).alerts)


def test_a_lost_race_is_an_alert(world: World) -> None:
    """A's refund is mined although we knew the preimage: somebody must hear of it; a reorganization takes it back."""
    expiry = world.node.height() + 10
    condition = incoming(1, expiry)
    pair = holding(world, condition)
    settle(world, pair)
    mine_to(world, expiry)
    refund = pair.a.claim_timeout(pair.channel_id, 1, Side.A, condition.key, 3_000)
    give(world, pair, preimage_of(1))
    world.node.generate_block([refund])
    world.look()
    raised = world.channel(pair).alerts
    sent = events(world, pair, ClaimPrepared)
    world.node.reorg(1, [[], []])
    world.look()

    assert frozenset({AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY}) == raised
    assert [] == sent
    assert frozenset() == world.channel(pair).alerts
    assert [True] == [event.missed for event in events(world, pair, ClaimConfirmed)]
    assert 1 == len(events(world, pair, ClaimPrepared))
    assert_replays(world)
