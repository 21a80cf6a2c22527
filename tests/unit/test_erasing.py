"""Keys of resolved channels are erased: the event first, then the keystore, again after a crash in between."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from domain.chain import BlockRef
from domain.claiming import htlc_key_name
from domain.events import ChannelErased, ChannelResolved, EraseReason, Payload, ResolvedAs, envelopes
from domain.units import Side
from tests.support.parties import Pair, open_pair
from tests.support.towers import Bench
from watchtower.channels.register import register
from watchtower.erasing import Erasing
from watchtower.keystore import KeystoreError
from watchtower.models import LiveModels
from watchtower.ports import StoreBusy


class Case:
    """A tower that watches two channels, the first one resolved, and its eraser."""

    def __init__(self, directory: Path) -> None:
        self.bench = Bench(directory)
        self.pairs = (open_pair(), open_pair(names=("carol", "dave")))
        for pair in self.pairs:
            self.bench.registered(pair)
        self.over, self.alive = self.pairs
        self.append(
            ChannelResolved(
                recorded_at=1, outcome=ResolvedAs.COOP, txid=bytes(32), block=BlockRef(100, bytes(32)), depth=101
            )
        )
        self.restart()

    def restart(self) -> None:
        """Read models and eraser as a new process has them."""
        context = self.bench.context
        self.models = LiveModels(self.bench.projector, self.bench.rows, context.channels)
        self.erasing = Erasing(
            store=self.bench.store,
            channels=context.channels,
            models=self.models,
            keystore=self.bench.keystore,
            clock=self.bench.clock,
        )

    def append(self, payload: Payload) -> None:
        """One more event of the first channel."""
        stream = self.stream(self.over)
        version = self.bench.context.channels.load(stream).version
        self.bench.store.append(envelopes(stream, version, [payload]))
        self.bench.catch_up()

    def stream(self, pair: Pair) -> str:
        """The stream of a channel."""
        return self.bench.context.channels.stream_of(pair.params.proposal_id)

    def keys(self, pair: Pair) -> list[bool]:
        """Whether the revocation secret and the HTLC secret are in the keystore."""
        names = (pair.params.proposal_id, htlc_key_name(pair.params.proposal_id))
        return [self.bench.keystore.get(name) is not None for name in names]

    def erased_events(self) -> list[EraseReason]:
        """The reasons in the log of the first channel."""
        payloads = [event.payload for event in self.bench.store.read_stream(self.stream(self.over))]
        return [payload.reason for payload in payloads if isinstance(payload, ChannelErased)]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """The two channels."""
    return Case(tmp_path)


def test_keys_of_a_resolved_channel_are_gone(case: Case) -> None:
    """Both keys of the channel that is over; those of the other one stay; said once in the log."""
    case.erasing.run()
    case.erasing.run()

    assert [False, False] == case.keys(case.over)
    assert [True, True] == case.keys(case.alive)
    assert [EraseReason.RETENTION] == case.erased_events()
    assert case.bench.context.channels.load(case.stream(case.over)).erased


def test_what_becomes_resolved_later_is_erased_later(case: Case) -> None:
    """The eraser hears of channels while it runs."""
    case.erasing.run()
    resolved = ChannelResolved(
        recorded_at=2, outcome=ResolvedAs.PUNISHED, txid=bytes(32), block=BlockRef(100, bytes(32)), depth=101
    )
    stream = case.stream(case.alive)
    version = case.bench.context.channels.load(stream).version
    case.bench.store.append(envelopes(stream, version, [resolved]))
    case.models.catch_up()

    case.erasing.run()

    assert [False, False] == case.keys(case.alive)


def test_many_channels_are_erased_batch_by_batch(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rewrites the keystore: a pass does one batch, so that a breach waits for no more."""
    monkeypatch.setattr("watchtower.erasing.BATCH", 1)
    resolved = ChannelResolved(
        recorded_at=2, outcome=ResolvedAs.PUNISHED, txid=bytes(32), block=BlockRef(100, bytes(32)), depth=101
    )
    stream = case.stream(case.alive)
    version = case.bench.context.channels.load(stream).version
    case.bench.store.append(envelopes(stream, version, [resolved]))
    case.models.catch_up()

    case.erasing.run()
    first = sorted([case.keys(case.over), case.keys(case.alive)])
    case.erasing.run()

    assert [[False, False], [True, True]] == first
    assert [[False, False]] * 2 == [case.keys(case.over), case.keys(case.alive)]


def test_nothing_is_erased_before_it_is_said(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the log takes nothing the keys stay; the next call says it and erases."""

    def busy(*_: object, **__: object) -> int:
        raise StoreBusy("the queue is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(case.bench.store), "append", busy)
        with pytest.raises(StoreBusy):
            case.erasing.run()
    assert [True, True] == case.keys(case.over)

    case.erasing.run()
    assert ([False, False], 1) == (case.keys(case.over), len(case.erased_events()))


def test_a_crash_after_the_event_is_made_good_at_the_next_start(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keystore could not be written; the event stands, and the next process erases without a second event."""

    def full(_keystore: object, names: object) -> None:
        raise KeystoreError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(case.bench.keystore), "erase", full)
        case.erasing.run()
    assert ([True, True], 1) == (case.keys(case.over), len(case.erased_events()))

    case.restart()
    case.erasing.run()

    assert ([False, False], 1) == (case.keys(case.over), len(case.erased_events()))


def test_a_repeated_registration_brings_no_key_back(case: Case) -> None:
    """The owner's repetition is answered, and the keystore stays empty."""
    case.erasing.run()

    again = register(case.bench.context, case.over.registration(Side.B))

    assert (False, "RESOLVED") == (again.created, again.channel.status)
    assert [False, False] == case.keys(case.over)


def test_an_event_without_the_end_changes_nothing_else(case: Case) -> None:
    """The fold of an erased channel differs in one field."""
    stream = case.stream(case.over)
    before = case.bench.context.channels.load(stream)
    case.append(ChannelErased(recorded_at=3, reason=EraseReason.CLIENT_REQUEST))
    after = case.bench.context.channels.load(stream)
    assert msgspec.structs.replace(before, erased=True, version=after.version) == after
