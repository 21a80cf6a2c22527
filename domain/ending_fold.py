"""From events to a Channel: what happens from the first spend of the funding output to the end.

The part of `channel_fold` about the chain; total like all of it.
"""

from __future__ import annotations

import msgspec

from domain.channel import (
    Bid,
    Challenge,
    Channel,
    Claim,
    ClaimEnd,
    ContestSpend,
    Settlement,
    Spend,
)
from domain.events import (
    AlertCleared,
    AlertRaised,
    BreachDetected,
    BroadcastOutcome,
    ChallengeAnswered,
    ChallengeReceived,
    ChallengeVerdict,
    ChannelErased,
    ChannelResolved,
    ClaimBroadcast,
    ClaimConfirmed,
    ClaimDisconnected,
    ClaimPrepared,
    Payload,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
    PenaltyRefused,
    PenaltyReplaced,
    PreimageLearned,
    SettleBroadcast,
    SettleConfirmed,
    SettleDisconnected,
    SettlePrepared,
    SoftFinal,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    SpendSeen,
)

KEPT_CHALLENGES = 16
"""Proofs that are kept. A commitment needs one; only an owner who repeats himself shows more. Evidence goes first: the
penalty may need a proof that can be enforced."""


def soft_final_without(channel: Channel, txid: bytes) -> bytes | None:
    """The soft-final transaction, unless it is the one that just left the chain."""
    return None if channel.soft_final == txid else channel.soft_final


def apply_spend(channel: Channel, payload: Payload) -> Channel | None:
    """Spends of the funding output; None for any other event."""
    match payload:
        case SpendSeen():
            seen = Spend(
                payload.txid,
                payload.kind,
                payload.side,
                payload.sequence,
                payload.raw,
                in_mempool=True,
                block=None,
            )
            return _with_spend(channel, seen)
        case SpendReplaced():
            return _change_spend(channel, payload.txid, in_mempool=False)
        case SpendConfirmed():
            known = channel.spend(payload.txid)
            raw = payload.raw if payload.raw is not None else (known.raw if known else None)
            confirmed = Spend(
                payload.txid,
                payload.kind,
                payload.side,
                payload.sequence,
                raw,
                in_mempool=False,
                block=payload.block,
            )
            return _with_spend(channel, confirmed)
        case SpendDisconnected():
            undone = _change_spend(channel, payload.txid, block=None)
            return msgspec.structs.replace(undone, soft_final=soft_final_without(channel, payload.txid))
        case BreachDetected():
            breach = {"kind": SpendKind.BREACH, "side": payload.side, "sequence": payload.sequence}
            return _change_spend(channel, payload.txid, **breach)
    return None


def _with_spend(channel: Channel, spend: Spend) -> Channel:
    others = tuple(s for s in channel.spends if s.txid != spend.txid)
    return msgspec.structs.replace(channel, spends=(*others, spend))


def _change_spend(channel: Channel, txid: bytes, **changes: object) -> Channel:
    spends = tuple(msgspec.structs.replace(s, **changes) if s.txid == txid else s for s in channel.spends)
    return msgspec.structs.replace(channel, spends=spends)


def apply_penalty(channel: Channel, payload: Payload) -> Channel | None:
    """Our bids and the end of a breach; None for any other event."""
    match payload:
        case PenaltyPrepared():
            breach = channel.spend(payload.commit_txid)
            bid = Bid(
                payload.commit_txid,
                payload.bid_no,
                payload.txid,
                payload.raw,
                payload.fee,
                payload.feerate_kvb,
                payload.remaining,
                rung=payload.rung,
                unconfirmed=breach is not None and breach.block is None,
            )
            others = tuple(b for b in channel.bids if b.txid != payload.txid)
            return msgspec.structs.replace(channel, bids=(*others, bid))
        case PenaltyBroadcast():
            return _change_bid(channel, payload.txid, accepted=True, outcome=payload.outcome)
        case PenaltyRefused():
            return _change_bid(channel, payload.txid, outcome=payload.outcome)
        case PenaltyReplaced():
            return _change_bid(channel, payload.txid, outcome=BroadcastOutcome.UNKNOWN)
        case PenaltyConfirmed():
            end = ContestSpend(
                payload.commit_txid,
                payload.txid,
                payload.block,
                is_penalty=True,
                revoked=True,
                value=payload.swept,
            )
            return msgspec.structs.replace(channel, contest_spends=(*channel.contest_spends, end))
        case PenaltyDisconnected() | SettleDisconnected():
            kept = tuple(c for c in channel.contest_spends if not (c.txid == payload.txid and c.block == payload.block))
            return msgspec.structs.replace(
                channel, contest_spends=kept, soft_final=soft_final_without(channel, payload.txid)
            )
    return None


def _change_bid(channel: Channel, txid: bytes, **changes: object) -> Channel:
    bids = tuple(msgspec.structs.replace(b, **changes) if b.txid == txid else b for b in channel.bids)
    return msgspec.structs.replace(channel, bids=bids)


def apply_claim(channel: Channel, payload: Payload) -> Channel | None:
    """Preimages and conditional outputs; None for any other event."""
    match payload:
        case PreimageLearned():
            pair = (payload.payment_hash, payload.preimage)
            return msgspec.structs.replace(channel, preimages=(*channel.preimages, pair))
        case ClaimPrepared():
            key = payload.condition_type, payload.condition_id
            claim = Claim(payload.settle_txid, key, payload.path, payload.txid, payload.raw, payload.fee)
            others = tuple(c for c in channel.claims if c.txid != payload.txid)
            return msgspec.structs.replace(channel, claims=(*others, claim))
        case ClaimBroadcast():
            claims = tuple(
                msgspec.structs.replace(c, accepted=True) if c.txid == payload.txid else c for c in channel.claims
            )
            return msgspec.structs.replace(channel, claims=claims)
        case ClaimConfirmed():
            end = ClaimEnd(
                payload.settle_txid,
                (payload.condition_type, payload.condition_id),
                payload.txid,
                payload.block,
                payload.ours,
                payload.value,
                payload.missed,
            )
            return msgspec.structs.replace(channel, claim_ends=(*channel.claim_ends, end))
        case ClaimDisconnected():
            kept = tuple(e for e in channel.claim_ends if (e.txid, e.block) != (payload.txid, payload.block))
            return msgspec.structs.replace(channel, claim_ends=kept)
    return None


def apply_end(channel: Channel, payload: Payload) -> Channel | None:
    """Settlements and alerts; None for any other event."""
    match payload:
        case SettlePrepared():
            settlement = Settlement(payload.commit_txid, payload.txid, payload.raw, payload.fee, payload.valid_from)
            others = tuple(s for s in channel.settlements if s.txid != payload.txid)
            return msgspec.structs.replace(channel, settlements=(*others, settlement))
        case SettleBroadcast():
            settlements = tuple(
                msgspec.structs.replace(s, accepted=True) if s.txid == payload.txid else s for s in channel.settlements
            )
            return msgspec.structs.replace(channel, settlements=settlements)
        case SettleConfirmed():
            end = ContestSpend(
                payload.commit_txid,
                payload.txid,
                payload.block,
                is_penalty=False,
                revoked=payload.revoked,
                value=payload.value,
            )
            earlier = tuple(c for c in channel.contest_spends if c.txid != payload.txid)  # judged anew, late secret
            return msgspec.structs.replace(channel, contest_spends=(*earlier, end))
        case AlertRaised():
            return msgspec.structs.replace(channel, alerts=channel.alerts | {payload.kind})
        case AlertCleared():
            return msgspec.structs.replace(channel, alerts=channel.alerts - {payload.kind})
    return None


def apply_outcome(channel: Channel, payload: Payload) -> Channel | None:
    """Disputes and finality; None for any other event."""
    match payload:
        case ChallengeReceived():
            shown = Challenge(payload.sequence, payload.proof, payload.verdict, payload.published_txid)
            count = channel.challenge_count + 1
            kept = _kept_challenges((*channel.challenges, shown))
            return msgspec.structs.replace(channel, challenges=kept, answer=None, challenge_count=count)
        case ChallengeAnswered():
            count = channel.answer_count + 1
            return msgspec.structs.replace(channel, answer=payload.counter_proof, answer_count=count)
        case SoftFinal():
            return msgspec.structs.replace(channel, soft_final=payload.txid)
        case ChannelErased():
            return msgspec.structs.replace(channel, erased=True)
        case ChannelResolved():
            return msgspec.structs.replace(channel, resolved=payload.outcome)
    return None


def _kept_challenges(shown: tuple[Challenge, ...]) -> tuple[Challenge, ...]:
    """At most `KEPT_CHALLENGES`, the newest one always among them."""
    if len(shown) <= KEPT_CHALLENGES:
        return shown
    evidence = (
        place for place, each in enumerate(shown[:-1]) if each.verdict is not ChallengeVerdict.VALID_ENFORCEABLE
    )
    dropped = next(evidence, 0)
    return (*shown[:dropped], *shown[dropped + 1 :])
