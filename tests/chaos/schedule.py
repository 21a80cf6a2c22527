"""Plays a plan on two real nodes: a safety phase with everything that goes wrong, a liveness phase without.

    play(draw(17), nodes, directory)        # raises `Violation` or `AssertionError` when the tower failed; then
                                            # `directory` has a transcript of what it asked its node

Fairness is `Stage.slack`: what keeps the tower from its work, and every reorg, leaves each open breach `SAFE` blocks;
in those last blocks everything works, each block gets a clean pass, and no miner asks for more than the whole value.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from tests.chaos import faults, mischief
from tests.chaos.oracles import assert_agrees, assert_all_is_well
from tests.chaos.pair import NodePair
from tests.chaos.plan import CHALLENGE_PERIOD, Plan, Step
from tests.chaos.service import ServiceStage
from tests.chaos.stage import Stage

ACTS = faults.ACTS | mischief.ACTS
LIVENESS_BLOCKS = CHALLENGE_PERIOD + 10


def play(plan: Plan, nodes: NodePair, directory: Path, told: list[str] | None = None) -> Counter[str]:
    """The whole schedule; returns counts of what happened. `told` takes the story, also of a failure."""
    stage = (ServiceStage if plan.service else Stage)(nodes, directory, plan.seed)
    if told is not None:
        stage.told = told
    try:
        stage.open_channels(plan.channels)
        for step in plan.steps:
            _step(stage, step, plan.numbers(step))
        _live(stage)
        assert_all_is_well(stage)
    except BaseException:
        asked = [f"{line.method} {line.params} {line.fault or ''}" for line in stage.proxy.transcript]
        (directory / "transcript.txt").write_text("\n".join(asked))
        raise
    finally:
        stage.close()
    return stage.counts


def _step(stage: Stage, step: Step, rng: random.Random) -> None:
    for name in step.acts:
        stage.tell(f"{step.number}: {name}")
        stage.counts[name] += 1
        ACTS[name](stage, rng)
    for _ in range(step.blocks):
        _block(stage, step.passes)


def _block(stage: Stage, passes: int) -> None:
    """One block with the passes that the step has for it, or with clean ones where the promise needs them."""
    if stage.slack(1) >= 0:
        stage.mine()
        for _ in range(passes):
            stage.look()
        stage.nodes.settle()
        return
    stage.repair()
    stage.clean_pass()
    stage.nodes.settle()
    stage.mine()
    stage.clean_pass()
    stage.nodes.settle()


def _live(stage: Stage) -> None:
    """Nothing is broken any more: one clean pass without a further block, then one for each block."""
    stage.tell("no more faults")
    stage.repair()
    stage.clean_pass()
    stage.nodes.settle()
    assert_agrees(stage)
    for _ in range(LIVENESS_BLOCKS):
        stage.mine()
        stage.clean_pass()
        stage.nodes.settle()
    assert_agrees(stage)
