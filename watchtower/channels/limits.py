"""How much one tower takes on: channels that are not over, and the sum of their capacities."""

from __future__ import annotations

from domain.contract.params import ChannelParams
from domain.errors import Refusal
from watchtower.channels.context import Context
from watchtower.channels.listing import every_channel, is_over


class TowerFull(Refusal):
    """A limit of this tower would be exceeded; the operator can raise it."""

    slug = "tower-full"


def check_room(context: Context, params: ChannelParams) -> None:
    """Raise `TowerFull` unless a new channel fits under `policy.max_channels` and `policy.max_total_capacity`.

    Registrations that were stored are counted at once. Those that are decided at the same moment are not, so a burst
    can exceed a limit by as many as are on their way.
    """
    limits = context.policy if context.quota is None else context.quota()
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
    for channel in every_channel(context):
        seen.add(channel.stream)
        if not is_over(channel):
            count, capacity = count + 1, capacity + channel.capacity
    fresh = [context.channels.load(stream) for stream in context.recent.streams() if stream not in seen]
    return count + len(fresh), capacity + sum(each.params.capacity for each in fresh)
