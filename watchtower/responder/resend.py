"""What a restart sends again before it knows anything new: the stored bytes, as they are."""

from __future__ import annotations

from domain.channel import Channel
from domain.claiming import open_claims
from domain.punishing import breach_to_answer
from domain.settling import is_revoked_since
from watchtower.responder.broadcast import Parcel


def parcels_of(channel: Channel) -> tuple[list[Parcel], list[Parcel]]:
    """The last penalty of the breach that counts; the settlement and the claims of a close that is in a block.

    What is in a block already, or too early, costs a refusal and changes nothing.
    """
    if channel.resolved is not None:
        return [], []
    breach = breach_to_answer(channel)
    if breach is not None:
        return [Parcel(channel.stream, bid.txid, bid.raw, breach.raw) for bid in channel.bids_on(breach.txid)[-1:]], []
    close = channel.confirmed_spend
    settlement = None if close is None else channel.settlement_of(close.txid)
    is_open = close is not None and channel.contest_spend(close.txid) is None
    if close is not None and is_open and is_revoked_since(channel, close):
        return [], []
    found = [Parcel(channel.stream, claim.txid, claim.raw) for claim in open_claims(channel)]
    if settlement is not None and is_open:
        found.insert(0, Parcel(channel.stream, settlement.txid, settlement.raw))
    return [], found
