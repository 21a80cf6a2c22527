"""Where the responder writes what it intends and what it was answered; goes on from memory when the log is full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domain.channel import Channel
from domain.channel_fold import evolve
from domain.events import Envelope, Payload, envelopes
from watchtower.ports import EventStore, ReadModels, StoreBroken, StoreBusy, StoreConflict, StoreError, StoreFull
from watchtower.repository import Channels


class Journal:
    """Appends to channel streams.

    `refused` holds, since `begin`, the streams that could not be written to the log or the views, and why.
    """

    def __init__(self, store: EventStore, channels: Channels, models: ReadModels) -> None:
        self._store = store
        self._channels = channels
        self._models = models
        self.refused: Mapping[str, StoreError] = {}

    def begin(self) -> None:
        """Forget earlier refusals."""
        self.refused = {}

    def record(self, channel: Channel, payloads: Sequence[Payload]) -> Channel:
        """The channel after these events; a conflict with an upload re-reads the version and appends again.

        What is recorded here (bids, answers, alerts) is true whatever the client uploaded in between. Raises
        `StoreBroken`, after which the process has to end.
        """
        if not payloads:
            return channel
        while True:
            placed = envelopes(channel.stream, channel.version, payloads)
            try:
                self._store.append(placed, chain=True)
            except StoreConflict:
                self._channels.forget(channel.stream)
                channel = self._channels.load(channel.stream)
                continue
            except (StoreFull, StoreBusy) as error:
                self.refused = {**self.refused, channel.stream: error}
                return _from_memory(channel, placed)
            try:
                self._models.catch_up()
            except StoreBroken:
                raise
            except StoreError as error:  # it is in the log: what waits for that goes on
                self.refused = {**self.refused, channel.stream: error}
            return self._channels.load(channel.stream)


def _from_memory(channel: Channel, placed: Sequence[Envelope]) -> Channel:
    """A full disk must not save the cheater: the penalty goes out, and a later pass finds and records it."""
    for event in placed:
        channel = evolve(channel, event)
    return channel
