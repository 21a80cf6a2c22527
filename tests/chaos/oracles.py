"""What has to be true at the end of a schedule, beyond what every fault test asks (`tests.support.healthy`)."""

from __future__ import annotations

from domain.chain import make_outpoint
from domain.contract.penalty import penalty_vsize
from domain.contract.scripts import dust_limit
from domain.events import BroadcastOutcome, PenaltyPrepared, PenaltyRefused
from domain.fees import MEMPOOL_SHARE
from domain.transaction import Transaction
from domain.units import Side
from tests.chaos.ledger import named
from tests.chaos.stage import HTLC_SAT, Stage
from tests.regtest.stories import places_in_log, places_on_chain
from tests.support.healthy import Watched, assert_tower_healthy
from tests.support.parties import Pair

RELAY_SATS_PER_VBYTE = 2.5
"""A first bid and the first step above it may cost so much whatever the ceiling says."""

CALLS_PER_PASS = 150
"""O8: a pass of three channels asks the node less often than this, blocks included."""


def assert_agrees(stage: Stage) -> None:
    """O3 and O4 at once, without a further block: cursor and log tell what the tower's node tells."""
    assert stage.nodes.own.tip() == stage.cursor_hash(), "the cursor is not the node's tip"
    if stage.nodes.own.tip() != stage.nodes.network.tip():
        return  # a branch of the same work: the next block decides
    for pair in stage.pairs:
        assert places_on_chain(stage.world, pair) == places_in_log(stage.world, pair), "the log tells another chain"


def assert_all_is_well(stage: Stage) -> None:
    """O1 to O6, O8 and O9 on the real node, after the liveness phase."""
    assert 0 == stage.miner.thefts, "a stale commitment was settled"
    for pair in stage.pairs:
        due, found, dear = due_status(stage, pair), stage.world.status(pair), too_dear(stage, pair)
        assert due == found, f"channel {named(pair.channel_id)} is {found}, due is {due}"
        assert not unclaimed(stage, pair), f"channel {named(pair.channel_id)}: the refund was not taken"
        assert [] == dear, f"bids above the ceiling: {dear}"
    watched = [Watched(pair, acknowledged=stage.newest(pair)) for pair in stage.pairs]
    assert_tower_healthy(stage.nodes.network, stage.world.directory, watched, said=stage.said())
    passes = max(1, stage.counts["passes"])
    assert len(stage.proxy.transcript) <= CALLS_PER_PASS * passes, "the tower asks too much"


def due_status(stage: Stage, pair: Pair) -> str:
    """Where a channel has to be when everything that is due has happened."""
    stale = {pair.commitment_txid(Side.A, number) for number in range(stage.newest(pair))}
    spent = stage.ledger.spender(pair.params.funding_outpoint)
    waiting = stage.nodes.own.spender(pair.params.funding_outpoint) if spent is None else None
    if waiting is not None:  # only the tower's node still holds it: the network forgot it
        joint = stage.joint_close(pair) if stage.is_closing(pair) else None
        return "COOP_CLOSING" if joint and Transaction.parse(joint).txid == waiting else "UNILATERAL"
    if spent is None:
        return "FROZEN" if stage.is_closing(pair) and stage.world.channel(pair).frozen else "ACTIVE"
    return "PUNISHED" if spent.txid in stale else "SETTLED"


def unclaimed(stage: Stage, pair: Pair) -> list[bytes]:
    """HTLC outputs of an honest close whose refund is due and was not taken by the tower."""
    closed = stage.ledger.spender(pair.params.funding_outpoint)
    settled = None if closed is None else stage.ledger.spender(make_outpoint(closed.txid, 0))
    raw = None if settled is None else stage.nodes.network.transaction(settled.txid)
    if settled is None or raw is None or due_status(stage, pair) != "SETTLED":
        return []
    ours = {claim.txid for claim in stage.world.channel(pair).claims}
    outputs = Transaction.parse(raw).outputs
    offered = [make_outpoint(settled.txid, n) for n, output in enumerate(outputs) if output.value == HTLC_SAT]
    stage.counts["htlc outputs"] += len(offered)
    return [place for place in offered if (end := stage.ledger.spender(place)) is None or end.txid not in ours]


def too_dear(stage: Stage, pair: Pair) -> list[str]:
    """O5: bids above the ceiling of the block in which they were signed. Without `remaining`: for the mempool."""
    params, found = pair.params, []
    sweep = bytes(pair.registration(Side.B).sweep_spk)
    vsize, most = penalty_vsize(params, sweep), params.contest_value - dust_limit(sweep)
    was_full = stage.counts["disk_full"] > 0  # bids of that time are adopted later, without their `remaining`
    for event in stage.world.events(pair, PenaltyPrepared):
        assert isinstance(event, PenaltyPrepared)
        share = ceiling(event.remaining, params.challenge_period, was_full=was_full)
        if event.fee > max(share * most, RELAY_SATS_PER_VBYTE * vsize) + vsize:
            found.append(f"{event.fee} sat with {event.remaining} blocks left")
    return found


def ceiling(remaining: int | None, window: int, *, was_full: bool) -> float:
    """Share of the value that a bid may cost."""
    if remaining is None:
        return 1.0 if was_full else MEMPOOL_SHARE * 1.01
    if remaining <= 6:
        return 1.0
    if remaining > window / 2:
        return 0.02 + 0.16 * (1 - remaining / window)
    return 0.50 if remaining > max(18, window // 8) else 0.75


def unknown_answers(stage: Stage) -> int:
    """How many answers of the node had no known meaning."""
    events = [event for pair in stage.pairs for event in stage.world.events(pair, PenaltyRefused)]
    return sum(isinstance(e, PenaltyRefused) and e.outcome is BroadcastOutcome.UNKNOWN for e in events)
