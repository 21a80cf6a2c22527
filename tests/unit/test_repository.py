"""Old states are found in long streams without reading them: the answer to a breach asks for one."""

from __future__ import annotations

import gc
import random
import tracemalloc

import msgspec
import pytest

from domain.channel import Channel
from domain.events import AlertKind, AlertRaised, Envelope, Payload, StateUpdated, envelopes
from domain.spending import matured
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.scenes import NOW, STREAM, Scene, block
from watchtower import repository
from watchtower.repository import Channels

OTHER = AlertRaised(recorded_at=NOW, kind=AlertKind.UNKNOWN_SPEND, txid=None, sequence=None, height=1)


class CountingStore:
    """A stream in a list; counts the events that were read."""

    def __init__(self, payloads: list[Payload]) -> None:
        self.events = envelopes(STREAM, 0, payloads)
        self.read = 0

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """The port's method."""
        assert stream == STREAM
        page = list(self.events[after:] if limit is None else self.events[after : after + limit])
        self.read += len(page)
        return page


def case(gaps: list[int], tail: int) -> tuple[CountingStore, Channels, Channel]:
    """A stream of as many states as gaps, each behind so many other events, and a tail without states."""
    scene = Scene().opened()
    proposed, registered, first, *_ = (event.payload for event in scene.events)
    assert isinstance(first, StateUpdated)
    payloads: list[Payload] = [proposed, registered]
    for sequence, gap in enumerate(gaps):
        state = msgspec.structs.replace(first, sequence=sequence, own_point=sequence.to_bytes(33, "big"))
        payloads += [*[OTHER] * gap, state]
    store = CountingStore(payloads + [OTHER] * tail)
    channel = msgspec.structs.replace(
        scene.channel, version=len(store.events), sequence=len(gaps) - 1, states=(), own_side=Side.A
    )
    return store, Channels(store), channel  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_every_state_is_found_among_other_events(seed: int) -> None:
    """Whatever lies between states, each one is found, and what was never stored is not."""
    chance = random.Random(seed)
    gaps = [chance.choice((0, 0, 1, 2, 9, 700)) for _ in range(chance.randint(1, 40))]
    _, channels, channel = case(gaps, chance.choice((0, 3, 900)))

    found = [channels.stored_state(channel, sequence) for sequence in range(len(gaps) + 2)]

    assert [*range(len(gaps)), None, None] == [None if state is None else state.sequence for state in found]


def test_an_old_state_costs_no_walk_through_the_stream() -> None:
    """Of 40,000 events fewer than a hundred are read for the own commitment beside a breach of an old state."""
    store, channels, channel = case([1] * 20_000, 0)

    txid = channels.own_commitment_txid(channel, 9_999)

    assert 32 == len(txid or b"")
    assert store.read < 100


def punished_and_buried() -> list[Payload]:
    """The events of a channel whose penalty is 100 blocks deep."""
    scene = Scene().opened(3)
    scene.mined(scene.commitment(Side.B, 1), block(200))
    scene.ended(scene.commitment(Side.B, 1), scene.penalty(Side.B, 1), block(210))
    scene.then(matured(scene.channel, 310, NOW))
    return [event.payload for event in scene.events]


def test_a_resolved_channel_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many as are kept: each costs a tenth of its fold of 7 kB. One that goes on stays beside them."""
    monkeypatch.setattr(repository, "ENDED", 2)
    store, scene = MemoryEventStore(), Scene().opened(3)
    store.append(list(scene.events))
    channels = Channels(store)
    going_on = channels.load(STREAM)
    payloads = punished_and_buried()
    streams = [f"c{number:022d}" for number in range(20)]
    for stream in streams:
        store.append(envelopes(stream, 0, payloads))
    tracemalloc.start()
    for stream in streams:
        channels.load(stream)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept / len(streams) < 1_500
    assert going_on is channels.load(STREAM)
    assert channels.load(streams[-1]) is channels.load(streams[-1])
