"""Penalties: every bid rebuilt and its signature verified, intents before effects, and bids that never fall."""

from __future__ import annotations

from math import floor

from domain.chain import BlockRef
from domain.channel import Bid, Spend
from domain.contract.commitment import contest_txout
from domain.contract.penalty import build_penalty, penalty_vsize, verify_penalty
from domain.events import (
    BidMethod,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
    PenaltyRefused,
    PenaltyReplaced,
    SpendKind,
)
from domain.recheck.spends import check_block, check_undone
from domain.recheck.subject import Flaw, Flaws, Glance
from domain.transaction import Transaction


def check_prepared(glance: Glance, event: PenaltyPrepared) -> Flaws:
    """The recorded bytes are the penalty of this breach at this fee, to the declared script, validly signed."""
    channel = glance.channel
    breach = channel.spend(event.commit_txid)
    if breach is None or breach.kind is not SpendKind.BREACH:
        yield Flaw("a penalty was prepared for a transaction that is not a known breach")
        return
    yield from _check_order(event, channel.bids_on(event.commit_txid))
    rate = floor(event.fee * 1000 / penalty_vsize(channel.params, channel.sweep_spk))
    if event.feerate_kvb != rate:
        yield Flaw(f"the feerate is recorded as {event.feerate_kvb}, but the fee gives {rate} sat per 1000 vB")
    if (event.method is BidMethod.LADDER) is not (event.rung is not None):
        yield Flaw("a rung of a ladder has a number, a penalty that was signed here has none")
    yield from _check_bytes(glance, event, breach)


def _check_order(event: PenaltyPrepared, bids: tuple[Bid, ...]) -> Flaws:
    """Numbers go on, and no bid is below the one before."""
    if event.bid_no != len(bids) + 1:
        yield Flaw(f"bid {len(bids) + 1} comes next, this one is number {event.bid_no}")
    last = bids[-1] if bids else None
    if event.replaces != (None if last is None else last.txid):
        yield Flaw("the bid does not replace the one before it")
    if last is not None and event.fee < last.fee:
        yield Flaw(f"the bid fell from {last.fee} to {event.fee} sat")


def _check_bytes(glance: Glance, event: PenaltyPrepared, breach: Spend) -> Flaws:
    channel, params = glance.channel, glance.channel.params
    tx = Transaction.parse(event.raw)
    glance.tally.transactions += 1
    rebuilt = build_penalty(params, event.commit_txid, event.fee, channel.sweep_spk)
    if tx.txid != event.txid:
        yield Flaw("the bytes of the penalty are not those of the transaction that the event names")
    if tx.txid != rebuilt.txid:
        yield Flaw(
            f"the penalty rebuilt from its fee of {event.fee} sat, the contest output and the declared sweep script "
            "is another transaction"
        )
        return
    spk = _contest_script(glance, breach)
    if spk is None:
        yield Flaw("the contest script of the breach cannot be rebuilt")
    elif glance.signatures:
        glance.tally.signatures += 1
        if not verify_penalty(tx, params, spk):
            yield Flaw("the penalty's signature does not verify under the revocation key", is_forged=True)


def _contest_script(glance: Glance, breach: Spend) -> bytes | None:
    """Rebuilt from the revealed secret; of a commitment that only a ladder punishes, as it was seen."""
    channel = glance.channel
    if breach.side is None or breach.sequence is None:
        return None
    key = channel.revocation_key(breach.side, breach.sequence)
    if key is not None:
        return contest_txout(channel.params, key).spk
    return None if breach.raw is None else Transaction.parse(breach.raw).outputs[0].spk


def check_sent(glance: Glance, event: PenaltyBroadcast | PenaltyRefused | PenaltyReplaced) -> Flaws:
    """What was sent, refused or replaced had been prepared before: its bytes were durable."""
    bid = next((bid for bid in glance.channel.bids if bid.txid == event.txid), None)
    if bid is None:
        yield Flaw("a penalty was sent whose bytes had not been stored before")
    elif isinstance(event, PenaltyBroadcast) and bid.accepted:
        yield Flaw("the broadcast of this penalty was recorded before")


def check_confirmed(glance: Glance, event: PenaltyConfirmed) -> Flaws:
    """The commitment is a confirmed breach; what was swept and the fee add up to the contest output."""
    channel = glance.channel
    breach, value = channel.spend(event.commit_txid), channel.params.contest_value
    if breach is None or breach.block is None:
        yield Flaw("a penalty was confirmed for a commitment that is in no block")
    if channel.contest_spend(event.commit_txid) is not None:
        yield Flaw("the contest output was spent before")
    bid = next((bid for bid in channel.bids if bid.txid == event.txid), None)
    if bid is not None and (event.fee, event.swept) != (bid.fee, value - bid.fee):
        yield Flaw(f"the penalty swept {value - bid.fee} sat for a fee of {bid.fee}, not {event.swept} for {event.fee}")
    yield from check_block(glance, event.block, "the penalty")
    if breach is not None:
        yield from _check_later(event.block, breach)


def _check_later(block: BlockRef, commitment: Spend) -> Flaws:
    if commitment.block is not None and block.height < commitment.block.height:
        yield Flaw("the penalty stands in a block below that of its commitment")


def check_disconnected(glance: Glance, event: PenaltyDisconnected) -> Flaws:
    """The penalty was confirmed in this block."""
    spends = glance.channel.contest_spends
    stood = any((each.txid, each.block, each.is_penalty) == (event.txid, event.block, True) for each in spends)
    yield from check_undone(glance, event.block, "the penalty", stood=stood)
