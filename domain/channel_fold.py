"""From events to a Channel.

`evolve` is total: it accepts every event that was ever written and never validates; rules live in the deciders.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain.channel import (
    Bid,
    Challenge,
    Channel,
    Claim,
    ClaimEnd,
    Closing,
    ContestSpend,
    Settlement,
    Spend,
    StateRecord,
)
from domain.contract.conditions import decode_conditions
from domain.contract.params import ChannelParams
from domain.contract.revocation import index_of, insert_secret
from domain.contract.state import StateHeader
from domain.events import (
    AlertCleared,
    AlertRaised,
    BreachDetected,
    BroadcastOutcome,
    ChallengeAnswered,
    ChallengeReceived,
    ChallengeVerdict,
    ChannelAbandoned,
    ChannelErased,
    ChannelFrozen,
    ChannelProposed,
    ChannelRegistered,
    ChannelResolved,
    ClaimBroadcast,
    ClaimConfirmed,
    ClaimDisconnected,
    ClaimPrepared,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    Envelope,
    EquivocationFound,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
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
    StateRevoked,
    StateUpdated,
)
from domain.units import Side

KEPT_STATES = 2
"""Two states can be publishable at a time: between messages 2 and 4 of an update (protocol 5.3, U4)."""


KEPT_CHALLENGES = 16
"""Proofs that are kept. A commitment needs one; only an owner who repeats himself shows more. Evidence goes first: the
penalty may need a proof that can be enforced."""


def fold(channel: Channel | None, events: Iterable[Envelope]) -> Channel | None:
    """Apply events in order."""
    for event in events:
        channel = evolve(channel, event)
    return channel


def evolve(channel: Channel | None, event: Envelope) -> Channel:
    """State after one event; the first event of a channel's stream creates it."""
    payload = event.payload
    if channel is None:
        channel = _create(event.stream, payload)
    after = _apply(channel, payload)
    return msgspec.structs.replace(after, version=event.version)


def _create(stream: str, payload: Payload) -> Channel:
    match payload:
        case ChannelProposed():
            return Channel(stream, 0, ChannelParams.decode(payload.params), payload.own_side)
        case ChannelRegistered():
            return Channel(stream, 0, ChannelParams.decode(payload.params), Side(payload.watched).other)
        case _:
            raise AssertionError(f"stream {stream} does not begin with a proposal or a registration")


def _apply(channel: Channel, payload: Payload) -> Channel:
    for part in (_apply_opening, _apply_state, _apply_spend, _apply_penalty, _apply_claim, _apply_end, _apply_outcome):
        after = part(channel, payload)
        if after is not None:
            return after
    return channel


def _apply_opening(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case ChannelProposed():
            return msgspec.structs.replace(
                channel, initial_balances=payload.initial_balances, points=payload.counterparty_points
            )
        case ChannelRegistered():
            return msgspec.structs.replace(
                channel,
                params=ChannelParams.decode(payload.params),
                registered=True,
                registered_at=payload.tip_height,
                sweep_spk=payload.sweep_spk,
                client_key=payload.client_key,
                upload_sha256=payload.upload_sha256,
                highest_revoked=payload.highest_revoked,
                points=payload.points,
                buckets=payload.buckets,
                funding_tx=payload.funding_tx,
            )
        case FundingBroadcast():
            raw = payload.raw if payload.raw is not None else channel.funding_tx
            return msgspec.structs.replace(channel, funding_seen=True, funding_tx=raw)
        case FundingConfirmed():
            return msgspec.structs.replace(channel, funding_seen=True, funding_block=payload.block)
        case FundingDisconnected():
            void = channel.double_spend
            if void is not None and void.block == payload.block:
                return msgspec.structs.replace(channel, double_spend=None, soft_final=_without(channel, void.txid))
            return msgspec.structs.replace(channel, funding_block=None)
        case FundingDoubleSpent():
            conflict = ContestSpend(b"", payload.conflict, payload.block, is_penalty=False, revoked=False, value=0)
            return msgspec.structs.replace(channel, double_spend=conflict)
        case ChannelAbandoned():
            return msgspec.structs.replace(channel, abandoned=True)
    return None


def _without(channel: Channel, txid: bytes) -> bytes | None:
    """The soft-final transaction, unless it is the one that just left the chain."""
    return None if channel.soft_final == txid else channel.soft_final


def _apply_state(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case StateUpdated():
            return _update(channel, payload)
        case StateRevoked():
            if payload.party is channel.own_side:
                return msgspec.structs.replace(channel, own_released=max(channel.own_released, payload.sequence))
            return _revoke(channel, payload.sequence, payload.secret, payload.next_point)
        case CloseProposed():
            return _closing(channel, Closing(payload.txid, final_balances=payload.final_balances))
        case CloseSigned():
            known = channel.closing(payload.txid) or Closing(payload.txid)
            raw = payload.raw if payload.raw is not None else known.raw
            signed = _closing(channel, msgspec.structs.replace(known, raw=raw))
            return msgspec.structs.replace(signed, close_signed=True)
        case CommitmentPublished():
            return _closing(channel, Closing(payload.txid, sequence=payload.sequence))
        case EquivocationFound():
            return msgspec.structs.replace(channel, equivocations=channel.equivocations | {payload.sequence})
        case ChannelFrozen():
            return msgspec.structs.replace(channel, frozen=True)
    return None


def _closing(channel: Channel, closing: Closing) -> Channel:
    """The newest intent stands last."""
    others = tuple(c for c in channel.closings if c.txid != closing.txid)
    return msgspec.structs.replace(channel, closings=(*others, closing))


def state_record(payload: StateUpdated) -> StateRecord:
    """What the event of a state keeps for its settlement."""
    return StateRecord(
        payload.header,
        payload.conditions,
        payload.sigs_a,
        payload.sigs_b,
        payload.own_point,
        payload.descriptors,
    )


def _update(channel: Channel, payload: StateUpdated) -> Channel:
    header = StateHeader.decode(payload.header)
    record = state_record(payload)
    first = payload.sequence == 0
    states = (*channel.states, record)[-KEPT_STATES:]
    updated = msgspec.structs.replace(
        channel,
        states=states,
        preimages=_still_used(channel.preimages, states),
        sequence=payload.sequence,
        state_hash=header.state_hash,
        balances=(payload.balance_a, payload.balance_b),
        initial_balances=(payload.balance_a, payload.balance_b) if first else channel.initial_balances,
    )
    if payload.revoked_secret is None or payload.next_point is None:
        return updated
    return _revoke(updated, payload.sequence - 1, payload.revoked_secret, payload.next_point)


def _still_used(
    preimages: tuple[tuple[bytes, bytes], ...], states: tuple[StateRecord, ...]
) -> tuple[tuple[bytes, bytes], ...]:
    """Preimages of HTLCs that can still be settled; a channel would else collect those of all its payments.

    The others stay in the log and in the view of preimages.
    """
    if not preimages:
        return ()
    open_hashes = {c.hash for state in states for c in decode_conditions(state.conditions)}
    return tuple(pair for pair in preimages if pair[0] in open_hashes)


def _revoke(channel: Channel, sequence: int, secret: bytes | None, next_point: bytes) -> Channel:
    if secret is None or sequence != channel.highest_revoked + 1 or channel.points is None:
        return channel
    return msgspec.structs.replace(
        channel,
        highest_revoked=sequence,
        points=(channel.points[1], next_point),
        buckets=insert_secret(channel.buckets, secret, index_of(sequence)),
    )


def _apply_spend(channel: Channel, payload: Payload) -> Channel | None:
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
            return msgspec.structs.replace(undone, soft_final=_without(channel, payload.txid))
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


def _apply_penalty(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case PenaltyPrepared():
            bid = Bid(
                payload.commit_txid,
                payload.bid_no,
                payload.txid,
                payload.raw,
                payload.fee,
                payload.feerate_kvb,
                payload.remaining,
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
            return msgspec.structs.replace(channel, contest_spends=kept, soft_final=_without(channel, payload.txid))
    return None


def _change_bid(channel: Channel, txid: bytes, **changes: object) -> Channel:
    bids = tuple(msgspec.structs.replace(b, **changes) if b.txid == txid else b for b in channel.bids)
    return msgspec.structs.replace(channel, bids=bids)


def _apply_claim(channel: Channel, payload: Payload) -> Channel | None:
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


def _apply_end(channel: Channel, payload: Payload) -> Channel | None:
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


def _apply_outcome(channel: Channel, payload: Payload) -> Channel | None:
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
