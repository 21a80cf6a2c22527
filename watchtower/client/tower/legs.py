"""Where the HTLC of a payment stands in one channel: off chain, in between, on chain, gone.

A decision about money may only follow from what every state that can still be published has in common. So a leg is
HELD or ABSENT only if the newest state says so, its predecessor is punishable, and the own tower has both (rule U4).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec

from domain.contract.conditions import Condition, ConditionKey, is_trimmed
from domain.contract.params import ChannelParams
from domain.expiry import REORG_BLOCKS
from domain.status import ChannelStatus
from domain.units import Side
from watchtower.client.protocol.channel import Content, PartyChannel


class LegState(Enum):
    """What is certain about a leg."""

    ABSENT = "no state that can be published has it"
    MOVING = "some state has it, another one does not"
    HELD = "every state that can be published has it"
    ON_CHAIN = "the channel closes with it, nobody has taken it for good"
    OURS = "its amount came to this side on chain"
    THEIRS = "the counterparty took it on chain"

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self in (LegState.ABSENT, LegState.OURS, LegState.THEIRS)


class LegView(msgspec.Struct, frozen=True):
    """A leg in its channel; `conditions` are its HTLCs, normally one. `period` is T."""

    state: LegState
    conditions: tuple[Condition, ...] = ()
    period: int = 144

    @property
    def keys(self) -> tuple[ConditionKey, ...]:
        """(type, id) of the HTLCs."""
        return tuple(condition.key for condition in self.conditions)


UNRIPE = (ChannelStatus.PROPOSED, ChannelStatus.FUNDING_BROADCAST)
"""Statuses of channels whose funding may still come to nothing, and with it whatever they promise."""


QUIET = (*UNRIPE, ChannelStatus.ACTIVE, ChannelStatus.FROZEN)
"""Statuses of channels that do not close."""


class ClaimEnd(msgspec.Struct, frozen=True):
    """Who took a conditional output in a block."""

    key: ConditionKey
    ours: bool
    height: int


class OnChain(msgspec.Struct, frozen=True):
    """What the own tower says about a channel that closes, or whose funding is not deep enough (`UNRIPE`).

    `published` is the number of the state in the chain, `spent_at` the height of its block. `double_spent`: the funding
    lost its coins in a block.
    """

    status: ChannelStatus
    published: int | None = None
    claims: tuple[ClaimEnd, ...] = ()
    double_spent: bool = False
    spent_at: int | None = None

    @property
    def is_unripe(self) -> bool:
        """Whether the channel is still waiting for its funding."""
        return self.status in UNRIPE


def leg_view(
    channel: PartyChannel,
    payment_hash: bytes,
    offerer: Side,
    *,
    strict: bool = True,
    closing: OnChain | None = None,
    published: Content | None = None,
    height: int | None = None,
) -> LegView:
    """The HTLCs with this hash that `offerer` offered.

    `strict` asks the tower's acknowledgement (U4). `closing` is the tower's word about a channel that closes, None for
    one that is active as far as it knows; `published` the content of the state in the chain, if it is known here.
    """
    newest = _matching(channel.conditions, payment_hash, offerer)
    pending = channel.pending.content.read_conditions() if channel.pending else None
    offered = _matching(pending, payment_hash, offerer) if pending is not None else newest
    settled = _matching(channel.settled.read_conditions(), payment_hash, offerer) if channel.settled else ()
    anywhere = newest or offered or settled
    period = channel.params.challenge_period
    is_unripe = closing is not None and closing.is_unripe
    is_closing = channel.is_closing or (closing is not None and not is_unripe)
    if channel.frozen is not None and not (is_closing and anywhere):
        # This log may be an old copy: an HTLC that it does not have may be in a state that the peer has.
        return LegView(LegState.MOVING, anywhere, period)
    if is_closing:
        state, taken = _ended(channel.params, anywhere, offerer is channel.own_side, closing, published, height)
        if state.is_over and published is not None and _was_dropped(channel, anywhere, published):
            state = LegState.ABSENT
        if offerer is channel.own_side and closing is not None and _may_change(closing, state, height):
            state = LegState.ON_CHAIN
        return LegView(state, taken, period)
    is_final = channel.firm is not None and (not strict or channel.final_sequence == channel.sequence)
    if is_unripe and newest and offerer is channel.peer:
        return LegView(LegState.MOVING, anywhere, period)  # promised by a funding that may never be
    if is_final and newest == offered == settled:
        return LegView(LegState.HELD if newest else LegState.ABSENT, newest, period)
    # A state whose predecessor can still be published says nothing for certain, not even that a leg is gone.
    return LegView(LegState.MOVING, anywhere, period)


def _matching(conditions: Iterable[Condition], payment_hash: bytes, offerer: Side) -> tuple[Condition, ...]:
    return tuple(c for c in conditions if c.is_htlc and c.hash == payment_hash and c.offerer is offerer)


def _ended(
    params: ChannelParams,
    conditions: tuple[Condition, ...],
    is_own: bool,
    closing: OnChain | None,
    published: Content | None,
    height: int | None,
) -> tuple[LegState, tuple[Condition, ...]]:
    if not conditions:
        return LegState.ABSENT, ()
    if closing is None:
        return LegState.ON_CHAIN, conditions
    if closing.status is ChannelStatus.PUNISHED:
        return LegState.OURS, conditions  # the penalty took the whole capacity
    if closing.double_spent:
        return _unfunded(closing, is_own), conditions
    outputs = {c.key for c in published.read_conditions() if not is_trimmed(params, c)} if published else None
    ends = [_end(c, closing, outputs, is_own, height) for c in conditions]
    for state in (LegState.ON_CHAIN, LegState.THEIRS, LegState.OURS):
        if state in ends:
            return state, conditions
    return LegState.ON_CHAIN, conditions


def _may_change(closing: OnChain, state: LegState, height: int | None) -> bool:
    """Whether a reorganization could still put another state in the place of the one that ended an own HTLC.

    A cheater whose stale state was punished may have its newest one mined instead, with the HTLC in it.
    """
    if state not in (LegState.OURS, LegState.ABSENT) or closing.double_spent:
        return False
    return height is None or closing.spent_at is None or not _is_deep(closing.spent_at, height)


def _is_deep(block: int, height: int) -> bool:
    return height - block + 1 > REORG_BLOCKS


def _was_dropped(channel: PartyChannel, conditions: tuple[Condition, ...], published: Content) -> bool:
    """Whether the published state is behind the last one with these HTLCs: both agreed that they are gone.

    Without it an HTLC that was paid would look like one that its offerer took back.
    """
    held = [
        content.seq
        for content in (channel.state.content if channel.state else None, channel.settled)
        if content is not None and not set(conditions).isdisjoint(content.read_conditions())
    ]
    gone = set(conditions).isdisjoint(published.read_conditions())
    return gone and bool(held) and published.seq > max(held)


def _unfunded(closing: OnChain, is_own: bool) -> LegState:
    """What the peer promised is lost at once; what this side promised is safe only when no reorg brings it back."""
    if not is_own:
        return LegState.THEIRS
    return LegState.OURS if closing.status is ChannelStatus.RESOLVED else LegState.ON_CHAIN


def _end(
    condition: Condition, closing: OnChain, outputs: set[ConditionKey] | None, is_own: bool, height: int | None
) -> LegState:
    claim = next((c for c in closing.claims if c.key == condition.key), None)
    if claim is not None:
        deep = height is not None and _is_deep(claim.height, height)
        return (LegState.OURS if claim.ours else LegState.THEIRS) if deep or not claim.ours else LegState.ON_CHAIN
    settled = closing.status in (ChannelStatus.SETTLED, ChannelStatus.LOST, ChannelStatus.RESOLVED)
    if settled and outputs is not None and condition.key not in outputs:
        # The published state had no output for it: an older state, or an amount below dust.
        return LegState.OURS if is_own else LegState.THEIRS
    return LegState.ON_CHAIN
