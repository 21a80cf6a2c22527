"""Transactions that a party puts on chain by itself: own commitments, settlements, HTLC claims, penalties.

The guard of rule U2 stands here: an own commitment is signed for broadcast only after the append-only log was
asked whether its secret was released.
"""

from __future__ import annotations

from domain.chain import BlockRef
from domain.contract import htlc
from domain.contract.commitment import complete_commitment, sign_funding
from domain.contract.conditions import Condition, ConditionKey
from domain.contract.htlc import ClaimPath
from domain.contract.settlement import complete_settlement, condition_vouts
from domain.contract.state import StateSignatures, onchain_state_hash
from domain.errors import ChannelNotReady, InvalidState, MalformedInput, SelfBreach, SequenceGap
from domain.events import (
    CommitmentPublished,
    Payload,
    Source,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    SpendSeen,
)
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client.protocol.channel import CompleteState, Content
from watchtower.client.protocol.seat import Seat, Step


def sign_commitment(seat: Seat, sequence: int) -> tuple[Step, bytes]:
    """The own commitment of a publishable state with its complete witness, and the intent to store before.

    Raises `SelfBreach` if the own secret of this state was released, `ChannelNotReady` while this log may be an old
    copy, `SequenceGap` if there is no such state. A channel that is frozen only for the peer's equivocation can be
    closed (rule U5): else one bad offer would leave the money to the peer's good will.
    """
    channel = seat.channel
    if channel.frozen is not None and channel.old_copy:
        raise ChannelNotReady(
            f"the channel is frozen ({channel.frozen.name.lower()}) and this log may be an old copy; "
            "a commitment from here could be a revoked one"
        )
    if sequence <= channel.own_released:
        raise SelfBreach(
            f"own state {sequence} was revoked: publishing it gives everything to the peer; "
            f"the newest state is {channel.sequence}"
        )
    content, signature = _publishable(seat, sequence)
    built = seat.transactions(content)
    tx = built.commits[seat.own]
    own = sign_funding(channel.params, tx, seat.secrets.fund, seat.entropy())
    pair = (own, signature) if seat.own is Side.A else (signature, own)
    event = CommitmentPublished(recorded_at=seat.now, sequence=sequence, txid=tx.txid)
    raw = complete_commitment(channel.params, tx, *pair).serialize()
    return Step(() if sequence in channel.published else (event,)), raw


def spend_seen(seat: Seat, raw: bytes, height: int, block_hash: bytes | None) -> Step:
    """The record of a spend of the funding output, in the mempool or in the block of that height."""
    tx = Transaction.parse(raw)
    if all(spent.outpoint != seat.channel.params.funding_outpoint for spent in tx.inputs):
        raise MalformedInput("this transaction does not spend the funding output of the channel")
    seen = SpendSeen(
        recorded_at=seat.now,
        kind=SpendKind.UNKNOWN,
        txid=tx.txid,
        side=None,
        sequence=None,
        raw=raw,
        source=Source.CLIENT,
        height=height,
    )
    if block_hash is None:
        return Step((seen,))
    confirmed = SpendConfirmed(
        recorded_at=seat.now,
        kind=SpendKind.UNKNOWN,
        txid=tx.txid,
        side=None,
        sequence=None,
        block=BlockRef(height, bytes(block_hash)),
        raw=None,
    )
    return Step((seen, confirmed))


def funding_spend(seat: Seat, txid: bytes | None, block: BlockRef | None) -> Step:
    """What changed about the spend of the funding output, if its bytes are elsewhere; nothing if nothing did."""
    channel, now, height = seat.channel, seat.now, seat.height or 0
    found = None if txid is None or block is None else (txid, block)
    events: list[Payload] = []
    if channel.confirmed is not None and channel.confirmed != found:
        events.append(SpendDisconnected(recorded_at=now, txid=channel.confirmed[0], block=channel.confirmed[1]))
    if channel.spend is not None and channel.spend != txid:
        events.append(SpendReplaced(recorded_at=now, txid=channel.spend, by=txid, height=height))
    if txid is not None and channel.spend != txid:
        kind, source = SpendKind.UNKNOWN, Source.CLIENT
        events.append(
            SpendSeen(
                recorded_at=now, kind=kind, txid=txid, side=None, sequence=None, raw=None, source=source, height=height
            )
        )
    if found is not None and channel.confirmed != found:
        kind, (named, place) = SpendKind.UNKNOWN, found
        events.append(
            SpendConfirmed(recorded_at=now, kind=kind, txid=named, side=None, sequence=None, block=place, raw=None)
        )
    return Step(tuple(events))


def settlement(seat: Seat, state: CompleteState, side: Side) -> Transaction:
    """The settlement of the commitment of `side` with both signatures; valid T blocks after it."""
    built = seat.transactions(state.content)
    return complete_settlement(
        seat.channel.params,
        built.settlements[side],
        built.revocation_keys[side],
        state.sigs_a.settle(side),
        state.sigs_b.settle(side),
    )


def claim_success(
    seat: Seat, content: Content, side: Side, key: ConditionKey, preimage: bytes, fee: int, dest_spk: bytes
) -> bytes:
    """Claim of an incoming HTLC from the settlement of the commitment of `side`; `fee` in satoshi."""
    condition, txid, vout = _claimed(seat, content, side, key, ClaimPath.SUCCESS)
    tx = htlc.build_htlc_success(seat.channel.params, condition, txid, vout, fee, dest_spk)
    signature = _sign_claim(seat, condition, tx, ClaimPath.SUCCESS)
    return htlc.complete_htlc_success(seat.channel.params, condition, tx, signature, preimage).serialize()


def claim_timeout(seat: Seat, content: Content, side: Side, key: ConditionKey, fee: int, dest_spk: bytes) -> bytes:
    """Refund of an outgoing HTLC after its expiry; `fee` in satoshi."""
    condition, txid, vout = _claimed(seat, content, side, key, ClaimPath.TIMEOUT)
    tx = htlc.build_htlc_timeout(seat.channel.params, condition, txid, vout, fee, dest_spk)
    signature = _sign_claim(seat, condition, tx, ClaimPath.TIMEOUT)
    return htlc.complete_htlc_timeout(seat.channel.params, condition, tx, signature).serialize()


def vouts(seat: Seat, content: Content) -> dict[ConditionKey, int]:
    """Output numbers of the untrimmed conditions in both settlements of a state, by (type, id)."""
    params, header = seat.channel.params, content.read_header()
    onchain = onchain_state_hash(header) if params.has_onchain_state else None
    return condition_vouts(params, *header.balances, content.read_conditions(), onchain)


def _publishable(seat: Seat, sequence: int) -> tuple[Content, bytes]:
    """Content and the peer's signature on the own commitment; also of an accepted state in flight."""
    state, pending = seat.channel.state, seat.channel.pending
    if state is not None and state.seq == sequence:
        return state.content, state.signatures(seat.peer).commit_peer
    accepted: StateSignatures | None = None
    if pending is not None and pending.by is seat.own and pending.content.seq == sequence:
        accepted = pending.acceptance
    if pending is None or accepted is None:
        raise SequenceGap(f"there is no complete state {sequence}; the newest one is {seat.channel.sequence}")
    return pending.content, accepted.commit_peer


def _claimed(
    seat: Seat, content: Content, side: Side, key: ConditionKey, path: ClaimPath
) -> tuple[Condition, bytes, int]:
    condition = next((known for known in content.read_conditions() if known.key == key), None)
    vout = vouts(seat, content).get(key)
    if condition is None or vout is None:
        raise InvalidState(f"state {content.seq} has no output for condition {key[0]}/{key[1]}")
    if htlc.claimant(condition, path) is not seat.own:
        raise InvalidState(f"condition {key[0]}/{key[1]} is claimed by {seat.peer.name} on this path")
    return condition, content.read_header().settle_txid(side), vout


def _sign_claim(seat: Seat, condition: Condition, tx: Transaction, path: ClaimPath) -> bytes:
    return htlc.sign_htlc_claim(seat.channel.params, condition, tx, path, seat.secrets.htlc, seat.entropy())
