"""Hypothesis as the adversary: moves of the world in any order, and nothing is ever stolen.

The seed runner plays more; this one finds the few moves that matter. Its moves keep to the same bounds of the promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.simulation import actions, oracles, schedule
from tests.simulation.economy import thrift
from tests.simulation.fairness import allows_blocks, allows_reorg, excuse
from tests.simulation.faults import Rates
from tests.simulation.judge import Violation
from tests.simulation.miners import FULL_BUDGET, THRESHOLDS
from tests.simulation.mutants.catalog import BY_NAME
from tests.simulation.mutants.planting import planted
from tests.simulation.world import SimWorld
from tests.support.examples import examples

STEPS = 30
CHANNELS = st.integers(0, 2)


@contextmanager
def held() -> Iterator[None]:
    """A broken oracle as an assertion, which Hypothesis can shrink."""
    try:
        yield
    except Violation as violation:
        raise AssertionError(str(violation)) from violation


class Adversary(RuleBasedStateMachine):
    """A thief, miners and a moving chain against one tower with three channels."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self._open.enter_context(thrift())

    @initialize(seed=st.integers(0, 11))
    def channels_open(self, seed: int) -> None:
        """Three channels with some states each."""
        self.world = SimWorld(seed)
        self._open.callback(self.world.disk.close)
        with held():
            schedule.open_channels(self.world)

    @rule(channel=CHANNELS, state=st.integers(0, 3), way=st.integers(0, 3))
    def thief_publishes(self, channel: int, state: int, way: int) -> None:
        """A revoked state, to the mempool, with a child, or in a block."""
        case = self.world.cases[channel]
        if case.revoked >= 0 and not actions._is_confirmed(self.world, case):
            raw = case.channel.commitments[min(state, case.revoked)]
            with held():
                actions._publish(self.world, case, raw, Random(way), f"state {state} of {channel}")

    @rule(blocks=st.integers(1, 3))
    def miner_finds(self, blocks: int) -> None:
        """Blocks; near a deadline the tower works at each."""
        with held():
            for _ in range(blocks):
                schedule._block(self.world)

    @rule()
    def tower_looks(self) -> None:
        """One pass."""
        with held():
            self.world.look()

    @rule(depth=st.sampled_from(sorted(set(actions.DEPTHS))), longer=st.integers(0, 1), order=st.integers(0, 9))
    def chain_turns(self, depth: int, longer: int, order: int) -> None:
        """A reorganization, as deep as is fair."""
        world = self.world
        depth = min(depth, world.chain.height - world.bottom)
        if depth > 0 and allows_reorg(world, depth, depth + longer):
            with held():
                actions.play_reorg(world, depth, depth + longer, Random(order))

    @rule()
    def mempool_evicts(self) -> None:
        """Our penalties leave the mempool."""
        with held():
            actions.evict(self.world, Random(0))

    @rule(threshold=st.sampled_from((*THRESHOLDS, FULL_BUDGET)))
    def feerate_jumps(self, threshold: float) -> None:
        """What the next blocks cost."""
        self.world.miners.threshold = threshold
        self.world.chain.going_rate = max(threshold, 1.0)

    @rule()
    def tower_is_killed(self) -> None:
        """The process dies, wherever it is between two passes."""
        if allows_blocks(self.world, 1):
            self.world.crash()

    @rule(number=st.integers(0, 99))
    def calls_and_points_fail(self, number: int) -> None:
        """One pass in which anything may fail."""
        with held():
            self.world.faults.set(Rates(rpc=0.2, crash=0.2), Random(number))
            self.world.look()
        self.world.faults.off()

    @rule(channel=CHANNELS)
    def client_uploads(self, channel: int) -> None:
        """The next state of a channel."""
        case = self.world.cases[channel]
        with held():
            self.world.guarded(lambda: self.world.clients.act(self.world.context, case, Random(1)))
        excuse(self.world, case)

    @invariant()
    def nothing_is_stolen(self) -> None:
        """O1, and the log is a walk along blocks (O4)."""
        with held():
            oracles.o1_safety(self.world)
            oracles.o4_walk(self.world)

    def teardown(self) -> None:
        """Whatever happened, it ends well: the liveness phase with all oracles."""
        try:
            if hasattr(self, "world"):
                with held():
                    schedule._finish(self.world)
        finally:
            self._open.close()


def adversary(tries: int, phases: Sequence[Phase] = tuple(Phase)) -> settings:
    """Settings for so many examples."""
    return settings(
        max_examples=tries,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.slow
def test_no_order_of_moves_steals_anything() -> None:
    """Moves in any order, the tower killed and blind in between: every breach is punished."""
    run_state_machine_as_test(Adversary, settings=adversary(examples(150)))


@pytest.mark.slow
def test_the_moves_find_a_planted_bug() -> None:
    """Whoever publishes a penalty once and never again is robbed by some order of moves."""
    bug = planted(BY_NAME["published-once"])

    with bug, pytest.raises(AssertionError, match=r"O1: channel .* ended by the cheater's settlement"):
        run_state_machine_as_test(Adversary, settings=adversary(100, (Phase.generate,)))
