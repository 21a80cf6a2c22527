"""Keys of channels that are over leave the keystore: the event first, then the erasure, at each start until done.

A resolved channel needs its keys no more: its end is 100 blocks deep and nothing of it is left to be claimed
(`conditional.keeps_open`). What stays are its events; they hold no key.
"""

from __future__ import annotations

import structlog

from domain.claiming import htlc_key_name
from domain.events import ChannelErased, EraseReason, envelopes
from watchtower.keystore import KeystoreError
from watchtower.ports import Clock, EventStore, Keystore, ReadModels, StoreConflict
from watchtower.repository import Channels

_log = structlog.get_logger(__name__)

BATCH = 500
"""Channels per commit, per rewriting of the keystore and per pass: the next breach must not wait for them all."""


class Erasing:
    """Called from the pass thread at the end of a pass."""

    def __init__(
        self, *, store: EventStore, channels: Channels, models: ReadModels, keystore: Keystore, clock: Clock
    ) -> None:
        self._store = store
        self._channels = channels
        self._models = models
        self._keystore = keystore
        self._clock = clock
        self._waiting: dict[str, tuple[bytes, ...]] = {}

    def run(self) -> None:
        """Erase the keys of one batch of resolved channels; the others, and a `StoreError`, are left for the next call.

        A keystore that cannot be written is logged; the next start tries again.
        """
        for stream, proposal_id in self._models.take_resolved():
            names = (proposal_id, htlc_key_name(proposal_id))
            held = tuple(name for name in names if self._keystore.get(name) is not None)
            if held:
                self._waiting[stream] = held
        batch = dict(sorted(self._waiting.items())[:BATCH])
        if not batch:
            return
        self._announce(batch)
        for stream in batch:
            del self._waiting[stream]
        try:
            self._keystore.erase(name for names in batch.values() for name in names)
        except KeystoreError as error:
            _log.error("erase_failed", reason=str(error), channels=len(batch))

    def _announce(self, streams: dict[str, tuple[bytes, ...]]) -> None:
        now, job = self._clock.wall_microseconds(), []
        for stream in streams:
            channel = self._channels.load(stream)
            assert channel.resolved is not None, "only resolved channels are listed, and that is never undone"
            if not channel.erased:
                event = ChannelErased(recorded_at=now, reason=EraseReason.RETENTION)
                job += envelopes(stream, channel.version, [event])
        if not job:
            return
        try:
            self._store.append(job, chain=True)
        except StoreConflict as conflict:
            self._channels.forget(conflict.stream)
            raise
        self._models.catch_up()
