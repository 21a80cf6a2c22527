"""Where the responder writes what it intends and what it was answered; goes on from memory when the log is full."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

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
    and the log would tell of a penalty that nobody intended. The views follow at `finish`: nothing in a run asks them
    about what the run records, and a penalty must not wait for them.
    """

    def __init__(self, store: EventStore, channels: Channels, models: ReadModels) -> None:
        self._store = store
        self._channels = channels
        self._models = models
        self.refused: dict[str, Exception] = {}
        self._written: dict[str, None] = {}
        self._held: set[str] = set()

    def begin(self) -> None:
        """Forget earlier refusals."""
        self.refused, self._written, self._held = {}, {}, set()

    def finish(self) -> None:
        """Bring the views to the end of the log. Raises `StoreBroken`."""
        if not self._written:
            return
        try:
            self._models.catch_up()
        except StoreBroken:
            raise
        except StoreError as error:  # it is in the log: what waits for that goes on
            self._refuse(self._written, error)

    def record_all(self, news: Sequence[News]) -> dict[str, Channel]:
        """The channels after their events, by stream; one job for all of them.

        If the job is refused for one of them, each is recorded alone; who is missing in the answer is in `refused`.
        Streams must not repeat. Raises `StoreBroken`.
        """
        placed = {c.stream: envelopes(c.stream, c.version, payloads) for c, payloads in news if payloads}
        after = {channel.stream: channel for channel, _ in news}
        job = [event for stream, events in placed.items() if stream not in self._held for event in events]
        try:
            if job:
                self._store.append(job, chain=True)
        except StoreBroken:
            raise
        except (StoreFull, StoreBusy) as error:
            self._hold(placed, error)
        except StoreError:
            return self._one_by_one(news)
        for stream, events in placed.items():
            after[stream] = self._noted(after[stream], events)
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
                return _evolved(channel, placed)
            try:
                self._store.append(placed, chain=True)
            except StoreConflict:
                self._channels.forget(channel.stream)
                channel = self._channels.load(channel.stream)
                continue
            except StoreBroken:
                raise
            except StoreError as error:  # whatever keeps the log from taking it must not keep the penalty back
                self._hold([channel.stream], error)
                return _evolved(channel, placed)
            return self._noted(channel, placed)

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

    def _noted(self, channel: Channel, placed: Sequence[Envelope]) -> Channel:
        after = _evolved(channel, placed)
        if channel.stream not in self._held:
            self._written[channel.stream] = None
            self._channels.keep(after)
        return after

    def _hold(self, streams: Collection[str], error: Exception) -> None:
        self._held.update(streams)
        self._refuse(streams, error)

    def _refuse(self, streams: Iterable[str], error: Exception) -> None:
        self.refused |= dict.fromkeys(streams, error)


def _evolved(channel: Channel, placed: Sequence[Envelope]) -> Channel:
    """The channel after events that are in the log now, or in memory only.

    A full disk must not save the cheater: the penalty goes out, and a later pass finds and records it.
    """
    for event in placed:
        channel = evolve(channel, event)
    return channel
