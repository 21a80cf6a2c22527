"""Proposals, registrations and the funding output."""

from __future__ import annotations

from domain.chain import outpoint_txid, outpoint_vout
from domain.contract.keys import is_public_key
from domain.contract.params import ChannelParams, ParamsPolicy, check_params, check_payout_script
from domain.errors import DomainError
from domain.events import (
    ChannelProposed,
    ChannelRegistered,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
    StateUpdated,
)
from domain.opening import check_funding_transaction
from domain.recheck.states import check_buckets
from domain.recheck.subject import Flaw, Flaws, Glance
from domain.units import MAX_MONEY


def check_proposed(_glance: Glance, event: ChannelProposed) -> Flaws:
    """Constants within the protocol's own limits, an outpoint that is not known yet, points on the curve."""
    params = ChannelParams.decode(event.params)
    yield from _check_constants(params)
    if params.is_funding_known:
        yield Flaw("the proposal names a funding outpoint, which is not known before the funding transaction is")
    if sum(event.initial_balances) != params.capacity:
        yield Flaw(f"the initial balances do not add up to the capacity of {params.capacity} sat")
    for point in (*event.own_points, *(event.counterparty_points or ())):
        if not is_public_key(point):
            yield Flaw("a per-commitment point of the proposal is not on the curve")


def check_registered(glance: Glance, event: ChannelRegistered) -> Flaws:
    """The registration is that of the proposed channel; the funding transaction makes the agreed output.

    The signature of the upload is over bytes that hold the revocation basepoint secret: nobody can verify it from the
    log alone. What can be seen is that the key it was verified with is the owner's.
    """
    params, channel = ChannelParams.decode(event.params), glance.channel
    yield from _check_constants(params)
    if params.proposal_id != channel.params.proposal_id:
        yield Flaw("the registration has other constants than the proposal in front of it")
    if event.watched is not channel.counterparty:
        yield Flaw("the registration watches another side than the proposal in front of it")
    if event.client_key != params.keys(event.watched.other).auth:
        yield Flaw("client_key is not the owner's key for uploads")
    try:
        check_payout_script(event.sweep_spk)
    except DomainError as error:
        yield Flaw(f"sweep_spk: {error}")
    for point in event.points or ():
        if not is_public_key(point):
            yield Flaw("a per-commitment point of the counterparty is not on the curve")
    yield from check_buckets(glance, event.buckets, event.highest_revoked)
    if event.funding_tx is not None:
        yield from _check_funding(glance, params, event.funding_tx)


def _check_constants(params: ChannelParams) -> Flaws:
    policy = ParamsPolicy(params.chain_hash, min_capacity=0, max_capacity=MAX_MONEY)
    try:
        check_params(params, policy)
    except DomainError as error:
        yield Flaw(f"the constants of the channel: {error}")


def _check_funding(glance: Glance, params: ChannelParams, raw: bytes) -> Flaws:
    glance.tally.transactions += 1
    try:
        check_funding_transaction(params, raw)
    except DomainError as error:
        yield Flaw(str(error))


def check_funding_broadcast(glance: Glance, event: FundingBroadcast) -> Flaws:
    """The outpoint is that of the channel; the transaction makes exactly the agreed output."""
    channel = glance.channel
    params = channel.params
    if glance.subject.is_party and not params.is_funding_known:
        params = params.with_funding(outpoint_txid(event.outpoint), outpoint_vout(event.outpoint))
    if event.outpoint != params.funding_outpoint or event.channel_id != params.channel_id:
        yield Flaw("the funding names another outpoint or channel than the constants do")
        return
    if event.raw is not None:
        yield from _check_funding(glance, params, event.raw)


def check_funding_confirmed(glance: Glance, event: FundingConfirmed) -> Flaws:
    """The channel's own outpoint, in a block that the cursor stands on, and not there already."""
    channel = glance.channel
    if event.outpoint != channel.params.funding_outpoint:
        yield Flaw("another outpoint than that of the channel was confirmed")
    if channel.funding_block == event.block:
        yield Flaw("the funding was confirmed in this block before")
    if glance.chain.contradicts(event.block):
        yield Flaw(f"block {event.block.height} of the funding is not on the chain that the log followed")


def check_funding_disconnected(glance: Glance, event: FundingDisconnected) -> Flaws:
    """Undoes the confirmation, or the double spend, of exactly this block."""
    channel = glance.channel
    stood = [channel.funding_block, channel.double_spend.block if channel.double_spend is not None else None]
    if event.block not in stood or event.outpoint != channel.params.funding_outpoint:
        yield Flaw(f"nothing of the funding stood in block {event.block.height} that could be undone")
    if glance.chain.has(event.block):
        yield Flaw(f"the funding was undone although block {event.block.height} is still connected")


def check_double_spent(glance: Glance, event: FundingDoubleSpent) -> Flaws:
    """Another transaction than the funding itself, in a block that the cursor stands on."""
    channel = glance.channel
    if event.outpoint != channel.params.funding_outpoint or event.conflict == channel.params.funding_txid:
        yield Flaw("the double spend is not one of this channel's funding")
    if channel.funding_block is not None:
        yield Flaw("the funding was double-spent while it was confirmed")
    if glance.chain.contradicts(event.block):
        yield Flaw(f"block {event.block.height} of the double spend is not on the chain that the log followed")


def check_first_state(glance: Glance, event: StateUpdated) -> Flaws:
    """State 0 has the balances of the proposal."""
    channel = glance.channel
    if event.sequence == 0 and (event.balance_a, event.balance_b) != channel.initial_balances:
        yield Flaw("state 0 has other balances than the proposal in front of it")
