"""What storing a state does not do twice: read the stream again, verify in more threads than there are processors."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import msgspec
import pytest

from domain.errors import InvalidSignature
from domain.events import Envelope
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, open_pair
from tests.support.towers import Bench
from watchtower.channels.accept_state import accept_state
from watchtower.channels.register import register
from watchtower.channels.revoke import revoke
from watchtower.host.system import processors
from watchtower.repository import Channels
from watchtower.wire.hexes import Hex64

OWNER = Side.B


class CountingStore(MemoryEventStore):
    """Counts the events that were read."""

    read = 0

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """The port's method."""
        page = super().read_stream(stream, after, limit)
        self.read += len(page)
        return page


class Lane:
    """Stands for the lanes of a context and knows whether it is held."""

    def __init__(self) -> None:
        self.held, self.entered = False, 0

    def __enter__(self) -> None:
        self.held, self.entered = True, self.entered + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.held = False


def watched(directory: Path) -> tuple[Bench, CountingStore, Pair, str]:
    """A tower that watches a channel with two updates, none of them uploaded."""
    store = CountingStore()
    tower, pair = Bench(directory, store=store), open_pair()
    pair.updates(2)
    tower.fund(pair)
    register(tower.context, pair.registration(OWNER))
    tower.confirm(pair)
    return tower, store, pair, tower.context.channels.stream_of(pair.params.proposal_id)


def test_a_stored_state_is_not_read_back(tmp_path: Path) -> None:
    """The fold goes forward by what was committed: no event of the stream is read for the next state."""
    tower, store, pair, stream = watched(tmp_path)
    accept_state(tower.context, stream, pair.update_request(OWNER, 1))
    before = store.read

    accept_state(tower.context, stream, pair.update_request(OWNER, 2))

    assert store.read == before


def test_the_kept_fold_is_that_of_the_log(tmp_path: Path) -> None:
    """After a registration, two states and a release the kept channel is the one that the log folds to."""
    tower, store, pair, stream = watched(tmp_path)
    for sequence in (1, 2):
        accept_state(tower.context, stream, pair.update_request(OWNER, sequence))
    revoke(tower.context, stream, pair.release_request(OWNER, 1))

    kept = tower.context.channels.load(stream)

    assert kept == Channels(store).load(stream)
    assert kept.sequence == 2


def test_no_lane_is_held_while_the_disk_is_waited_for(tmp_path: Path) -> None:
    """A lane is for computing: it is given back before the commit, and taken again for the receipt."""
    tower, _, pair, stream = watched(tmp_path)
    lane, held = Lane(), list[bool]()
    context = msgspec.structs.replace(
        tower.context, lanes=lane, failpoint=lambda name: held.append(lane.held) if "commit" in name else None
    )

    accept_state(context, stream, pair.update_request(OWNER, 1))

    assert held == [False, False]
    assert lane.entered == 2
    assert not lane.held


def test_a_refused_state_gives_its_lane_back(tmp_path: Path) -> None:
    """Otherwise a few bad uploads would stop all good ones."""
    tower, _, pair, stream = watched(tmp_path)
    good = pair.update_request(OWNER, 1)
    forged = msgspec.structs.replace(good.state.signatures.a, state=Hex64(bytes(64)))
    signatures = msgspec.structs.replace(good.state.signatures, a=forged)
    bad = msgspec.structs.replace(good, state=msgspec.structs.replace(good.state, signatures=signatures))

    for _ in range(processors() + 1):
        with pytest.raises(InvalidSignature):
            accept_state(tower.context, stream, bad)

    assert accept_state(tower.context, stream, good).answer.sequence == 1
