"""Where the responder writes what it intends and what it was answered; goes on from memory when the log is full."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from domain.channel import Channel
from domain.channel_fold import evolve
from domain.errors import DomainError
from domain.events import Envelope, Payload, envelopes
from watchtower.ports import (
    EventStore,
    ReadModels,
    StoreBroken,
    StoreBusy,
    StoreConflict,
    StoreError,
    StoreFull,
    WatchtowerError,
)
from watchtower.repository import Channels

News = tuple[Channel, Sequence[Payload]]
"""What is new about one channel."""


class Journal:
    """Appends to channel streams.

    `refused` holds, since `begin`, the streams that could not be written to the log or the views, and why. What
    follows events that the log did not take is kept in memory too: a small answer may fit where the intent did not,
    and the log would tell of a penalty that nobody intended.
    """

    def __init__(self, store: EventStore, channels: Channels, models: ReadModels) -> None:
        self._store = store
        self._channels = channels
        self._models = models
        self.refused: Mapping[str, Exception] = {}
        self._held: set[str] = set()

    def begin(self) -> None:
        """Forget earlier refusals."""
        self.refused = {}
        self._held = set()

    def record_all(self, news: Sequence[News]) -> dict[str, Channel]:
        """The channels after their events, by stream; one job for all of them.

        If the job is refused for one of them, each is recorded alone; who is missing in the answer is in `refused`.
        Streams must not repeat. Raises `StoreBroken`.
        """
        placed = {c.stream: envelopes(c.stream, c.version, payloads) for c, payloads in news if payloads}
        job = [event for stream, events in placed.items() if stream not in self._held for event in events]
        after = {channel.stream: channel for channel, _ in news}
        try:
            if job:
                self._store.append(job, chain=True)
        except StoreBroken:
            raise
        except (StoreFull, StoreBusy) as error:
            self._hold(placed, error)
        except StoreError:
            return self._one_by_one(news)
        else:
            self._catch_up([event.stream for event in job])
        for stream, events in placed.items():
            after[stream] = _from_memory(after[stream], events)
        return after

    def _one_by_one(self, news: Sequence[News]) -> dict[str, Channel]:
        after: dict[str, Channel] = {}
        for channel, payloads in news:
            try:
                after[channel.stream] = self.record(channel, payloads)
            except StoreBroken:
                raise
            except (DomainError, WatchtowerError) as error:
                self._refuse([channel.stream], error)
        return after

    def record(self, channel: Channel, payloads: Sequence[Payload]) -> Channel:
        """The channel after these events; a conflict with an upload re-reads the version and appends again.

        What is recorded here (bids, answers, alerts) is true whatever the client uploaded in between. Raises
        `StoreBroken`, after which the process has to end.
        """
        if not payloads:
            return channel
        while True:
            placed = envelopes(channel.stream, channel.version, payloads)
            if channel.stream in self._held:
                return _from_memory(channel, placed)
            try:
                self._store.append(placed, chain=True)
            except StoreConflict:
                self._channels.forget(channel.stream)
                channel = self._channels.load(channel.stream)
                continue
            except (StoreFull, StoreBusy) as error:
                self._hold([channel.stream], error)
                return _from_memory(channel, placed)
            self._catch_up([channel.stream])
            return self._channels.load(channel.stream)

    def _catch_up(self, streams: Iterable[str]) -> None:
        try:
            self._models.catch_up()
        except StoreBroken:
            raise
        except StoreError as error:  # it is in the log: what waits for that goes on
            self._refuse(streams, error)

    def _hold(self, streams: Collection[str], error: Exception) -> None:
        self._held.update(streams)
        self._refuse(streams, error)

    def _refuse(self, streams: Iterable[str], error: Exception) -> None:
        self.refused = {**self.refused, **dict.fromkeys(streams, error)}


def _from_memory(channel: Channel, placed: Sequence[Envelope]) -> Channel:
    """A full disk must not save the cheater: the penalty goes out, and a later pass finds and records it."""
    for event in placed:
        channel = evolve(channel, event)
    return channel
