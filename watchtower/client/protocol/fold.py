"""How the events of a party's store make a `PartyChannel`.

`evolve` accepts every event that was ever written and never validates; the rules are in `proposer`, `acceptor`
and `closing`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain.chain import outpoint_txid, outpoint_vout
from domain.contract.params import ChannelParams
from domain.contract.receipts import SignedReceipt
from domain.contract.revocation import index_of, insert_secret
from domain.contract.state import StateSignatures
from domain.errors import LogCorrupt
from domain.events import (
    AlertKind,
    AlertRaised,
    ChannelAbandoned,
    ChannelFrozen,
    ChannelProposed,
    ChannelUnfrozen,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    Envelope,
    EquivocationFound,
    FeeChildPrepared,
    FreezeReason,
    FundingBroadcast,
    FundingConfirmed,
    Payload,
    PreimageLearned,
    RescueSigned,
    Source,
    SpendConfirmed,
    SpendDisconnected,
    SpendReplaced,
    SpendSeen,
    StateAccepted,
    StateCommitted,
    StateOffered,
    StateProposed,
    StateRevoked,
    TowerAcknowledged,
    TurnYielded,
)
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client.protocol.channel import Close, CompleteState, Content, PartyChannel, Pending, Proposal, Rescue
from watchtower.client.protocol.fee_log import with_child

KEPT_POINTS = 4
"""The counterparty's points that are still needed: of the current state, the next one, and one update in flight."""


def fold(channel: PartyChannel | None, events: Iterable[Envelope]) -> PartyChannel | None:
    """Apply events in order."""
    for event in events:
        channel = evolve(channel, event)
    return channel


def evolve(channel: PartyChannel | None, event: Envelope) -> PartyChannel:
    """State after one event; `ChannelProposed` creates it."""
    payload = event.payload
    if channel is None:
        if not isinstance(payload, ChannelProposed):
            raise LogCorrupt(f"stream {event.stream} of a party does not begin with its proposal")
        return _create(event, payload)
    for part in (_apply_opening, _apply_state, _apply_revocation, _apply_end, _apply_chain):
        after = part(channel, payload)
        if after is not None:
            settled = after.firm.content if after.firm is not None else after.settled
            return msgspec.structs.replace(after, version=event.version, settled=settled)
    return msgspec.structs.replace(channel, version=event.version)


def _create(event: Envelope, payload: ChannelProposed) -> PartyChannel:
    points = payload.counterparty_points or ()
    return PartyChannel(
        stream=event.stream,
        version=event.version,
        params=ChannelParams.decode(payload.params),
        own_side=payload.own_side,
        channel_index=payload.channel_index,
        initial_balances=payload.initial_balances,
        peer_points=tuple(enumerate(points)),
    )


def _apply_opening(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    match payload:
        case FundingBroadcast():
            txid, vout = outpoint_txid(payload.outpoint), outpoint_vout(payload.outpoint)
            named = msgspec.structs.replace(channel, params=channel.params.with_funding(txid, vout))
            return named if payload.raw is None else _with_funding(named, payload.raw)
        case FundingConfirmed():
            return channel
        case ChannelAbandoned():
            return msgspec.structs.replace(channel, abandoned=True)
    return None


def _with_funding(channel: PartyChannel, raw: bytes) -> PartyChannel:
    """Without a signature it is what the wallet prepared, and worth nothing to the network."""
    if any(spent.witness for spent in Transaction.parse(raw).inputs):
        return msgspec.structs.replace(channel, funding_tx=raw)
    return msgspec.structs.replace(channel, prepared_tx=raw)


def _apply_state(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    pending = channel.pending
    match payload:
        case StateOffered():
            content = Content(payload.header, payload.conditions, payload.state_data, payload.descriptors)
            return msgspec.structs.replace(channel, pending=Pending(content, payload.by))
        case TurnYielded():
            return msgspec.structs.replace(channel, handed_over=(payload.sequence, payload.by.other))
        case StateProposed() if pending:
            proposal = Proposal(payload.state_sig, payload.settle_a, payload.settle_b)
            return msgspec.structs.replace(channel, pending=msgspec.structs.replace(pending, proposal=proposal))
        case StateAccepted() if pending:
            accepted = StateSignatures(payload.state_sig, payload.settle_a, payload.settle_b, payload.commit_peer)
            return msgspec.structs.replace(channel, pending=msgspec.structs.replace(pending, acceptance=accepted))
        case StateCommitted() if pending and pending.proposal and pending.acceptance:
            first = pending.proposal
            proposer = StateSignatures(first.state, first.settle_a, first.settle_b, payload.commit_peer)
            by_a = pending.by is Side.A
            pair = (proposer, pending.acceptance) if by_a else (pending.acceptance, proposer)
            completed = CompleteState(pending.content, pending.by, *pair)
            shown = _still_shown(channel, pending.content) if channel.shown else channel.shown
            return msgspec.structs.replace(channel, state=completed, pending=None, shown=shown)
    return None


def _still_shown(channel: PartyChannel, content: Content) -> frozenset[bytes]:
    """Hashes of the state before stay for one state, so that what removed an HTLC is known when it is gone."""
    pending = (*channel.conditions, *content.read_conditions())
    return channel.shown & {condition.hash for condition in pending}


def _apply_revocation(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    match payload:
        case StateRevoked() if payload.party is channel.own_side:
            return msgspec.structs.replace(channel, own_released=max(channel.own_released, payload.sequence))
        case StateRevoked() if payload.secret is not None:
            points = (*channel.peer_points, (payload.sequence + 2, payload.next_point))[-KEPT_POINTS:]
            return msgspec.structs.replace(
                channel,
                peer_revoked=payload.sequence,
                peer_points=points,
                buckets=insert_secret(channel.buckets, payload.secret, index_of(payload.sequence)),
            )
        case AlertRaised(kind=AlertKind.SECRET_INCONSISTENT) if payload.sequence is not None:
            return msgspec.structs.replace(channel, alarmed=payload.sequence)
        case TowerAcknowledged():
            known = dict(channel.acknowledged)
            known[payload.tower_id] = max(known.get(payload.tower_id, -1), payload.sequence)
            return msgspec.structs.replace(
                channel, acknowledged=tuple(sorted(known.items())), receipts=_receipts(channel, payload)
            )
        case PreimageLearned() if payload.source is not Source.CLIENT:
            return msgspec.structs.replace(channel, shown=channel.shown | {payload.payment_hash})
    return None


def _receipts(channel: PartyChannel, acknowledged: TowerAcknowledged) -> tuple[tuple[bytes, SignedReceipt], ...]:
    """The newest receipt of each tower; acknowledgements of earlier versions have none."""
    if not acknowledged.receipt:
        return channel.receipts
    newest = dict(channel.receipts)
    newest[acknowledged.tower_id] = SignedReceipt(acknowledged.receipt, acknowledged.receipt_sig)
    return tuple(newest.items())


def _apply_end(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    match payload:
        case ChannelFrozen():
            lasting = channel.frozen is FreezeReason.EQUIVOCATION
            reason = FreezeReason.EQUIVOCATION if lasting else payload.reason
            old_copy = channel.old_copy or payload.reason is not FreezeReason.EQUIVOCATION
            # Frozen as restored once more: the peer named another state (`freezing.contradicted`).
            again = channel.frozen is FreezeReason.RESTORED and payload.reason is FreezeReason.RESTORED
            doubted = channel.peer_doubted or again
            return msgspec.structs.replace(channel, frozen=reason, old_copy=old_copy, peer_doubted=doubted)
        case ChannelUnfrozen():
            return msgspec.structs.replace(channel, frozen=None, old_copy=False, peer_doubted=False)
        case EquivocationFound():
            return channel
        case CloseProposed():
            return _apply_proposal(channel, payload)
        case CloseSigned():
            return msgspec.structs.replace(channel, closes=tuple(_signed(close, payload) for close in channel.closes))
        case CommitmentPublished():
            return msgspec.structs.replace(channel, published=channel.published | {payload.sequence})
    return None


def _apply_chain(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    match payload:
        case SpendSeen():
            return msgspec.structs.replace(channel, had_spend=True, spend=payload.txid)
        case SpendReplaced() if channel.spend == payload.txid:
            return msgspec.structs.replace(channel, spend=payload.by)
        case SpendConfirmed():
            confirmed = (payload.txid, payload.block)
            return msgspec.structs.replace(channel, had_spend=True, spend=payload.txid, confirmed=confirmed)
        case SpendDisconnected() if channel.confirmed == (payload.txid, payload.block):
            return msgspec.structs.replace(channel, confirmed=None)
        case FeeChildPrepared():
            return msgspec.structs.replace(channel, fee_children=with_child(channel.fee_children, payload))
        case RescueSigned():
            return msgspec.structs.replace(channel, rescue=_rescue(channel.rescue, payload))
    return None


def _rescue(known: Rescue | None, payload: RescueSigned) -> Rescue:
    before = known if known is not None else Rescue(payload.commit_txid, payload.amounts)
    signatures = {**dict(before.signatures), payload.by: payload.signature}
    raw = payload.raw if payload.raw is not None else before.raw
    return msgspec.structs.replace(before, signatures=tuple(signatures.items()), raw=raw)


def _apply_proposal(channel: PartyChannel, payload: CloseProposed) -> PartyChannel:
    """The proposal is the newest close; if it repeats an older one, that one's complete transaction stays valid."""
    raw = next((known.raw for known in channel.closes if known.txid == payload.txid), None)
    close = Close(payload.txid, payload.final_balances, payload.fee, payload.lock_time, payload.by, raw=raw)
    others = tuple(known for known in channel.closes if known.txid != payload.txid)
    return msgspec.structs.replace(channel, closes=(*others, close))


def _signed(close: Close, payload: CloseSigned) -> Close:
    if close.txid != payload.txid:
        return close
    signatures = {**dict(close.signatures), payload.by: payload.signature}
    raw = payload.raw if payload.raw is not None else close.raw
    return msgspec.structs.replace(close, signatures=tuple(signatures.items()), raw=raw)
