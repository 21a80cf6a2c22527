"""What a spend of the funding outpoint is: protocol 7.2, rules in order, the first match decides.

The decoded state number alone decides nothing: a cooperative close decodes to a random number. Every verdict
that accuses somebody is bound to a recomputed txid.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from domain.channel import Channel
from domain.contract.closing import is_cooperative_close
from domain.contract.commitment import build_commitment, decode_number, is_commitment_template
from domain.contract.keys import public_key
from domain.contract.params import ChannelParams
from domain.contract.revocation import derive_secret, index_of
from domain.events import SpendKind
from domain.transaction import Transaction
from domain.units import MAX_SEQUENCE, Side


class Verdict(msgspec.Struct, frozen=True):
    """Kind of the spend; side and state number where they are known."""

    kind: SpendKind
    side: Side | None = None
    sequence: int | None = None


def encoded_number(params: ChannelParams, tx: Transaction) -> int:
    """The state number that the transaction's nSequence and nLockTime encode; meaningless without a txid check."""
    return decode_number(params, tx.inputs[0].sequence, tx.lock_time)


def classify(channel: Channel, tx: Transaction, own_txid: bytes | None) -> Verdict:
    """Classify a transaction that spends the channel's funding outpoint.

    `own_txid` is the txid of our own commitment with the encoded number, from the log (None if we have no such
    state). Mode K needs nothing else: the counterparty's commitments are recomputed from its secrets.
    """
    params = channel.params
    if is_cooperative_close(tx, params):
        return Verdict(SpendKind.COOP)
    number = encoded_number(params, tx)
    if own_txid is not None and own_txid == tx.txid:
        # The peer's release of state n is the last step of the update that also made us release ours.
        released = max(channel.own_released, channel.highest_revoked)
        kind = SpendKind.OWN_CLOSE if number > released else SpendKind.SELF_BREACH
        return Verdict(kind, channel.own_side, number)
    shown = channel.challenge_of(tx.txid)
    if shown is not None:
        return Verdict(SpendKind.BREACH, shown.accused, shown.sequence)
    other = channel.counterparty
    if number <= channel.highest_revoked:
        if revoked_txid(channel, number) == tx.txid:
            return Verdict(SpendKind.BREACH, other, number)
        return Verdict(SpendKind.UNKNOWN_SPEND)
    if channel.points is not None and number - channel.highest_revoked in (1, 2):
        point = channel.points[number - channel.highest_revoked - 1]
        if build_commitment(params, other, number, point).txid == tx.txid:
            return Verdict(SpendKind.PEER_CLOSE, other, number)
    ahead = channel.highest_revoked + 2 < number <= MAX_SEQUENCE
    if ahead and is_commitment_template(tx, params):
        return Verdict(SpendKind.FUTURE_STATE, None, number)
    return Verdict(SpendKind.UNKNOWN_SPEND)


def revoked_txid(channel: Channel, sequence: int) -> bytes | None:
    """Txid of the counterparty's revoked commitment, recomputed from its released secrets."""
    secret = derive_secret(channel.buckets, index_of(sequence))
    if secret is None:
        return None
    return build_commitment(channel.params, channel.counterparty, sequence, public_key(secret)).txid


def possible_spends(channel: Channel) -> Iterator[Transaction]:
    """Every spend of the funding output that can be computed, without witnesses unless they are stored.

    Our own commitments and closes, the counterparty's publishable commitments, then its revoked ones, newest first.
    """
    params = channel.params
    for record in reversed(channel.states):
        yield build_commitment(params, channel.own_side, record.sequence, record.own_point)
    yield from (Transaction.parse(closing.raw) for closing in reversed(channel.closings) if closing.raw is not None)
    for offset, point in enumerate(channel.points or (), 1):
        yield build_commitment(params, channel.counterparty, channel.highest_revoked + offset, point)
    for number in range(channel.highest_revoked, -1, -1):
        secret = derive_secret(channel.buckets, index_of(number))
        if secret is not None:
            yield build_commitment(params, channel.counterparty, number, public_key(secret))
