"""Logs with a chain in them, and what questions about the past must answer: worked out from the list of all events.

log = random_log(walk, steps)      # jobs of blocks, reorgs and uploads, with clocks that stand still or run back
naive_position(log, AsOf(height=3))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, pairwise, product
from pathlib import Path

import msgspec

from domain.as_of import AsOf, time_text
from domain.chain import BlockRef, display
from domain.errors import UnknownPoint
from domain.events import (
    CHAIN_STREAM,
    BlockConnected,
    BlockDisconnected,
    CursorStarted,
    Envelope,
    Payload,
    Recorded,
    Source,
    envelopes,
)
from tests.fakes.store import MemoryEventStore
from tests.support.histories import OTHER_STREAM, History
from tests.support.scenes import FUNDED_AT, STREAM, block
from watchtower.history.channels import PastChannels
from watchtower.history.log import HistoryLog, HistoryViews
from watchtower.history.points import point_at, resolve
from watchtower.ports import EventStore

MINUTE = 60_000_000


class PastLog(MemoryEventStore):
    """A memory log that remembers where its jobs ended, with a chain that tests move."""

    def __init__(self) -> None:
        super().__init__()
        self.job_ends: list[int] = [1]
        self.chain: list[BlockRef] = [block(FUNDED_AT - 1)]
        self.branch = 0
        self.now = 0
        start = CursorStarted(recorded_at=0, block=self.chain[0], chain_hash=bytes(32), chainwork=b"\x01")
        self.job([start])

    def job(self, chain: Sequence[Payload] = (), others: Sequence[Envelope] = ()) -> int:
        """Store one job at the time `now`: events of the chain stream, then those of channels."""
        job = [*envelopes(CHAIN_STREAM, self.version(CHAIN_STREAM), chain), *others]
        stamped = [
            msgspec.structs.replace(each, payload=msgspec.structs.replace(each.payload, recorded_at=self.now))
            for each in job
        ]
        self.job_ends.append(self.append(stamped, chain=bool(chain)))
        return self.job_ends[-1]

    def connect(self, others: Sequence[Envelope] = (), branch: int | None = None) -> BlockRef:
        """The next block and what it causes."""
        tip = self.chain[-1]
        made = block(tip.height + 1, self.branch if branch is None else branch)
        connected = BlockConnected(
            recorded_at=0, block=made, prev=tip.hash, header=bytes(80), chainwork=b"\x01", source=Source.BLOCK
        )
        self.job([connected], others)
        self.chain.append(made)
        return made

    def disconnect(self, others: Sequence[Envelope] = ()) -> BlockRef:
        """The tip leaves the chain."""
        gone, parent = self.chain[-1], self.chain[-2]
        self.job([BlockDisconnected(recorded_at=0, block=gone, parent=parent, chainwork=b"\x01")], others)
        self.chain.pop()
        return gone

    @property
    def events(self) -> list[Recorded]:
        """The whole log."""
        return self.read_log(0, self.last_id())


def random_log(walk: Sequence[tuple[int, int, int]], steps: Sequence[int]) -> PastLog:
    """A log of two channels: each step of the walk is (what happens, events of channels with it, minutes passed)."""
    log = PastLog()
    left = iter(History().play(steps).events)
    right = iter(History(OTHER_STREAM).play(steps[::-1]).events)
    for kind, count, minutes in walk:
        log.now += minutes * MINUTE
        others = [*islice(left, count), *islice(right, count // 2)]
        if kind == 0 and len(log.chain) > 1:
            log.disconnect(others)
            log.branch += count % 2
        elif kind < 4:
            log.connect(others)
        elif others:
            log.job(others=others)
    return log


def naive_position(log: PastLog, as_of: AsOf) -> int | None:
    """What the definition of a point says, event by event; None if the log has no such point."""
    events = log.events
    if as_of.at is not None:
        late = [each.id for each in events if each.envelope.payload.recorded_at > as_of.microseconds]
        return min(late) - 1 if late else len(events)
    if as_of.position is not None or as_of.id is not None:
        wanted = as_of.position if as_of.position is not None else as_of.id
        return wanted if wanted is not None and wanted <= len(events) else None
    found: dict[bytes, int] = {}
    standing: dict[int, bytes] = {}
    for each in events:
        match each.envelope.payload:
            case BlockConnected(block=reached):
                found[reached.hash] = each.id
                standing[reached.height] = reached.hash
            case BlockDisconnected(block=gone):
                del standing[gone.height]
    wanted_hash = as_of.block_hash if as_of.block is not None else standing.get(as_of.height or 0)
    if wanted_hash not in found:
        return None
    return next(end for end in log.job_ends if end >= found[wanted_hash])


def points_of(log: PastLog) -> list[AsOf]:
    """Every height, block and time of a log and its neighbors, and positions around its end."""
    heights = [AsOf(height=height) for height in range(FUNDED_AT - 2, FUNDED_AT + len(log.events))]
    places = product(range(FUNDED_AT - 1, FUNDED_AT + 15), range(3))
    blocks = [AsOf(block=display(block(*place).hash)) for place in places]
    times = {each.envelope.payload.recorded_at + shift for each in log.events for shift in (-1, 0, 1)}
    ends = (0, 1, log.last_id() - 1, log.last_id(), log.last_id() + 1)
    counted = [AsOf(position=end) for end in ends] + [AsOf(id=end) for end in ends]
    return [*heights, *blocks, *(AsOf(at=time_text(at)) for at in sorted(times)), *counted]


def found_position(log: HistoryLog, rows: HistoryViews, as_of: AsOf) -> int | None:
    """The position that is looked up, None for a point that is not there."""
    try:
        return resolve(log, rows, as_of).position
    except UnknownPoint:
        return None


WALK = ((1, 4, 1), (1, 0, 5), (5, 3, -2), (0, 1, 1), (1, 4, 0), (1, 2, 1), (0, 0, 1), (0, 3, 9), (1, 0, -4), (5, 4, 2))
"""A walk with two reorgs and a clock that runs back twice."""


def check_engine(store: EventStore, views: Path, make_views: Callable[[Path], HistoryViews]) -> None:
    """A new log of an engine answers about every point as the definition does, and about channels as memory does."""
    log = random_log(WALK, (1, 3, 11, 2, 5, 17))
    for start, end in pairwise(log.job_ends):
        job = [each.envelope for each in log.read_log(start, end - start)]
        store.append(job, chain=job[0].stream == CHAIN_STREAM)
    rows, asked = make_views(views), points_of(log)

    assert [naive_position(log, each) for each in asked] == [found_position(store, rows, each) for each in asked]
    for position in range(log.last_id() + 1):
        for stream in (STREAM, OTHER_STREAM):
            expected = PastChannels(log).info(stream, point_at(log, position))
            assert expected == PastChannels(store).info(stream, point_at(store, position))
