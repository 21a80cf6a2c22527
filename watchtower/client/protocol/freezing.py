"""When a party must not sign, and when it may again (protocol 6.1).

A log that came back from a backup may lack revocations that this side gave away. Until somebody who knows says
which state is the newest, an own commitment could be a revoked one; and until then nobody hears which state this log
holds, or a hostile peer would simply confirm it. Only `RESTORED` thaws. Proven loss of data stays,
and ends with the peer's close or a cooperative one; equivocation stays, but leaves the own close as well.
"""

from __future__ import annotations

from domain.errors import ChannelNotReady
from domain.events import ChannelFrozen, ChannelUnfrozen, FreezeReason, ReportedBy
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.messages import Reestablish
from watchtower.client.protocol.seat import NOTHING, Seat, Step


def restored(seat: Seat) -> Step:
    """Freeze after a restore, whatever the log says; nothing if the log counts as old already or was given up."""
    channel = seat.channel
    if channel.old_copy or channel.abandoned:
        return NOTHING
    evidence = channel.sequence.to_bytes(8, "little", signed=True)
    return Step((ChannelFrozen(recorded_at=seat.now, reason=FreezeReason.RESTORED, evidence=evidence),))


def data_loss(seat: Seat, sequence: int) -> Step:
    """Somebody trustworthy knows state `sequence`, this log does not: freeze, then raise `ChannelNotReady`."""
    refusal = ChannelNotReady(
        f"state {sequence} exists, this store knows {seat.channel.sequence}: it is an old copy; "
        "no own commitment may be published"
    )
    return Step(proven_loss(seat, sequence), refusal=refusal)


def proven_loss(seat: Seat, sequence: int) -> tuple[ChannelFrozen, ...]:
    """The record that state `sequence`, or its revocation, is missing here; one is enough, however often it is said."""
    if seat.channel.is_lost:
        return ()
    evidence = sequence.to_bytes(8, "little")
    return (ChannelFrozen(recorded_at=seat.now, reason=FreezeReason.DATA_LOSS, evidence=evidence),)


def unfreeze(seat: Seat, sequence: int, reported_by: ReportedBy) -> Step:
    """Thaw a restored channel whose newest state is `sequence`, as somebody who knows it says.

    Raises `ChannelNotReady` for another freeze, a log that does not hold exactly this state, or one whose
    revocations do not reach up to it. A higher number is proven loss of data and freezes for good.
    """
    channel = seat.channel
    if channel.frozen is None:
        return NOTHING
    if channel.frozen is not FreezeReason.RESTORED:
        raise ChannelNotReady(
            f"the channel is frozen ({channel.frozen.name.lower()}) for good; close cooperatively or let the peer close"
        )
    if sequence > channel.sequence:
        return data_loss(seat, sequence)
    if sequence < channel.sequence or not _is_consistent(channel):
        raise ChannelNotReady(
            f"the report names state {sequence}, this log holds state {channel.sequence} with own revocations up to "
            f"{channel.own_released}; the channel stays frozen"
        )
    return Step((ChannelUnfrozen(recorded_at=seat.now, reported_by=reported_by, sequence=sequence),))


def thaw_by_peer(seat: Seat, message: Reestablish) -> Step:
    """Thaw if the peer stands exactly where this log does; else nothing.

    A peer that lies about this could have a revoked state published. It has one guess: after a wrong number its word
    does not count any more, only that of the owner. Where a tower ever acknowledged a state, the peer's word counts
    only together with the tower's (`reported`). Without a tower this still trusts the peer.
    """
    channel = seat.channel
    if channel.frozen is not FreezeReason.RESTORED or channel.peer_doubted or message.current_seq is None:
        return NOTHING
    released = -1 if message.last_peer_secret_seq is None else message.last_peer_secret_seq
    if (message.current_seq, released) != (channel.sequence, channel.own_released):
        return contradicted(seat, message.current_seq)
    own = channel.pending.content.state_hash if channel.pending is not None else None
    same_offer = message.pending_state_hash is None or message.pending_state_hash == own
    tower_agrees = not channel.acknowledged or seat.reported == channel.sequence
    if not same_offer or not tower_agrees or not _is_consistent(channel):
        return NOTHING
    return unfreeze(seat, channel.sequence, ReportedBy.PEER)


def contradicted(seat: Seat, named: int) -> Step:
    """The peer named another newest state than this log holds: a peer that may guess on would hit it in the end."""
    evidence = named.to_bytes(8, "little")
    return Step((ChannelFrozen(recorded_at=seat.now, reason=FreezeReason.RESTORED, evidence=evidence),))


def refuse_quietly(seat: Seat) -> ChannelNotReady:
    """The one refusal of an old copy: it says the same whatever the peer names, and no number."""
    assert seat.channel.frozen is not None, "an old copy is frozen"
    return ChannelNotReady(
        f"the channel is frozen ({seat.channel.frozen.name.lower()}); close cooperatively or let the peer close"
    )


def _is_consistent(channel: PartyChannel) -> bool:
    """Whether the own release log reaches exactly to the state before the newest one."""
    return channel.own_released == channel.sequence - 1
