"""How one event changes the facts of a channel. The rules are those of `domain.channel`; a test compares the two.

A replay folds millions of events: `advance` changes the facts in place, so that nothing is copied for each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import msgspec

from domain.contract.hashes import tagged_hash
from domain.contract.header import StateHeader
from domain.events import (
    AlertCleared,
    AlertRaised,
    BreachDetected,
    ChannelAbandoned,
    ChannelFrozen,
    ChannelProposed,
    ChannelRegistered,
    ChannelResolved,
    ClaimConfirmed,
    ClaimDisconnected,
    CloseSigned,
    Envelope,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
    Payload,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
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
from domain.transaction import Transaction
from projections.facts import BidFacts, ChannelFacts, ClaimFacts, EndFacts, SettlementFacts, SpendFacts, Terms


def evolve(facts: ChannelFacts | None, envelope: Envelope, event_id: int) -> ChannelFacts:
    """Facts after one event; those before stay as they are. Raises what `advance` raises."""
    return advance(None if facts is None else copy(facts), envelope, event_id)


def advance(facts: ChannelFacts | None, envelope: Envelope, event_id: int) -> ChannelFacts:
    """The same facts, changed by one event; new ones for the first event of a stream.

    Raises `ValueError` if the stream does not begin as a channel does. An event that cannot be folded changes nothing.
    """
    return advance_by(facts, envelope.stream, envelope.version, envelope.payload, event_id)


def advance_by(
    facts: ChannelFacts | None,
    stream: str,
    version: int,
    payload: Payload,
    event_id: int,
    headers: dict[str, bytes] | None = None,
) -> ChannelFacts:
    """`advance` for an event that was never put into an envelope.

    With `headers` no state is hashed: its header is left there by stream, and who goes on folding works out the hash of
    the last one (`state_hash`).
    """
    if facts is None:
        facts = _create(stream, payload)
    kind = type(payload)
    if isinstance(payload, StateUpdated):  # nearly all events of a busy tower
        header = _update(facts, payload)
        if headers is None:
            facts.state_hash = state_hash(header)
        else:
            headers[stream] = header
    elif (fold := _FOLDS.get(kind)) is not None:
        for name, value in fold(facts, payload).items():
            setattr(facts, name, value)
    facts.version = version
    facts.last_id = event_id
    facts.recorded_at = payload.recorded_at
    return facts


def _create(stream: str, payload: Payload) -> ChannelFacts:
    match payload:
        case ChannelProposed():
            return ChannelFacts(Terms.of(payload.params), payload.own_side)
        case ChannelRegistered():
            return ChannelFacts(Terms.of(payload.params), payload.watched.other)
        case _:
            raise ValueError(f"stream {stream} does not begin with a proposal or a registration")


Changes = dict[str, Any]


def _registered(facts: ChannelFacts, event: ChannelRegistered) -> Changes:
    created = facts.version == 0  # by this event, from the same constants
    return {
        "terms": facts.terms if created else Terms.of(event.params),
        "mode": event.mode,
        "registered": True,
        "upload_sha256": event.upload_sha256,
        "highest_revoked": event.highest_revoked,
        "funding_inputs": _inputs(event.funding_tx) or facts.funding_inputs,
    }


def _inputs(raw: bytes | None) -> tuple[bytes, ...]:
    return () if raw is None else tuple(txin.outpoint for txin in Transaction.parse(raw).inputs)


def _funding_broadcast(facts: ChannelFacts, event: FundingBroadcast) -> Changes:
    return {"funding_seen": True, "funding_inputs": _inputs(event.raw) or facts.funding_inputs}


def _funding_disconnected(facts: ChannelFacts, event: FundingDisconnected) -> Changes:
    void = facts.double_spend
    if void is not None and void.block == event.block:
        return {"double_spend": None, "soft_final": _unless(facts.soft_final, void.txid)}
    return {"funding_block": None}


def _unless(soft_final: bytes | None, txid: bytes) -> bytes | None:
    """The soft-final transaction, unless it is the one that was just disconnected."""
    return None if soft_final == txid else soft_final


def _double_spent(_: ChannelFacts, event: FundingDoubleSpent) -> Changes:
    return {"double_spend": EndFacts(b"", event.conflict, event.block, is_penalty=False, revoked=False, value=0)}


_HEADER_START = b"SCT1\x01\x00"
"""Magic, version and flags of a state header (protocol 4.2)."""


def state_hash(header: bytes) -> bytes:
    """The hash of a state by its header (protocol 4.2), 32 bytes; that of `StateHeader`, without reading the fields."""
    return tagged_hash("SCT1/state", header)


def _update(facts: ChannelFacts, event: StateUpdated) -> bytes:
    """Everything but the hash of the state, whose header is returned."""
    header = event.header
    if not header.startswith(_HEADER_START):
        StateHeader.decode(header)  # says what is wrong with it
    balances = (event.balance_a, event.balance_b)
    facts.sequence = sequence = event.sequence
    facts.condition_count = header[6] | header[7] << 8
    facts.balances = balances
    if sequence == 0:
        facts.initial_balances = balances
    if event.revoked_secret is not None and event.next_point is not None and sequence == facts.highest_revoked + 2:
        facts.highest_revoked = sequence - 1
    return header


def _next_revoked(facts: ChannelFacts, sequence: int) -> int:
    return sequence if sequence == facts.highest_revoked + 1 else facts.highest_revoked


def _revoked(facts: ChannelFacts, event: StateRevoked) -> Changes:
    if event.party is facts.own_side:
        return {"own_released": max(facts.own_released, event.sequence)}
    return {} if event.secret is None else {"highest_revoked": _next_revoked(facts, event.sequence)}


def _spend_seen(facts: ChannelFacts, event: SpendSeen) -> Changes:
    spend = SpendFacts(event.txid, event.kind, event.side, event.sequence, in_mempool=True, block=None)
    return _with_spend(facts, spend)


def _spend_confirmed(facts: ChannelFacts, event: SpendConfirmed) -> Changes:
    spend = SpendFacts(event.txid, event.kind, event.side, event.sequence, in_mempool=False, block=event.block)
    return _with_spend(facts, spend)


def _with_spend(facts: ChannelFacts, spend: SpendFacts) -> Changes:
    known = next((s for s in facts.spends if s.txid == spend.txid), None)
    was_mined = spend.block is not None or (known is not None and known.was_mined)
    since = 0 if known is None else known.answer_from
    spend = msgspec.structs.replace(spend, was_mined=was_mined, answer_from=since)
    return {"spends": (*(s for s in facts.spends if s is not known), spend)}


def _change_spend(facts: ChannelFacts, txid: bytes, **changes: Any) -> Changes:
    spends = (msgspec.structs.replace(s, **changes) if s.txid == txid else s for s in facts.spends)
    return {"spends": tuple(spends)}


def _spend_disconnected(facts: ChannelFacts, event: SpendDisconnected) -> Changes:
    return {
        **_change_spend(facts, event.txid, block=None),
        "soft_final": _unless(facts.soft_final, event.txid),
    }


def _breach(facts: ChannelFacts, event: BreachDetected) -> Changes:
    known = next((s for s in facts.spends if s.txid == event.txid), None)
    began = known is not None and known.answer_from > 0 and facts.last_bid(event.txid) is not None
    return _change_spend(
        facts,
        event.txid,
        kind=SpendKind.BREACH,
        side=event.side,
        sequence=event.sequence,
        contest_value=event.contest_value,
        contest_spk=event.contest_spk,
        answer_from=known.answer_from if known is not None and began else event.recorded_at,
    )


def _penalty_prepared(facts: ChannelFacts, event: PenaltyPrepared) -> Changes:
    bid = BidFacts(event.commit_txid, event.bid_no, event.txid, event.fee, event.feerate_kvb)
    return {"bids": (*(b for b in facts.bids if b.txid != bid.txid), bid)}


def _penalty_broadcast(facts: ChannelFacts, event: PenaltyBroadcast) -> Changes:
    bids = (msgspec.structs.replace(b, accepted=True) if b.txid == event.txid else b for b in facts.bids)
    return {"bids": tuple(bids)}


def _penalty_confirmed(facts: ChannelFacts, event: PenaltyConfirmed) -> Changes:
    end = EndFacts(
        event.commit_txid, event.txid, event.block, is_penalty=True, revoked=True, value=event.swept, fee=event.fee
    )
    return {"ends": (*facts.ends, end)}


def _settle_confirmed(facts: ChannelFacts, event: SettleConfirmed) -> Changes:
    end = EndFacts(
        event.commit_txid, event.txid, event.block, is_penalty=False, revoked=event.revoked, value=event.value
    )
    ends = (*(e for e in facts.ends if e.txid != event.txid), end)
    return {"ends": ends, **(_counted(facts, event.txid) if event.revoked else {})}


def _soft_final(facts: ChannelFacts, event: SoftFinal) -> Changes:
    is_penalty = any(end.is_penalty and end.txid == event.txid for end in facts.ends)
    return {"soft_final": event.txid, **(_counted(facts, event.txid) if is_penalty else {})}


def _counted(facts: ChannelFacts, txid: bytes) -> Changes:
    return {} if txid in facts.counted else {"counted": (*facts.counted, txid)}


def _end_disconnected(facts: ChannelFacts, event: PenaltyDisconnected | SettleDisconnected) -> Changes:
    kept = tuple(e for e in facts.ends if not (e.txid == event.txid and e.block == event.block))
    return {"ends": kept, "soft_final": _unless(facts.soft_final, event.txid)}


def _settle_prepared(facts: ChannelFacts, event: SettlePrepared) -> Changes:
    settlement = SettlementFacts(event.commit_txid, event.txid, event.valid_from)
    return {"settlements": (*(s for s in facts.settlements if s.txid != event.txid), settlement)}


def _settle_broadcast(facts: ChannelFacts, event: SettleBroadcast) -> Changes:
    settlements = (msgspec.structs.replace(s, accepted=True) if s.txid == event.txid else s for s in facts.settlements)
    return {"settlements": tuple(settlements)}


def _claim_confirmed(facts: ChannelFacts, event: ClaimConfirmed) -> Changes:
    key = event.condition_type, event.condition_id
    taken = ClaimFacts(event.settle_txid, key, event.txid, event.block, event.ours, event.value)
    return {"claims": (*facts.claims, taken)}


def _claim_disconnected(facts: ChannelFacts, event: ClaimDisconnected) -> Changes:
    return {"claims": tuple(c for c in facts.claims if (c.txid, c.block) != (event.txid, event.block))}


def _alert_raised(facts: ChannelFacts, event: AlertRaised) -> Changes:
    return {"alerts": tuple(sorted({*facts.alerts, event.kind}))}


def _alert_cleared(facts: ChannelFacts, event: AlertCleared) -> Changes:
    return {"alerts": tuple(kind for kind in facts.alerts if kind is not event.kind)}


_FOLDS: dict[type[Payload], Callable[[ChannelFacts, Any], Changes]] = {
    ChannelProposed: lambda _, event: {"initial_balances": event.initial_balances},
    ChannelRegistered: _registered,
    FundingBroadcast: _funding_broadcast,
    FundingConfirmed: lambda _, event: {"funding_seen": True, "funding_block": event.block},
    FundingDisconnected: _funding_disconnected,
    FundingDoubleSpent: _double_spent,
    ChannelAbandoned: lambda _, _event: {"abandoned": True},
    StateRevoked: _revoked,
    ChannelFrozen: lambda _, _event: {"frozen": True},
    CloseSigned: lambda facts, event: {
        "close_signed": True,
        "close_complete": facts.close_complete or event.raw is not None,
    },
    SpendSeen: _spend_seen,
    SpendReplaced: lambda facts, event: _change_spend(facts, event.txid, in_mempool=False),
    SpendConfirmed: _spend_confirmed,
    SpendDisconnected: _spend_disconnected,
    BreachDetected: _breach,
    PenaltyPrepared: _penalty_prepared,
    PenaltyBroadcast: _penalty_broadcast,
    PenaltyConfirmed: _penalty_confirmed,
    PenaltyDisconnected: _end_disconnected,
    SettlePrepared: _settle_prepared,
    SettleBroadcast: _settle_broadcast,
    SettleConfirmed: _settle_confirmed,
    SettleDisconnected: _end_disconnected,
    ClaimConfirmed: _claim_confirmed,
    ClaimDisconnected: _claim_disconnected,
    SoftFinal: _soft_final,
    ChannelResolved: lambda _, event: {"resolved": event.outcome},
    AlertRaised: _alert_raised,
    AlertCleared: _alert_cleared,
}
