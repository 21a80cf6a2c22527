"""What one reader costs: the events of its own channels, however much others have stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.chain import chain_hash
from domain.events import Envelope, Recorded
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, open_pair
from tests.support.towers import Bench
from watchtower.http import feed, own_events
from watchtower.http.feed import Reader, Subscription, Told

NOISE = 12


class CountingStore(MemoryEventStore):
    """Counts the events that it hands out."""

    of_streams = 0
    of_log = 0

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """As the store does."""
        found = super().read_stream(stream, after, limit)
        self.of_streams += len(found)
        return found

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """As the store does."""
        found = super().read_log(after_id, limit)
        self.of_log += len(found)
        return found


class Town:
    """A tower with a channel of some events among many of another one."""

    def __init__(self, directory: Path) -> None:
        self.store = CountingStore(chain_hash("regtest"))
        self.tower = Bench(directory, store=self.store)
        self.pairs = (open_pair(), open_pair(names=("carol", "dave")))
        self.names = tuple(map(self.tower.registered, self.pairs))
        self.say(1, NOISE)
        self.say(0, 2)
        self.say(1, NOISE)
        self.tower.catch_up()

    def say(self, which: int, count: int) -> None:
        """The next states of a channel are stored."""
        pair: Pair = self.pairs[which]
        for _ in range(count):
            pair.update()
            self.tower.services.accept_state(self.names[which], pair.update_request(Side.B, pair.sequence))

    def ids(self, which: int, after: int = 0) -> list[int]:
        """The places of a channel's events in the log, by the log."""
        stream = self.tower.context.channels.stream_of(self.pairs[which].params.proposal_id)
        log = MemoryEventStore.read_log(self.store, after, 10_000)
        return [each.id for each in log if each.envelope.stream == stream]

    def subscribe(self, after: int, *, by_name: bool) -> Subscription:
        """The owner of the first channel asks for it, or for all of its channels."""
        owner = self.pairs[0].params.keys(Side.B).auth
        return self.tower.services.subscribe(self.names[0] if by_name else None, owner, after)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """Shared by the tests; what they store stays."""
    return Town(tmp_path_factory.mktemp("town"))


def read_to_end(reader: Reader) -> list[Told]:
    """All events until the log ends."""
    found: list[Told] = []
    is_at_end = False
    while not is_at_end:
        is_at_end, page = reader.read()
        found += page
    return found


@pytest.mark.parametrize("by_name", [True, False])
def test_only_the_own_events_are_read(town: Town, by_name: bool) -> None:
    """From the beginning of a log with far more events of others: none of theirs."""
    town.tower.catch_up()  # behind what other tests have stored
    own = town.ids(0)
    town.store.of_log = town.store.of_streams = 0
    told = read_to_end(Reader(town.subscribe(0, by_name=by_name)))

    assert own == [each.id for each in told]
    assert 0 == town.store.of_log
    assert town.store.of_streams <= 2 * len(own)  # once to tell them, once to know whose the channel is


def test_who_fell_behind_catches_up_by_itself(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader that was passed by others' events does not read these."""
    monkeypatch.setattr(feed, "PAGE", 5)
    reader = Reader(town.subscribe(town.store.last_id(), by_name=True))
    read_to_end(reader)
    last = town.store.last_id()
    town.say(1, NOISE)
    town.say(0, 1)
    town.store.of_log = 0
    told = read_to_end(reader)

    assert town.ids(0, last) == [each.id for each in told]
    assert 0 == town.store.of_log


@pytest.mark.slow
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    after=st.integers(0, 40), page=st.integers(1, 7), by_name=st.booleans(), saying=st.lists(st.sampled_from([0, 1]))
)
def test_none_is_lost_and_none_doubled(
    town: Town, monkeypatch: pytest.MonkeyPatch, after: int, page: int, by_name: bool, saying: Sequence[int]
) -> None:
    """Wherever a reader begins and whatever is stored between its pages; each position is one to go on from."""
    monkeypatch.setattr(feed, "PAGE", page)
    monkeypatch.setattr(own_events, "AT_ONCE", page)
    reader = Reader(town.subscribe(after, by_name=by_name))
    told: list[Told] = []
    for which in saying[:6]:
        told += reader.read()[1]
        assert town.ids(0, after) == [each.id for each in told] + town.ids(0, reader.position)
        town.say(which, 1)
        town.tower.catch_up()
    told += read_to_end(reader)

    assert town.ids(0, after) == [each.id for each in told]


@given(after=st.integers(0, 40), until=st.integers(0, 40))
def test_streams_are_told_in_the_order_of_the_log(town: Town, after: int, until: int) -> None:
    """The channels of one owner: as if the log had been read and the rest left out."""
    streams = [town.tower.context.channels.stream_of(pair.params.proposal_id) for pair in town.pairs]
    end = min(until, town.store.last_id())
    expected = [each for each in MemoryEventStore.read_log(town.store, after, 10_000) if each.id <= end]

    found = list(own_events.own_events(town.store, streams, after, end))

    assert [each for each in expected if each.envelope.stream in streams] == found
