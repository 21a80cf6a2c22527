"""What became of a channel's conditional outputs, in the form of the API."""

from __future__ import annotations

from domain.channel import Channel, Claim, ClaimEnd
from domain.contract.conditions import ConditionKey
from domain.events import ClaimPath
from watchtower.wire.conditions import ClaimBody, ClaimStatus
from watchtower.wire.hexes import TxidHex


def claim_bodies(channel: Channel) -> tuple[ClaimBody, ...]:
    """One entry per conditional output that somebody takes or took, in order of (type, id)."""
    places = {(c.settle_txid, c.key) for c in channel.claims} | {(e.settle_txid, e.key) for e in channel.claim_ends}
    return tuple(_body(channel, *place) for place in sorted(places, key=lambda place: (place[1], place[0])))


def _body(channel: Channel, settle_txid: bytes, key: ConditionKey) -> ClaimBody:
    claim, end = channel.last_claim(settle_txid, key), channel.claim_end(settle_txid, key)
    taker = end or claim
    assert taker is not None  # the place came from one of the two
    known = claim if claim is not None and claim.txid == taker.txid else None
    return ClaimBody(
        settle_txid=TxidHex(settle_txid),
        type=key[0],
        id=key[1],
        status=_status(claim, end),
        txid=TxidHex(taker.txid),
        path=None if known is None else "SUCCESS" if known.path is ClaimPath.SUCCESS else "TIMEOUT",
        fee=None if known is None else known.fee,
        height=None if end is None else end.block.height,
        missed=end is not None and end.missed,
    )


def _status(claim: Claim | None, end: ClaimEnd | None) -> ClaimStatus:
    if end is not None:
        return "OURS" if end.ours else "THEIRS"
    return "MEMPOOL" if claim is not None and claim.accepted else "PREPARED"
