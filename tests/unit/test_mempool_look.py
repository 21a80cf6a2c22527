"""How much one look into the mempool asks the node for, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from domain.chain import OutPoint
from domain.units import Side
from tests.support.clocks import FixedClock
from tests.support.parties import Pair, make_party, open_pair
from tests.support.towers import TIP, Bench
from watchtower.chain import mempool
from watchtower.chain.conditions import Conditions
from watchtower.chain.mempool import PUT_OFF_LIMIT, Hints, MempoolWatch
from watchtower.chain.needs import Needs
from watchtower.models import LiveModels
from watchtower.ports import NodeUnavailable
from watchtower.store.datastore import no_failpoint

HASH = bytes(32)


class AskedNode:
    """An empty mempool that remembers the questions."""

    def __init__(self) -> None:
        self.spends: list[set[OutPoint]] = []
        self.outputs: list[set[OutPoint]] = []
        self.tips = 0

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, bytes]:
        """Nobody spends anything."""
        self.spends.append(set(outpoints))
        return {}

    def utxos(self, outpoints: Sequence[OutPoint], include_mempool: bool) -> list[None]:
        """Nothing exists."""
        self.outputs.append(set(outpoints))
        return [None] * len(outpoints)

    def best_hash(self) -> bytes:
        """The cursor's tip."""
        self.tips += 1
        return HASH


class Stage:
    """A tower's mempool watch over channels of a real log."""

    def __init__(self, directory: Path) -> None:
        self.bench = Bench(directory)
        self.node = AskedNode()
        self.pairs: list[Pair] = []

    def channels(self, count: int, confirmed: bool = True) -> Stage:
        """Register channels."""
        for number in range(count):
            names = (f"alice{number}", f"bob{number}")
            self.pairs.append(open_pair(names=names, parties=(make_party(names[0]), make_party(names[1]))))
            self.bench.fund(self.pairs[-1])
            self.bench.services.register(self.pairs[-1].registration(Side.B))
            if confirmed:
                self.bench.confirm(self.pairs[-1])
        self.bench.catch_up()
        return self

    def watch(self) -> MempoolWatch:
        """The object under test."""
        channels = self.bench.context.channels
        models = LiveModels(self.bench.projector, self.bench.rows, channels)
        needs = Needs(
            node=self.node,  # type: ignore[arg-type]
            store=self.bench.store,
            channels=channels,
            models=models,
            conditions=Conditions(channels, models),
            clock=FixedClock(),
            failpoint=no_failpoint,
        )
        standing = SimpleNamespace(cursor=SimpleNamespace(hash=HASH, height=TIP))
        return MempoolWatch(needs, standing)  # type: ignore[arg-type]

    @property
    def outpoints(self) -> list[OutPoint]:
        """Funding outpoints in the order of registration."""
        return [pair.params.funding_outpoint for pair in self.pairs]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """No channel yet."""
    return Stage(tmp_path)


def test_a_touched_outpoint_is_asked_for_alone(stage: Stage) -> None:
    """The sweep of all others waits for the next look, which must follow soon."""
    watch = stage.channels(2).watch()
    first = stage.outpoints[0]

    complete = watch.look(Hints(touched=frozenset({first})))
    pending = watch.sweep_pending
    watch.look(Hints())

    assert (False, True) == (complete, pending)
    assert [{first}, set(stage.outpoints)] == stage.node.spends
    assert not watch.sweep_pending


def test_touches_cannot_put_the_sweep_off_for_ever(stage: Stage) -> None:
    """After so many short looks one is complete although something was touched."""
    watch = stage.channels(2).watch()
    hints = Hints(touched=frozenset(stage.outpoints[:1]))

    answers = [watch.look(hints) for _ in range(PUT_OFF_LIMIT + 1)]

    assert [False] * PUT_OFF_LIMIT + [True] == answers
    assert set(stage.outpoints) == stage.node.spends[-1]


def test_gaps_in_a_row_cannot_keep_the_sweep_at_its_beginning(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that is asked for while one runs follows it; after two rounds everything was asked since the last gap."""
    monkeypatch.setattr(mempool, "SLICE", 2)
    watch = stage.channels(5).watch()
    for _ in range(3):
        watch.look(Hints(full_sweep=True))
    everything = {pair.params.funding_outpoint for pair in stage.pairs}
    assert everything == set().union(*stage.node.spends)
    stage.node.spends.clear()
    while watch.sweep_pending:
        watch.look(Hints())
    assert everything == set().union(*stage.node.spends)


def test_a_slice_without_answer_is_asked_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node fails in the middle of a sweep: no outpoint is left out."""
    monkeypatch.setattr(mempool, "SLICE", 2)
    watch = stage.channels(3).watch()
    answer = stage.node.mempool_spenders
    monkeypatch.setattr(stage.node, "mempool_spenders", fail)
    with pytest.raises(NodeUnavailable):
        watch.look(Hints(full_sweep=True))
    monkeypatch.setattr(stage.node, "mempool_spenders", answer)
    while watch.sweep_pending:
        watch.look(Hints())
    assert {pair.params.funding_outpoint for pair in stage.pairs} == set().union(*stage.node.spends)


def fail(_outpoints: Sequence[OutPoint]) -> dict[OutPoint, bytes]:
    """The node is away."""
    raise NodeUnavailable("gettxspendingprevout: no answer")


def test_unspent_outpoints_without_history_are_no_news(stage: Stage) -> None:
    """No tip is asked for to prove the absence of something that was never there."""
    stage.channels(2).watch().look(Hints(full_sweep=True))

    assert 0 == stage.node.tips


def test_fundings_are_asked_for_in_turns(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many channels wait for their funding, a look asks for a slice, and each one gets its turn."""
    monkeypatch.setattr(mempool, "SLICE", 2)
    watch = stage.channels(3, confirmed=False).watch()

    watch.look(Hints())
    watch.look(Hints())

    assert [2, 2] == [len(asked) for asked in stage.node.outputs]
    assert set(stage.outpoints) == stage.node.outputs[0] | stage.node.outputs[1]
