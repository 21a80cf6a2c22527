"""Conditional outputs of a close: where they are, which preimages become public, who takes them.

Only HTLC outputs are followed. An output by descriptor belongs to the application that chose the descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

from domain.chain import BlockRef, OutPoint, make_outpoint
from domain.channel import Channel, StateRecord
from domain.contract.conditions import Condition
from domain.contract.hashes import sha256
from domain.contract.htlc import extract_preimage
from domain.contract.params import ChannelParams
from domain.contract.settlement import condition_vouts
from domain.contract.state import onchain_state_hash
from domain.deadlines import is_final
from domain.errors import InvalidSecret
from domain.events import AlertKind, ClaimConfirmed, ClaimPath, Payload, PreimageLearned, Source
from domain.spending import raise_alert
from domain.status import COMMITMENT_KINDS
from domain.transaction import Transaction
from domain.units import FINAL_DEPTH, Side

CLAIM_PATIENCE = 2016
"""Blocks after its expiry for which an output that we could take keeps a channel open: two weeks. What nobody took by
then is not worth its fee, or the key to it is not here."""

KnownPreimage = Callable[[bytes], bytes | None]
"""Payment hash to preimage, from whatever channel of this tower it became known in."""


class ConditionalOutput(msgspec.Struct, frozen=True):
    """An HTLC output of the settlement with this txid."""

    condition: Condition
    settle_txid: bytes
    vout: int

    @property
    def outpoint(self) -> OutPoint:
        """Where it is."""
        return make_outpoint(self.settle_txid, self.vout)


def conditional_outputs(channel: Channel, record: StateRecord | None) -> tuple[ConditionalOutput, ...]:
    """HTLC outputs of the settlement of the present close, in order of the output numbers.

    `record` is the published state; None if its content is unknown. There are none once a penalty took everything.
    """
    spend = channel.present_spend
    if spend is None or spend.kind not in COMMITMENT_KINDS or spend.side is None:
        return ()
    if record is None or not record.conditions or record.sequence != spend.sequence:
        return ()
    found = _outputs(channel.params, record, spend.side)
    end = channel.contest_spend(spend.txid)
    return found if end is None or all(end.txid == output.settle_txid for output in found) else ()


@lru_cache(maxsize=4096)
def _outputs(params: ChannelParams, record: StateRecord, side: Side) -> tuple[ConditionalOutput, ...]:
    """Kept, because every pass and every block asks again and each output costs operations on the curve.

    As many as folds are kept (`watchtower.repository`): with fewer, many closes at once would compute all of them anew
    in every pass, before the answer to a breach.
    """
    header, conditions = record.read_header(), record.read_conditions()
    onchain = onchain_state_hash(header) if params.has_onchain_state else None
    vouts = condition_vouts(params, *header.balances, conditions, onchain)
    txid = header.settle_txid(side)
    return tuple(ConditionalOutput(c, txid, vouts[c.key]) for c in conditions if c.is_htlc and c.key in vouts)


def preimage_in(channel: Channel, payment_hash: bytes, known: KnownPreimage) -> bytes | None:
    """The preimage of a payment hash, from this channel's own history or from another channel's."""
    return dict(channel.preimages).get(payment_hash) or known(payment_hash)


def preimages_learned(
    channel: Channel, outputs: Sequence[ConditionalOutput], tx: Transaction, source: Source, now: int
) -> list[Payload]:
    """Preimages in the success witnesses of a transaction that spends conditional outputs, whoever takes them."""
    known = {payment_hash for payment_hash, _ in channel.preimages}
    watched = {output.outpoint: output.condition.hash for output in outputs}
    events: list[Payload] = []
    for tx_input in tx.inputs:
        payment_hash = watched.get(tx_input.outpoint)
        if payment_hash is None or payment_hash in known:
            continue
        preimage = extract_preimage(tx_input.witness, payment_hash)
        if preimage is not None:
            known.add(payment_hash)
            events.append(_learned(preimage, payment_hash, source, tx.txid, now))
    return events


def decide_preimage(
    channel: Channel, records: Sequence[StateRecord], preimage: bytes, known: KnownPreimage, now: int
) -> list[Payload]:
    """A client hands over a preimage; nothing if it is known already.

    Raises `InvalidSecret` if it opens no HTLC of the stored states. `records` are those that may be settled.
    """
    payment_hash = sha256(preimage)
    conditions = (c for record in records for c in record.read_conditions())
    if not any(c.is_htlc and c.hash == payment_hash for c in conditions):
        raise InvalidSecret(
            "this preimage opens no HTLC of a stored state of the channel; store the state with the HTLC first"
        )
    if preimage_in(channel, payment_hash, known) is not None:
        return []
    return [_learned(preimage, payment_hash, Source.UPLOAD, None, now)]


def _learned(preimage: bytes, payment_hash: bytes, source: Source, txid: bytes | None, now: int) -> PreimageLearned:
    return PreimageLearned(recorded_at=now, payment_hash=payment_hash, preimage=preimage, source=source, txid=txid)


def output_taken(
    channel: Channel, output: ConditionalOutput, tx: Transaction, block: BlockRef, known: KnownPreimage, now: int
) -> list[Payload]:
    """A conditional output was spent in this block: by us, or by the counterparty, perhaps although we could have."""
    before = channel.claim_end(output.settle_txid, output.condition.key)
    if before is not None and (before.txid, before.block) == (tx.txid, block):
        return []
    condition, path = output.condition, _path_of(output, tx)
    ours = path is ClaimPath.UNKNOWN or entitled(condition, path) is channel.own_side
    missed = not ours and _could_have(channel, condition, path, block, known)
    taken = ClaimConfirmed(
        recorded_at=now,
        settle_txid=output.settle_txid,
        condition_type=condition.type,
        condition_id=condition.id,
        txid=tx.txid,
        ours=ours,
        value=condition.amount,
        block=block,
        missed=missed,
    )
    if not missed:
        return [taken]
    alert = raise_alert(channel, AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY, tx.txid, None, block.height, now)
    return [taken, *alert]


def entitled(condition: Condition, path: ClaimPath) -> Side:
    """Who may take an HTLC output by this path: the receiver with the preimage, the offerer after the expiry."""
    return condition.offerer.other if path is ClaimPath.SUCCESS else condition.offerer


def _path_of(output: ConditionalOutput, tx: Transaction) -> ClaimPath:
    """By which path a transaction takes the output; UNKNOWN is the key path, which needs both signatures."""
    witness = next(source.witness for source in tx.inputs if source.outpoint == output.outpoint)
    if extract_preimage(witness, output.condition.hash) is not None:
        return ClaimPath.SUCCESS
    has_annex = len(witness) > 1 and witness[-1].startswith(b"\x50")
    return ClaimPath.UNKNOWN if len(witness) - has_annex == 1 else ClaimPath.TIMEOUT


def _could_have(channel: Channel, condition: Condition, path: ClaimPath, block: BlockRef, known: KnownPreimage) -> bool:
    """Whether the other path, which is ours, was open when the counterparty's transaction was mined."""
    if path is ClaimPath.SUCCESS:
        return block.height > condition.expiry
    return preimage_in(channel, condition.hash, known) is not None


def keeps_open(channel: Channel, outputs: Sequence[ConditionalOutput], known: KnownPreimage, tip: int) -> bool:
    """Whether conditional outputs still keep a settled channel from being resolved.

    A taken output does until that is final. One that we can take (offered by us, or with a known preimage) does until
    `CLAIM_PATIENCE` blocks after its expiry; one whose preimage may still appear, until it is final after the expiry.
    """
    spend = channel.present_spend
    end = channel.contest_spend(spend.txid) if spend is not None else None
    if end is None:
        return False
    for output in outputs:
        condition, taken = output.condition, channel.claim_end(output.settle_txid, output.condition.key)
        if taken is not None:
            if not is_final(taken.block.height, tip):
                return True
            continue
        takeable = condition.offerer is channel.own_side or preimage_in(channel, condition.hash, known) is not None
        patience = CLAIM_PATIENCE if takeable else FINAL_DEPTH
        if tip < max(condition.expiry, end.block.height) + patience:
            return True
    return False
