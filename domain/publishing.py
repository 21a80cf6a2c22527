"""Closes that the owner asks for: which may be published, and which are sent again until they are in a block."""

from __future__ import annotations

import msgspec

from domain.channel import Channel
from domain.contract.closing import build_cooperative_close
from domain.contract.commitment import build_commitment, complete_commitment
from domain.errors import (
    ChannelClosed,
    ChannelNotReady,
    InvalidSignature,
    InvalidState,
    SelfBreach,
    SequenceGap,
)
from domain.events import CloseProposed, CloseSigned, CommitmentPublished, Payload, SpendKind
from domain.joint import Signatures, funding_signatures, key_path_signature, signs_funding
from domain.transaction import Transaction
from domain.units import Side


class Terms(msgspec.Struct, frozen=True):
    """Of a cooperative close: who pays the fee, and how much (satoshi)."""

    closer: Side
    fee: int


def own_commitment(channel: Channel, sequence: int, signatures: Signatures) -> Transaction:
    """The owner's commitment of a publishable state with its witness; signatures of A and B, 64 bytes each.

    Raises `SelfBreach` for a state whose secret was released, `ChannelNotReady` while frozen, `SequenceGap` for a
    state that is not stored, `ChannelClosed` if the channel is over, `InvalidSignature`.
    """
    if channel.frozen:
        raise ChannelNotReady("the channel is frozen: a commitment from here could be a revoked one")
    if _is_revoked(channel, sequence):
        raise SelfBreach(
            f"own state {sequence} was revoked: publishing it gives everything to the counterparty; the newest state "
            f"is {channel.sequence}"
        )
    record = channel.state(sequence)
    if record is None:
        raise SequenceGap(f"there is no complete state {sequence} here; the newest one is {channel.sequence}")
    tx = build_commitment(channel.params, channel.own_side, sequence, record.own_point)
    _check_unspent(channel, tx.txid)
    for side in Side:
        if not signs_funding(channel.params, tx, side, signatures[side]):
            raise InvalidSignature(
                f"the signature of {side.name} does not verify on the commitment of {channel.own_side.name} for state "
                f"{sequence}; nothing was published"
            )
    return complete_commitment(channel.params, tx, *signatures)


def _is_revoked(channel: Channel, sequence: int) -> bool:
    """Whether the owner's secret of a state is out; the peer's release ends the update that also released ours."""
    return sequence <= max(channel.own_released, channel.highest_revoked)


def _check_unspent(channel: Channel, txid: bytes) -> None:
    spend = channel.confirmed_spend
    if channel.double_spend is not None or channel.resolved is not None:
        raise ChannelClosed("the channel is over: its funding was double-spent, or its end is final")
    if spend is not None and spend.txid != txid:
        raise ChannelClosed("another spend of the funding output is in a block; nothing can be published any more")


def commitment_published(channel: Channel, tx: Transaction, sequence: int, now: int) -> list[Payload]:
    """The intent, durable before the node is called; no updates from here (U6)."""
    if channel.closings and channel.closings[-1].txid == tx.txid:
        return []
    return [CommitmentPublished(recorded_at=now, sequence=sequence, txid=tx.txid)]


def decide_close(channel: Channel, tx: Transaction, final_balances: tuple[int, int], now: int) -> list[Payload]:
    """Events of a cooperative close that both parties signed; nothing for the same transaction again.

    Raises `InvalidState` for balances that do not add up, pending conditions, or a transaction that is not the close
    with these balances; `InvalidSignature`; `ChannelClosed` if the channel is over or another close binds (U6).
    """
    terms = _close_terms(channel, tx, final_balances)
    newest = channel.states[-1] if channel.states else None
    if newest is None or any(state.conditions for state in channel.states if state.sequence > channel.highest_revoked):
        raise InvalidState("conditions are pending; settle or drop them before a cooperative close")
    _check_unspent(channel, tx.txid)
    earlier = (c.final_balances for c in channel.closings if c.final_balances is not None)
    for bound in earlier:
        if bound != final_balances:
            raise ChannelClosed(
                f"a close with final balances of {bound[0]} and {bound[1]} sat was signed before; "
                "each further one must have the same (rule U6)"
            )
    known = channel.closings[-1] if channel.closings else None
    if known is not None and known.txid == tx.txid and known.raw is not None:
        return []
    return [
        CloseProposed(
            recorded_at=now,
            final_balances=final_balances,
            fee=terms.fee,
            lock_time=tx.lock_time,
            by=terms.closer,
            txid=tx.txid,
        ),
        CloseSigned(
            recorded_at=now,
            txid=tx.txid,
            by=channel.own_side,
            signature=_own_signature(channel, tx),
            raw=tx.serialize(),
        ),
    ]


def _own_signature(channel: Channel, tx: Transaction) -> bytes:
    pair = funding_signatures(channel.params, tx)
    joined = key_path_signature(channel.params, tx) if pair is None else pair[channel.own_side]
    if joined is None:
        raise InvalidSignature("the close does not carry valid signatures of both parties; nothing was published")
    return joined


def _close_terms(channel: Channel, tx: Transaction, final_balances: tuple[int, int]) -> Terms:
    """Who pays which fee so that exactly this transaction results."""
    params = channel.params
    build_cooperative_close(params, final_balances, Side.A, 0)  # refuses balances that do not add up
    for closer in Side:
        mine = final_balances[closer]
        fees = {mine - out.value for out in tx.outputs} | {mine}
        for fee in sorted(fee for fee in fees if 0 <= fee <= mine):
            if _is_close(channel, tx, final_balances, Terms(closer, fee)):
                return Terms(closer, fee)
    raise InvalidState(
        "the transaction is not the cooperative close with these final balances: version 2, only the funding output "
        "as input, exactly the agreed payouts less one side's fee"
    )


def _is_close(channel: Channel, tx: Transaction, final_balances: tuple[int, int], terms: Terms) -> bool:
    try:
        built = build_cooperative_close(channel.params, final_balances, terms.closer, terms.fee, tx.lock_time)
    except InvalidState:  # no close has this lock time, or these outputs are all dust
        return False
    return built.txid == tx.txid


def close_to_send(channel: Channel, kept: bytes | None) -> bytes | None:
    """The owner's close that should be at the node now and is not: neither in the mempool nor in a block.

    `kept` is an own commitment that this process has in memory. A stale commitment of the counterparty that dropped
    out of sight goes first: it is punished, not replaced. An own commitment that was revoked after it was asked for is
    never sent again: the counterparty would take everything.
    """
    if channel.present_spend is not None or channel.double_spend is not None or channel.resolved is not None:
        return None
    if channel.spends and channel.spends[-1].kind is SpendKind.BREACH:
        return None
    own = None if kept is None else Transaction.parse(kept).txid
    for closing in reversed(channel.closings):
        if closing.sequence is not None and _is_revoked(channel, closing.sequence):
            continue
        seen = channel.spend(closing.txid)
        raw = closing.raw or (None if seen is None else seen.raw) or (kept if closing.txid == own else None)
        if raw is not None:
            return raw
    return _lost_commitment(channel)


def _lost_commitment(channel: Channel) -> bytes | None:
    """An own commitment that was in a mempool or a block, whoever sent it, and is in none any more.

    A reorg of more than ten blocks puts nothing back into a mempool.
    """
    own = [] if channel.frozen else [s for s in reversed(channel.spends) if s.kind is SpendKind.OWN_CLOSE]
    for spend in own:
        if spend.sequence is not None and not _is_revoked(channel, spend.sequence):
            return spend.raw
    return None
