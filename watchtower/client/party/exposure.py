"""How much one party entrusts to channels: to all of them, and to those with one peer."""

from __future__ import annotations

from collections.abc import Iterable

from domain.contract.params import default_reserve
from domain.errors import InvalidParams, Refusal
from watchtower.client.party.settings import PartySettings
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.messages import OpenChannel

MOST_RESERVE_PART = 5
"""A reserve of a fifth of the capacity is the highest that a peer may ask for; the default is a hundredth."""


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


def check_opening(settings: PartySettings, message: OpenChannel) -> None:
    """Raise `InvalidParams` for constants of a peer's opening that would trap this side.

    A long challenge period locks its money after a close, a low reserve leaves the peer nothing to lose by a breach,
    a high one keeps balances from ever falling.
    """
    if message.challenge_period > settings.max_challenge_period:
        raise InvalidParams(
            f"challenge period {message.challenge_period} is above {settings.max_challenge_period} blocks, "
            "the longest that is taken here"
        )
    most = max(message.capacity // MOST_RESERVE_PART, default_reserve(message.capacity))
    if not settings.min_reserve_sat <= message.reserve_sat <= most:
        raise InvalidParams(
            f"reserve_sat {message.reserve_sat} is outside {settings.min_reserve_sat} … {most} sat, "
            "which is taken here for this capacity"
        )


def counts(channel: PartyChannel) -> bool:
    """Whether money is in the channel, or may soon be: neither given up nor spent."""
    return not channel.abandoned and not channel.spend_seen


def _check_sum(what: str, total: int, limit: int) -> None:
    if limit and total > limit:
        raise ExposureExceeded(f"{what} would hold {total} sat, the limit is {limit} sat; close one first")
