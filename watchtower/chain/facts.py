"""Collects the events that one fact about the chain causes, channel by channel, before anything is written.

Each channel is loaded once and evolved along, so that several facts of one block see each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.channel import Channel
from domain.channel_fold import evolve
from domain.events import Envelope, Payload, envelopes
from watchtower.repository import Channels


class Facts:
    """New events per stream, in order of first touch."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._working: dict[str, Channel] = {}
        self._first: dict[str, int] = {}
        self._new: dict[str, list[Envelope]] = {}

    def channel(self, stream: str) -> Channel:
        """The channel as of the facts collected so far."""
        if stream not in self._working:
            channel = self._channels.load(stream)
            self._working[stream] = channel
            self._first[stream] = channel.version
        return self._working[stream]

    def add(self, stream: str, payloads: Sequence[Payload]) -> None:
        """Append payloads behind the channel's present version."""
        if not payloads:
            return
        channel = self.channel(stream)
        placed = envelopes(stream, channel.version, payloads)
        for event in placed:
            channel = evolve(channel, event)
        self._working[stream] = channel
        self._new.setdefault(stream, []).extend(placed)

    @property
    def job(self) -> list[Envelope]:
        """Everything collected, stream after stream."""
        return [event for placed in self._new.values() for event in placed]

    @property
    def streams(self) -> list[str]:
        """Streams with new events."""
        return list(self._new)


class FollowReport(msgspec.Struct, frozen=True):
    """What one run of the follower did; `moved_again` asks for another pass at once."""

    connected: int = 0
    disconnected: int = 0
    moved_again: bool = False
