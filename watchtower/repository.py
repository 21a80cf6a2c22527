"""Channels by stream: a bounded cache of folds, brought up to date from the log at every load that is behind it.

The log is the truth; a cached fold is only ever fast-forwarded, and thrown away after a failed commit.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Protocol

from domain.channel import Channel, StateRecord
from domain.channel_fold import fold, state_record
from domain.errors import UnknownChannel
from domain.events import StateUpdated
from watchtower.ports import EventStore

COMMIT_TXID_OFFSET = 128
"""Where a state header holds its two commitment txids (protocol 4.2)."""

DEFAULT_CAPACITY = 4096
"""Folds kept in memory; 4 kB each without a state, 9 kB with a few states, more with conditions."""

ENDED = 64
"""Folds of resolved channels among them: nothing happens to those any more, so only repeated questions find them."""

OLDER_STATES = 256
"""Replaced states kept in memory: those of stale closes that were settled."""

FIRST_PAGE, PAGE = 4, 500
"""Events read at once in search of a state: the next one is seldom further than its predecessor's revocation."""


READ_FROM_SNAPSHOT = 64
"""Events from which a stream may have a snapshot: folding so many takes one or two milliseconds."""

READ_AT_ONCE = 1_000
"""Events of a stream that are folded at a time."""


class Snapshots(Protocol):
    """Folds that were kept from an earlier time."""

    def load(self, stream: str) -> Channel | None:
        """The fold of the first events of a stream, or None."""


class NoSnapshots:
    """Every stream is folded from its first event."""

    def load(self, _stream: str) -> Channel | None:
        """None."""
        return None


class Channels:
    """Loads Channel aggregates. Safe to use from several threads."""

    def __init__(self, store: EventStore, capacity: int = DEFAULT_CAPACITY, snapshots: Snapshots | None = None) -> None:
        """With `snapshots` a long stream is read from where its snapshot ends."""
        self._store = store
        self._capacity = capacity
        self._snapshots = NoSnapshots() if snapshots is None else snapshots
        self._folds: OrderedDict[str, Channel] = OrderedDict()
        self._ended: OrderedDict[str, Channel] = OrderedDict()
        self._lock = Lock()
        self._older: dict[tuple[str, int], StateRecord | None] = {}

    def find(self, stream: str) -> Channel | None:
        """The channel as of the last committed event, or None if the stream is empty."""
        with self._lock:
            known = self._known(stream)
        last = self._store.version(stream)
        if known is not None and known.version == last:
            return known
        channel = self._behind(known or self._snapshot(stream, last), stream)
        if channel is not None:
            self._keep(stream, channel)
        return channel

    def _snapshot(self, stream: str, last: int) -> Channel | None:
        """What was kept, unless the log is shorter: then it is that of another history."""
        if last < READ_FROM_SNAPSHOT:
            return None
        kept = self._snapshots.load(stream)
        return None if kept is None or kept.version > last else kept

    def _behind(self, channel: Channel | None, stream: str) -> Channel | None:
        """A fold, brought forward to the end of its stream."""
        while True:
            after = 0 if channel is None else channel.version
            events = self._store.read_stream(stream, after=after, limit=READ_AT_ONCE)
            channel = fold(channel, events)
            if len(events) < READ_AT_ONCE:
                return channel

    def load(self, stream: str) -> Channel:
        """Like `find`; raises `UnknownChannel`."""
        channel = self.find(stream)
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        return channel

    def stream_of(self, proposal_id: bytes) -> str:
        """The stream of a channel, known from the proposal to the end."""
        return self._store.stream_id("c", proposal_id)

    def keep(self, channel: Channel) -> None:
        """Remember a fold that was brought forward by events that are committed now."""
        self._keep(channel.stream, channel)

    def forget(self, stream: str) -> None:
        """Drop a cached fold (after a failed commit)."""
        with self._lock:
            self._folds.pop(stream, None)
            self._ended.pop(stream, None)

    def own_commitment_txid(self, channel: Channel, sequence: int) -> bytes | None:
        """Txid of our own commitment of a stored state, from the header that both parties signed.

        Publishable states are in the fold, older ones in the stream. Both sides' old commitments are asked for, also
        that of a breach, whose answer must not wait for a long stream.
        """
        record = channel.state(sequence)
        if record is not None:
            return record.read_header().commit_txid(channel.own_side)
        stored = self.stored_state(channel, sequence)
        if stored is None:
            return None
        offset = COMMIT_TXID_OFFSET + 32 * channel.own_side
        return stored.header[offset : offset + 32]

    def closing_state(self, channel: Channel) -> StateRecord | None:
        """Content of the state whose commitment is the present spend, or None if it is not stored.

        One that was replaced since is read from the stream, and only once a settlement of it is in a block: before
        that its conditional outputs cannot be taken, and the answer to a breach must not wait for it.
        """
        spend = channel.present_spend
        if spend is None or spend.sequence is None:
            return None
        record = channel.state(spend.sequence)
        end = channel.contest_spend(spend.txid)
        if record is not None or end is None or end.is_penalty or spend.sequence > channel.sequence:
            return record
        place = channel.stream, spend.sequence
        with self._lock:
            if place in self._older:
                return self._older[place]
        stored = self.stored_state(channel, spend.sequence)
        found = None if stored is None else state_record(stored)
        with self._lock:
            self._older[place] = found  # also None: an older state is never added later
            while len(self._older) > OLDER_STATES:
                del self._older[next(iter(self._older))]
        return found

    def stored_state(self, channel: Channel, sequence: int) -> StateUpdated | None:
        """The event of a state, however old."""
        found = self.find_state(channel, sequence)
        return None if found is None else found[1]

    def find_state(self, channel: Channel, sequence: int) -> tuple[int, StateUpdated] | None:
        """Version and event of a state: a search by halves, because numbers grow with versions.

        Every state is one event, so it cannot stand before the version of its number.
        """
        if sequence > channel.sequence:
            return None
        low, high = sequence, channel.version
        while low < high:
            middle = (low + high) // 2
            version, found = self._next_state(channel.stream, middle, high)
            if found is None or found.sequence > sequence:
                high = middle
            elif found.sequence == sequence:
                return version, found
            else:
                low = version
        return None

    def _next_state(self, stream: str, after: int, upto: int) -> tuple[int, StateUpdated | None]:
        """The first state behind version `after` and its version; between two states there are few other events."""
        limit = FIRST_PAGE
        while after < upto:
            page = self._store.read_stream(stream, after=after, limit=min(limit, upto - after))
            for event in page:
                if isinstance(event.payload, StateUpdated):
                    return event.version, event.payload
            if not page:
                break
            after, limit = page[-1].version, PAGE
        return upto, None

    def _known(self, stream: str) -> Channel | None:
        """The kept fold, now the last one to be dropped."""
        for folds in (self._folds, self._ended):
            if stream in folds:
                folds.move_to_end(stream)
                return folds[stream]
        return None

    def _keep(self, stream: str, channel: Channel) -> None:
        with self._lock:
            known = self._known(stream)
            newest = channel if known is None or known.version <= channel.version else known
            if newest.resolved is None:
                folds, capacity = self._folds, self._capacity
            else:  # never undone
                self._folds.pop(stream, None)
                folds, capacity = self._ended, ENDED
            folds[stream] = newest
            folds.move_to_end(stream)
            while len(folds) > capacity:
                folds.popitem(last=False)
