"""Accepting a new state and a revocation (protocol 5.1, 5.3, 6.2).

Identical bytes again are accepted without an event; other bytes for a known number are equivocation and
change nothing.
"""

from __future__ import annotations

import msgspec

from domain.channel import Channel, StateRecord
from domain.contract.header import PreviousState, StateHeader
from domain.contract.keys import is_public_key
from domain.contract.revocation import check_secret, derive_secret, index_of, insert_secret
from domain.contract.state import NOT_GIVEN, check_state
from domain.contract.state_rules import DEFAULT_STATE_POLICY, StatePolicy
from domain.errors import (
    ChannelClosed,
    ChannelNotReady,
    Equivocation,
    InvalidSecret,
    MalformedInput,
    Refusal,
    SequenceGap,
)
from domain.events import Payload, SpendKind, StateRevoked
from domain.opening import StateContent, Verify, descriptor_facts, signature_set, state_updated, verify_content
from domain.status import ChannelStatus
from domain.units import Side

OPEN_STATUS = frozenset({ChannelStatus.PROPOSED, ChannelStatus.FUNDING_BROADCAST, ChannelStatus.ACTIVE})


class UpdateState(msgspec.Struct, frozen=True):
    """Command: store this state and, if given, the counterparty's revocation of its predecessor."""

    now: int
    state: StateContent
    revoked_secret: bytes | None
    next_point: bytes | None
    tip_height: int
    confirmations_wanted: int = 1
    policy: StatePolicy = DEFAULT_STATE_POLICY


class RevokeState(msgspec.Struct, frozen=True):
    """Command: `party` revoked state `sequence`. The own side carries no secret: its release is a number."""

    now: int
    party: Side
    sequence: int
    secret: bytes | None
    next_point: bytes


def decide_update(channel: Channel, command: UpdateState, verify: Verify = verify_content) -> list[Payload]:
    """Events of one accepted state; nothing for an identical repetition.

    `verify` decides about signatures and may work elsewhere; it raises what `verify_content` raises.
    """
    state = command.state
    if (command.revoked_secret is None) != (command.next_point is None):
        raise MalformedInput("revoked_secret and next_point belong together: give both or none")
    known = channel.state(state.header.seq)
    if known is not None:
        return _repeated(channel, command, known.header)
    if state.header.seq <= channel.sequence:
        raise Equivocation(
            f"state {state.header.seq} was replaced by {channel.sequence}; a stored state is never changed"
        )
    _check_open(channel, command)
    if state.header.seq != channel.sequence + 1:
        raise SequenceGap(f"state {channel.sequence + 1} comes next, got {state.header.seq}")
    previous = channel.states[-1]
    if channel.highest_revoked < previous.sequence - 1:
        raise SequenceGap(
            f"state {previous.sequence - 1} is not revoked yet; revoke it before state {state.header.seq}"
        )
    before = _before(channel, previous.read_header())
    check_state(channel.params, state.header, state.conditions, state.state_data, before, command.policy)
    peer_point = channel.point(channel.counterparty, state.header.seq)
    if peer_point is None:
        raise SequenceGap("the counterparty's point of this state is unknown; revoke the earlier state first")
    if not is_public_key(state.own_point):
        raise MalformedInput("own_point is a 33-byte compressed point on the curve")
    verify(channel.params, channel.own_side, state, peer_point, _publisher(channel, state.header.seq))
    if command.revoked_secret is not None and command.next_point is not None:
        check_revocation(channel, previous.sequence, command.revoked_secret, command.next_point)
    return [state_updated(state, command.revoked_secret, command.next_point, command.now, command.tip_height)]


def _before(channel: Channel, newest: StateHeader) -> PreviousState:
    """What `PreviousState.of` gives, with the hash that the fold has worked out already."""
    return PreviousState(newest.seq, channel.state_hash, newest.balance_a, newest.balance_b, newest.app_id)


def _check_open(channel: Channel, command: UpdateState) -> None:
    if channel.status is ChannelStatus.FROZEN:
        raise ChannelNotReady("the channel is frozen: find out the newest state number before the next update")
    if _is_missing(channel, command.state.header.seq):
        return
    if channel.closings:
        raise ChannelClosed("a close of the channel was signed or published; no more updates (rule U6)")
    if channel.status not in OPEN_STATUS:
        raise ChannelClosed(f"the channel is {channel.status}; no more updates (rule U6)")
    if channel.spends:
        # Whoever published it can publish it again, also after an eviction or a reorg.
        raise ChannelClosed("a spend of the funding output was seen before; no more updates (rule U6)")
    if channel.funding_block is None:
        raise ChannelNotReady("the funding output is not confirmed; updates begin after that")
    found = channel.funding_depth(command.tip_height)
    if found < command.confirmations_wanted:
        raise ChannelNotReady(
            f"the funding output has {found} of {command.confirmations_wanted} confirmations; wait for the rest"
        )


def _is_missing(channel: Channel, sequence: int) -> bool:
    """True if the counterparty published this state or a later one, and the tower has not got that far.

    Such a state is no update: it was complete before the close, its upload is late. Without it nobody here can settle.
    """
    spend = channel.present_spend
    if spend is None or spend.sequence is None or spend.kind not in (SpendKind.FUTURE_STATE, SpendKind.PEER_CLOSE):
        return False
    return channel.sequence < sequence <= spend.sequence


def _publisher(channel: Channel, sequence: int) -> Side | None:
    """The counterparty, if it published this very state: it may have done so without completing the update.

    Both settlements are signed by then (rule U1); without this state nobody here could send the one that is due.
    """
    spend = channel.present_spend
    is_published = spend is not None and spend.sequence == sequence and _is_missing(channel, sequence)
    return channel.counterparty if is_published else None


def _repeated(channel: Channel, command: UpdateState, stored_header: bytes) -> list[Payload]:
    state = command.state
    stored = channel.state(state.header.seq)
    same = (
        stored is not None
        and stored_header == state.header.encode()
        and (stored.sigs_a, stored.sigs_b) == (signature_set(state.sigs_a), signature_set(state.sigs_b))
        and stored.own_point == state.own_point
        and stored.descriptors == descriptor_facts(state.conditions)
    )
    if stored is not None and not same and _lacks_only_commit(stored, stored_header, state):
        raise ChannelClosed("this state was published before it was complete; no more updates (rule U6)")
    if not same:
        raise Equivocation(f"another content is stored for state {state.header.seq}; it stands (rule U5)")
    if command.revoked_secret is None or command.next_point is None:
        return []
    revoke = RevokeState(
        command.now, channel.counterparty, state.header.seq - 1, command.revoked_secret, command.next_point
    )
    return decide_revoke(channel, revoke)


def _lacks_only_commit(stored: StateRecord, stored_header: bytes, state: StateContent) -> bool:
    """Whether this is a state that the counterparty published and completed only then."""
    lacking = next((sigs for sigs in (stored.sigs_a, stored.sigs_b) if sigs.commit_peer == NOT_GIVEN), None)
    return lacking is not None and stored_header == state.header.encode()


def decide_revoke(channel: Channel, command: RevokeState) -> list[Payload]:
    """Events of one revocation; nothing if it is already known.

    Accepted after a close too: a late release turns an honest close into a breach.
    """
    if not is_public_key(command.next_point):
        raise MalformedInput("next_point is a 33-byte compressed point on the curve")
    if command.party is channel.own_side:
        return _own_release(channel, command)
    if command.secret is None:
        raise MalformedInput("a revocation of the counterparty carries its secret")
    if command.sequence <= channel.highest_revoked:
        return _known_secret(channel, command)
    if command.sequence >= channel.sequence and not _is_late(channel, command.sequence):
        raise SequenceGap(f"state {command.sequence} has no stored successor; store state {command.sequence + 1} first")
    check_revocation(channel, command.sequence, command.secret, command.next_point)
    return [
        StateRevoked(
            recorded_at=command.now,
            party=command.party,
            sequence=command.sequence,
            secret=command.secret,
            next_point=command.next_point,
        )
    ]


def _is_late(channel: Channel, sequence: int) -> bool:
    """True if the counterparty published this state or a later one.

    Successors can no longer be stored then (U6), but a secret that the owner holds makes the close a breach (7.2).
    """
    published = (s.sequence for s in channel.spends if s.kind in (SpendKind.PEER_CLOSE, SpendKind.FUTURE_STATE))
    return any(number is not None and number >= sequence for number in published)


def check_revocation(channel: Channel, sequence: int, secret: bytes, next_point: bytes) -> None:
    """The secret is the next one, fits its announced point and the earlier secrets; raises `InvalidSecret`."""
    if sequence != channel.highest_revoked + 1 or channel.points is None:
        raise SequenceGap(f"the revocation of state {channel.highest_revoked + 1} comes next, got {sequence}")
    if not is_public_key(next_point):
        raise MalformedInput("next_point is a 33-byte compressed point on the curve")
    if len(secret) != 32:
        raise MalformedInput(f"a revocation secret has 32 bytes, got {len(secret)}")
    check_secret(secret, channel.points[0])
    insert_secret(channel.buckets, secret, index_of(sequence))


def _known_secret(channel: Channel, command: RevokeState) -> list[Payload]:
    if derive_secret(channel.buckets, index_of(command.sequence)) != command.secret:
        raise InvalidSecret(f"another secret is stored for state {command.sequence}; a secret is unique")
    announced = channel.point(channel.counterparty, command.sequence + 2)
    if announced is not None and announced != command.next_point:
        raise Equivocation(f"another point is stored for state {command.sequence + 2}; it stands")
    return []


def _own_release(channel: Channel, command: RevokeState) -> list[Payload]:
    if command.secret is not None:
        raise Refusal("an own secret must not be uploaded; its release is recorded as a number")
    if command.sequence >= channel.sequence:
        raise SequenceGap(f"own state {command.sequence} has no stored successor; it must not be released")
    if command.sequence <= channel.own_released:
        return []
    return [
        StateRevoked(
            recorded_at=command.now,
            party=command.party,
            sequence=command.sequence,
            secret=None,
            next_point=command.next_point,
        )
    ]
