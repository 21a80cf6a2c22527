"""The content of a published state: from the fold, or from the log once a stale settlement won."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from domain.channel import StateRecord
from domain.events import Envelope
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.htlcs import closed, settled
from tests.support.scenes import STREAM, Scene, block
from watchtower.repository import Channels


class CountingStore(MemoryEventStore):
    """Counts readings of a stream from its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.searches = 0

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """As in the base class."""
        self.searches += limit is not None
        return super().read_stream(stream, after, limit)


def asked(scene: Scene, times: int = 1) -> tuple[Sequence[StateRecord | None], int]:
    """The published state as often as asked for, and how often the log was searched."""
    store = CountingStore()
    store.append(list(scene.events))
    channels = Channels(store)
    channels.load(STREAM)
    store.searches = 0
    found = [channels.closing_state(channels.load(STREAM)) for _ in range(times)]
    return found, store.searches


def test_a_publishable_state_is_in_the_fold() -> None:
    """Nothing is read for an honest close."""
    found, searches = asked(closed())

    assert ([2], 0) == ([record.sequence for record in found if record], searches)


@pytest.mark.parametrize("updates", [4, 5])
def test_a_replaced_state_is_read_once_its_settlement_won(updates: int) -> None:
    """From the log, once; then it is remembered."""
    _, once = asked(settled(updates=updates), times=1)
    found, searches = asked(settled(updates=updates), times=3)

    assert [2, 2, 2] == [record.sequence for record in found if record]
    assert 0 < once == searches


def test_the_answer_to_a_breach_does_not_wait_for_a_search() -> None:
    """While the penalty can win there is nothing to take, and after it there never will be."""
    punished = closed(updates=5)
    punished.ended(punished.commitment(Side.B, 2), punished.penalty(Side.B, 2), block(210))

    assert ([None], 0) == asked(closed(updates=5)) == asked(punished)


def test_an_open_channel_has_no_published_state() -> None:
    """No spend, no state."""
    assert ([None], 0) == asked(Scene().opened(2))
