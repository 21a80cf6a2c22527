"""How much one tower takes on: channels that are not over, and the sum of their capacities."""

from __future__ import annotations

from domain.contract.params import ChannelParams
from domain.errors import Refusal
from domain.status import ChannelStatus
from projections.channel_info import TABLE as CHANNELS
from projections.channel_info import ChannelInfoRow
from projections.tables import Key
from watchtower.channels.context import Context

PAGE = 1000
OVER = frozenset({ChannelStatus.RESOLVED, ChannelStatus.DOUBLE_SPENT})


class TowerFull(Refusal):
    """A limit of this tower would be exceeded; the operator can raise it."""

    slug = "tower-full"


def check_room(context: Context, params: ChannelParams) -> None:
    """Raise `TowerFull` unless a new channel fits under `policy.max_channels` and `policy.max_total_capacity`.

    Registrations that were stored are counted at once. Those that are decided at the same moment are not, so a burst
    can exceed a limit by as many as are on their way.
    """
    limits = context.policy
    if not limits.max_channels and not limits.max_total_capacity:
        return
    count, capacity = _taken(context)
    if limits.max_channels and count >= limits.max_channels:
        raise TowerFull(f"this tower watches {count} channels, its limit is {limits.max_channels}; use another tower")
    if limits.max_total_capacity and capacity + params.capacity > limits.max_total_capacity:
        raise TowerFull(
            f"with {params.capacity} sat more this tower would watch {capacity + params.capacity} sat, "
            f"its limit is {limits.max_total_capacity} sat; use another tower or a smaller channel"
        )


def _taken(context: Context) -> tuple[int, int]:
    """Channels and their capacity, with those that no view has seen yet."""
    seen: set[str] = set()
    count = capacity = 0
    after: Key | None = None
    while rows := context.views.page(CHANNELS, after, PAGE):
        for row in rows:
            info: ChannelInfoRow = CHANNELS.read(row)
            seen.add(info.stream)
            if info.status not in OVER:
                count, capacity = count + 1, capacity + info.capacity
        after = CHANNELS.key_of(rows[-1])
    fresh = [context.channels.load(stream) for stream in context.recent.streams() if stream not in seen]
    return count + len(fresh), capacity + sum(channel.params.capacity for channel in fresh)
