"""How much one party entrusts to channels: to all of them, and to those with one peer."""

from __future__ import annotations

from collections.abc import Iterable

from domain.errors import Refusal
from watchtower.client.party_channel import PartyChannel
from watchtower.client.party_settings import PartySettings


class ExposureExceeded(Refusal):
    """A new channel would exceed a limit that this party has set itself."""

    slug = "exposure-exceeded"


def check_total(settings: PartySettings, channels: Iterable[PartyChannel], capacity: int) -> None:
    """Raise `ExposureExceeded` unless a new channel of this capacity (satoshi) fits under the party's own limits."""
    alive = [channel.params.capacity for channel in channels if counts(channel)]
    if settings.max_channels and len(alive) >= settings.max_channels:
        raise ExposureExceeded(f"{len(alive)} channels are open or opening, the limit is {settings.max_channels}")
    _check_sum("all channels", sum(alive) + capacity, settings.max_total_capacity)


def check_peer(settings: PartySettings, channels: Iterable[PartyChannel], capacity: int) -> None:
    """Raise `ExposureExceeded` unless it fits under the limit for one peer; `channels` are those with this peer."""
    total = sum(channel.params.capacity for channel in channels if counts(channel)) + capacity
    _check_sum("the channels with this peer", total, settings.max_peer_capacity)


def counts(channel: PartyChannel) -> bool:
    """Whether money is in the channel, or may soon be: neither given up nor spent."""
    return not channel.abandoned and not channel.spend_seen


def _check_sum(what: str, total: int, limit: int) -> None:
    if limit and total > limit:
        raise ExposureExceeded(f"{what} would hold {total} sat, the limit is {limit} sat; close one first")
