"""The simulation itself: seeds that failed once, the same seed twice, and what the runner tells."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256

import pytest

from tests.simulation.__main__ import KEPT, main
from tests.simulation.runner import play_seeds, table
from tests.simulation.schedule import Failed, open_channels, play
from tests.simulation.shrink import shrink
from tests.simulation.world import Parts, SimWorld, build_tower
from watchtower.node.blocks import BlockUnparseable
from watchtower.responder.runs import RespondReport
from watchtower.tower import Tower

KEPT_SEEDS = [int(line) for line in KEPT.read_text().split()]
DIGESTS = "import sys; from tests.simulation.test_simulation import digest; print(*map(digest, map(int, sys.argv[1:])))"


def digest(seed: int) -> str:
    """A hash of everything that a schedule stored, byte for byte."""
    rows = play(seed).log
    return sha256(b"".join(repr(row[:3]).encode() + row[3] for row in rows)).hexdigest()


def digests_elsewhere(seeds: range, hash_seed: str) -> list[str]:
    """The same from another process, in which sets and dictionaries of strings have another order."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", DIGESTS, *map(str, seeds)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return found.stdout.split()


@pytest.mark.parametrize("seed", KEPT_SEEDS)
def test_a_seed_that_failed_once_passes(seed: int) -> None:
    """It found a bug; it stays in the gate for ever."""
    assert play(seed).counts["blocks"] > 0


def test_some_schedules_end_well_and_had_trouble() -> None:
    """No violation, although there were reorgs, crashes and cheaters."""
    total = play_seeds(range(1_000, 1_006))

    assert [] == total.failures
    assert min(total.counts[name] for name in ("reorgs", "crashes", "breaches_detected", "penalties_confirmed")) > 0


@pytest.mark.slow
def test_a_seed_gives_the_same_log_in_another_process() -> None:
    """Nothing depends on the order of a set, on a clock or on real randomness."""
    assert digests_elsewhere(range(4), "1") == [digest(seed) for seed in range(4)]


@pytest.mark.slow
def test_twenty_seeds_give_the_same_logs_with_other_hashes() -> None:
    """Three processes, three orders of hashes, the same bytes."""
    seeds = range(100, 120)
    expected = [digest(seed) for seed in seeds]

    assert expected == digests_elsewhere(seeds, "7")
    assert expected == digests_elsewhere(seeds, "4242")


def test_a_step_that_is_left_out_changes_no_other_step() -> None:
    """The trace up to the gap is the same: every step has its own random source."""
    whole, part = play(5), play(5, steps=range(20))
    shared = whole.told[: whole.told.index(next(line for line in whole.told if line.endswith("--- step 20")))]

    assert shared == part.told[: len(shared)]


def idle_tower(world: SimWorld) -> Tower:
    """A tower that sees everything and answers nothing."""
    tower = build_tower(world)
    tower.responder.respond = lambda tip: RespondReport()  # type: ignore[method-assign]
    tower.responder.resend = lambda: None  # type: ignore[method-assign]
    return tower


@pytest.mark.slow
def test_a_failing_schedule_is_shrunk_to_the_steps_that_matter() -> None:
    """A tower that never answers loses money, and a few steps are enough to show it."""
    parts = Parts(tower=idle_tower)
    with pytest.raises(Failed) as whole:
        play(1, parts=parts)
    steps, failure = shrink(1, parts=parts, tries=40)

    assert ("O1", "O1") == (whole.value.violation.oracle, failure.violation.oracle)
    assert len(steps) < 20
    with pytest.raises(Failed, match="O1"):
        play(1, steps=steps, parts=parts)


def test_a_secret_that_comes_while_no_block_can_be_read_is_used() -> None:
    """The close in the log becomes a breach, and is answered, although the follower stands still."""
    world = SimWorld(1)
    open_channels(world)
    case = next(case for case in world.cases if case.newest < len(case.channel.uploads))
    world.miners.smuggled.append(case.channel.commitments[case.newest])
    world.mine()
    world.clean_pass()
    world.mine()
    world.node.damaged.add(world.chain.tip.hash)
    world.node.opaque = True
    world.clients.reveal(world.context, case, case.newest)
    world.look()

    assert (1, 1) == (world.judge.bids, world.judge.penalties_sent)
    assert world.report is not None
    assert isinstance(world.report.error, BlockUnparseable)


def test_the_command_plays_one_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for a schedule that holds."""
    assert main(["--seed", "3", "--steps", "0,1,2"]) == 0

    assert capsys.readouterr().out == "seed 3: 3 steps, no violation\n"


def test_the_table_names_what_was_played() -> None:
    """A figure is only worth something with the troubles behind it."""
    shown = table(play_seeds([7]))

    assert "schedules                                         1" in shown
    assert "violations                                        0" in shown
