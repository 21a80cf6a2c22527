"""Our claims on conditional outputs: which ones, by which path, at what fee, and their records.

Level-triggered like the penalty: what is wanted follows from the channel and from the tip, and the same bytes are
sent again until a block decides. Signing needs the HTLC key and happens outside (`domain.contract.htlc`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec

from domain.channel import Channel, Claim
from domain.conditional import ConditionalOutput, KnownPreimage, entitled, preimage_in
from domain.contract import htlc
from domain.contract.hashes import tagged_hash
from domain.contract.params import ChannelParams
from domain.contract.scripts import dust_limit
from domain.deadlines import remaining
from domain.events import (
    AlertKind,
    BroadcastOutcome,
    ClaimBroadcast,
    ClaimPath,
    ClaimPrepared,
    Payload,
)
from domain.fees import CLAIM_SHARE, Market, bid, fee_for, phase_estimate
from domain.punishing import Rival, above_rival
from domain.spending import clear_alert, raise_alert
from domain.transaction import Transaction
from domain.units import vsize as vsize_of

CLAIM_WINDOW = 144
"""Blocks over which a claim becomes urgent; before them nothing is urgent, however far the expiry is."""


class WantedClaim(msgspec.Struct, frozen=True):
    """One conditional output that is ours to take now. `preimage` belongs to the success path and hides from repr."""

    output: ConditionalOutput
    path: ClaimPath
    preimage: bytes | None

    def __repr__(self) -> str:
        return f"<WantedClaim {self.path.name} of condition {self.output.condition.key}>"


class Parent(msgspec.Struct, frozen=True):
    """The unconfirmed settlement: fee in sat, size in vB. `is_standing` = mempools hold it without our help."""

    fee: int
    vsize: int
    is_standing: bool


def htlc_key_name(proposal_id: bytes) -> bytes:
    """Name of a channel's HTLC key in the keystore, apart from the name of its revocation key."""
    return tagged_hash("SCT1/tower-htlc-key", proposal_id)


def wanted_claims(
    channel: Channel, outputs: Sequence[ConditionalOutput], known: KnownPreimage, tip: int
) -> list[WantedClaim]:
    """Outputs that are not taken and ours to take: success with a known preimage at once, timeout from tip = expiry.

    The order is that of urgency: success claims by expiry (behind it the offerer may take the output), then refunds.
    """
    found: list[WantedClaim] = []
    for output in outputs:
        condition = output.condition
        if channel.claim_end(output.settle_txid, condition.key) is not None:
            continue
        if entitled(condition, ClaimPath.SUCCESS) is channel.own_side:
            preimage = preimage_in(channel, condition.hash, known)
            found += [WantedClaim(output, ClaimPath.SUCCESS, preimage)] if preimage is not None else []
        elif tip >= condition.expiry:
            found.append(WantedClaim(output, ClaimPath.TIMEOUT, None))
    return sorted(found, key=lambda w: (w.path, w.output.condition.expiry, -w.output.condition.amount))


def claim_script(channel: Channel) -> bytes:
    """Where claims pay: the owner's payout script of the channel, as its balance does."""
    return channel.params.keys(channel.own_side).payout


def build_claim(params: ChannelParams, wanted: WantedClaim, fee: int, dest_spk: bytes) -> Transaction:
    """The claim without its witness. Always version 3: the settlement may be unconfirmed, also again after a reorg."""
    output = wanted.output
    build = htlc.build_htlc_success if wanted.path is ClaimPath.SUCCESS else htlc.build_htlc_timeout
    return build(params, output.condition, output.settle_txid, output.vout, fee, dest_spk)


def sign_claim(params: ChannelParams, wanted: WantedClaim, tx: Transaction, secret: bytes, aux: bytes) -> Transaction:
    """The claim with its witness."""
    signature = htlc.sign_htlc_claim(params, wanted.output.condition, tx, _leaf(wanted.path), secret, aux)
    if wanted.preimage is None:
        return htlc.complete_htlc_timeout(params, wanted.output.condition, tx, signature)
    return htlc.complete_htlc_success(params, wanted.output.condition, tx, signature, wanted.preimage)


def _claim_vsize(params: ChannelParams, wanted: WantedClaim, dest_spk: bytes) -> int:
    return vsize_of(htlc.claim_weight(params, wanted.output.condition, _leaf(wanted.path), dest_spk))


def _leaf(path: ClaimPath) -> htlc.ClaimPath:
    return htlc.ClaimPath.SUCCESS if path is ClaimPath.SUCCESS else htlc.ClaimPath.TIMEOUT


def claim_fee(
    channel: Channel,
    wanted: WantedClaim,
    *,
    tip: int,
    market: Market,
    rival: Rival | None,
    parent: Parent | None,
    spendable: float,
) -> int | None:
    """What the claim should pay now in satoshi; None if the output is not worth what mempools ask for.

    Never below the last claim of this output. `rival` is a foreign transaction that takes the output in the mempool.
    `parent` is the settlement while it is in no block: then the claim also pays for it, as its only child.
    """
    amount, dest = wanted.output.condition.amount, claim_script(channel)
    dust, share = dust_limit(dest), min(spendable, CLAIM_SHARE)
    vsize = _claim_vsize(channel.params, wanted, dest)
    cap = (amount * share - dust) / vsize
    if cap < market.relay_floor:
        return None
    last, left = _last(channel, wanted), _blocks_left(wanted, tip)
    last_fee = 0 if last is None else last.fee
    last_rate = None if last is None or parent is not None else last_fee / vsize
    rate = bid(
        remaining=left,
        window=CLAIM_WINDOW,
        value=amount,
        estimate=above_rival(phase_estimate(left, CLAIM_WINDOW, market), rival, vsize, market),
        # A fee that paid for the parent too would raise itself, if it counted as a feerate of the claim alone.
        last=last_rate,
        relay_floor=market.relay_floor,
        vsize=vsize,
        dust=dust,
        step=market.step,
        spendable=share,
    )
    if parent is None:
        return last_fee if rate == last_rate else max(fee_for(rate, vsize, amount, dust), last_fee)
    fee = _fee_with_parent(rate, vsize, int(cap * vsize), parent, market)
    if fee is None:
        return None
    return fee if fee >= last_fee + ceil(max(market.step * vsize, last_fee * 0.10)) else last_fee


def open_claims(channel: Channel) -> list[Claim]:
    """The latest claim of each conditional output that is not taken in a block."""
    latest = {(claim.settle_txid, claim.key): claim for claim in channel.claims}
    return [claim for place, claim in latest.items() if channel.claim_end(*place) is None]


def _last(channel: Channel, wanted: WantedClaim) -> Claim | None:
    return channel.last_claim(wanted.output.settle_txid, wanted.output.condition.key)


def _blocks_left(wanted: WantedClaim, tip: int) -> int:
    """Blocks until a success claim gets a competitor. A refund has none to wait for: it only grows less patient."""
    expiry = wanted.output.condition.expiry
    if wanted.path is ClaimPath.SUCCESS:
        return min(CLAIM_WINDOW, remaining(expiry, tip))
    return max(CLAIM_WINDOW - (tip - expiry), CLAIM_WINDOW // 2 + 1)


def _fee_with_parent(rate: float, vsize: int, most: int, parent: Parent, market: Market) -> int | None:
    """Pay for both if the pair would be below the claim's own feerate, as far as the output allows."""
    both = vsize + parent.vsize
    if ceil(market.relay_floor * both) - parent.fee > most and not parent.is_standing:
        return None
    return min(most, max(ceil(rate * vsize - 1e-9), ceil(rate * both) - parent.fee))


def claim_prepared(wanted: WantedClaim, tx: Transaction, fee: int, now: int) -> list[Payload]:
    """The intent: these bytes are about to be sent. Must be durable before the node is called."""
    output = wanted.output
    return [
        ClaimPrepared(
            recorded_at=now,
            settle_txid=output.settle_txid,
            condition_type=output.condition.type,
            condition_id=output.condition.id,
            vout=output.vout,
            path=wanted.path,
            txid=tx.txid,
            raw=tx.serialize(),
            fee=fee,
            lock_time=tx.lock_time,
        )
    ]


def claim_found(channel: Channel, wanted: WantedClaim, raw: bytes, now: int) -> list[Payload]:
    """A claim of this output in the mempool that our log does not know: ours if it pays our script alone.

    It was lost from the log, or the owner's party sent it. The higher fee is adopted, so that fees do not fall.
    """
    tx, last = Transaction.parse(raw), _last(channel, wanted)
    if len(tx.inputs) != 1 or [out.spk for out in tx.outputs] != [claim_script(channel)]:
        return []
    fee = wanted.output.condition.amount - tx.outputs[0].value
    if last is not None and fee <= last.fee:
        return []
    return claim_prepared(wanted, tx, fee, now)


def claim_answered(claim: Claim, outcome: BroadcastOutcome, tip: int, now: int) -> list[Payload]:
    """The node holds the claim: recorded once per txid. A refusal is no record: the next pass tries again."""
    held = outcome in (BroadcastOutcome.ACCEPTED, BroadcastOutcome.ALREADY_KNOWN)
    if claim.accepted or not held:
        return []
    return [ClaimBroadcast(recorded_at=now, txid=claim.txid, outcome=outcome, height=tip)]


def claim_unarmed(channel: Channel, wanted: Sequence[WantedClaim], tip: int, now: int) -> list[Payload]:
    """Outputs are ours to take and the key is not here: the owner's party must claim them."""
    return raise_alert(channel, AlertKind.UNARMED_CLAIM, wanted[0].output.settle_txid, None, tip, now)


def claim_armed(channel: Channel, tip: int, now: int) -> list[Payload]:
    """Nothing is left to take, or the key is here."""
    return clear_alert(channel, AlertKind.UNARMED_CLAIM, tip, now)
