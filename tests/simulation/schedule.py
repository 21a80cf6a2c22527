"""A schedule: an opening without faults, random steps, then the proof that nothing was lost.

    result = play(17)                             # raises `Violation`
    result = play(17, steps=(0, 5, 9))            # only these steps of it, for shrinking

Every step has its own random source made of the seed and its number, so that leaving one out changes no other one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from domain.errors import DomainError
from tests.simulation import oracles
from tests.simulation.actions import ACTIONS, move, play_reorg
from tests.simulation.economy import thrift
from tests.simulation.fairness import allows_blocks, allows_reorg, excuse, knows_every_breach
from tests.simulation.faults import Rates
from tests.simulation.judge import Violation
from tests.simulation.miners import FULL_BUDGET
from tests.simulation.world import SWEEP, Parts, SimWorld
from watchtower.ports import WatchtowerError
from watchtower.tower import Hints

BEYOND_EVERY = 12
"""One schedule in so many ignores the bounds of the promise and is not held against O1."""

FILES_EVERY = 100
"""One schedule in so many keeps its log and its views in real files."""

EXTRA_BLOCKS = 10

CALM_MOMENT = 0.03
"""Share of the steps at whose end the log is compared with the world."""


class Result(msgspec.Struct, frozen=True):
    """What a schedule went through; `log` are the stored rows, `told` the lines of the trace."""

    seed: int
    bounded: bool
    steps: int
    counts: Counter[str]
    log: list[tuple[str, int, str, bytes]]
    told: list[str]


class Failed(Exception):
    """A schedule that broke an oracle: the world as it was then, and the number of the step."""

    def __init__(self, world: SimWorld, step: int, violation: Violation) -> None:
        super().__init__(str(violation))
        self.world, self.step, self.violation = world, step, violation


def steps_of(seed: int) -> int:
    """How many steps the schedule of a seed has."""
    return 40 + seed * 7919 % 51


def play(seed: int, *, steps: Sequence[int] | None = None, parts: Parts | None = None) -> Result:
    """Play the schedule of a seed, or only some of its steps; raises `Failed`."""
    chosen = range(steps_of(seed)) if steps is None else steps
    with thrift():
        return _play(seed, chosen, parts)


def _play(seed: int, chosen: Sequence[int], parts: Parts | None) -> Result:
    beyond, real_files = seed % BEYOND_EVERY == BEYOND_EVERY - 1, seed % FILES_EVERY == FILES_EVERY - 1
    world = SimWorld(seed, bounded=not beyond, real_files=real_files, parts=parts)
    number = -1
    try:
        open_channels(world)
        for number in chosen:
            world.tell(f"--- step {number}")
            _step(world, random.Random(seed * 1_000 + number))
        number = -2
        _finish(world)
        return Result(seed, world.bounded, len(chosen), _counts(world), world.store.rows, world.told)
    except Violation as violation:
        raise Failed(world, number, violation) from violation
    except (DomainError, WatchtowerError, AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        ended = Violation("O7", f"the process would have ended with {type(error).__name__}: {error}")
        raise Failed(world, number, ended) from error
    finally:
        world.disk.close()


def open_channels(world: SimWorld) -> None:
    """Registrations, fundings and some uploads, without faults."""
    world.clean_pass()
    for case in world.cases:
        world.clients.act(world.context, case, world.random)
        world.chain.send(case.channel.funding)
    world.bottom = world.chain.height
    world.mine()
    world.clean_pass()
    for case in world.cases:
        for _ in range(world.random.randint(1, 4)):
            world.clients.act(world.context, case, world.random)
        case.asked = case.revoked
    world.mine(world.random.randint(1, 6))
    world.clean_pass()


def _step(world: SimWorld, source: random.Random) -> None:
    choice = source.choice
    rates = Rates(
        rpc=choice((0, 0.02, 0.2)),
        crash=choice((0, 0.01, 0.1)),
        move=choice((0, 0, 0.02)),
        refusal=choice((0.05, 0.05, 0.3)),
        upload=choice((0, 0.02, 0.1)),
    )
    world.faults.set(rates, source)
    world.faults.move = lambda: move(world, source)
    world.faults.upload = lambda: _upload(world, source)
    _end_troubles(world)
    for probability, action in ACTIONS:
        if source.random() < probability:
            action(world, source)
    if source.random() < 0.3:
        _client(world, source)
    passes = sorted(source.randrange(4) for _ in range(choice((0, 1, 1, 2))))
    blocks = source.randint(1, 3)
    for number in range(blocks):
        _block(world)
        for _ in range(passes.count(number) + (passes.count(3) if number == blocks - 1 else 0)):
            _look(world, source)
    if source.random() < CALM_MOMENT:
        _calm_moment(world)
    if world.bounded:
        oracles.o1_safety(world)


def _calm_moment(world: SimWorld) -> None:
    """Everything is in order for two passes: then the log says what is the case, without a block more."""
    world.tell("calm")
    world.clean_pass()
    oracles.o7_quiet(world)
    world.clean_pass()  # the first one may have sent a commitment again, which the next look finds
    oracles.o3_scan(world)
    oracles.o3_mempool(world)
    oracles.o4_cursor(world)


def _client(world: SimWorld, source: random.Random) -> None:
    case = source.choice(world.cases)
    world.guarded(lambda: world.clients.act(world.context, case, source))
    excuse(world, case)


def _upload(world: SimWorld, source: random.Random) -> None:
    """A client speaks in the middle of a pass."""
    case = source.choice(world.cases)
    try:
        world.clients.act(world.context, case, source)
    finally:
        excuse(world, case)


def _block(world: SimWorld) -> None:
    """One block; in the last blocks of a window the tower works before and after it."""
    if allows_blocks(world, 1):
        world.mine()
        return
    world.miners.censored_until = world.miners.empty_until = 0
    if world.looked_at != world.chain.tip.hash:
        world.clean_pass(blocks=not knows_every_breach(world))
    world.mine()
    world.clean_pass(blocks=not knows_every_breach(world))
    if not world.node.is_dark:
        oracles.o7_quiet(world)


def _look(world: SimWorld, source: random.Random) -> None:
    touched = frozenset(case.funding for case in world.cases if source.random() < 0.3)
    world.look(source.choice((SWEEP, SWEEP, Hints(), Hints(touched=touched))))
    # Views that hold events which wait in memory are made anew after a crash, never found again.
    if source.random() < 0.1 and not world.holds_events():
        world.disk.keep_views()
    if world.error is None and world.report is not None:
        oracles.o8_bounded(world)


def _end_troubles(world: SimWorld) -> None:
    height = world.chain.height
    if world.node.is_troubled and height >= world.node.until:
        world.node.heal()
    if world.store.full and height >= world.full_until:
        world.store.full = False


def _finish(world: SimWorld) -> None:
    """The liveness phase: no faults any more, but the highest price that a penalty can pay."""
    world.tell("--- finish")
    world.miners.threshold = FULL_BUDGET
    world.miners.censored_until = world.miners.empty_until = 0
    if world.random.random() < 0.3:
        _last_turn(world)
    _calm_moment(world)
    longest = max(case.channel.period for case in world.cases)
    for _ in range(longest + EXTRA_BLOCKS):
        world.mine()
        world.clean_pass()
    world.miners.threshold = 0.0
    world.chain.mempool.raise_minimum(0.0)
    for _ in range(3):
        world.mine()
        world.clean_pass()
    _judge(world)


def _last_turn(world: SimWorld) -> None:
    """The tower has seen everything; then other blocks stand at the same heights, and no further one tells."""
    world.clean_pass()
    depth = world.random.randint(1, 3)
    if world.chain.height - depth >= world.bottom and allows_reorg(world, depth, depth):
        play_reorg(world, depth, depth, world.random)


def _judge(world: SimWorld) -> None:
    world.clean_pass()
    if world.bounded:
        oracles.o1_safety(world)
        oracles.o1_answered(world)
    oracles.o2_nothing_lost(world)
    oracles.o3_views(world)
    oracles.o3_scan(world)
    oracles.o3_mempool(world)
    oracles.resolved_as_due(world)
    oracles.resolved_in_time(world)
    oracles.o4_cursor(world)
    oracles.o4_undone_for_a_reason(world)
    oracles.o7_quiet(world)
    oracles.o8_bounded(world)
    oracles.o9_silent(world)


def _counts(world: SimWorld) -> Counter[str]:
    counts = world.counts + world.faults.counts + world.clients.counts
    counts["breaches_detected"] = len(world.judge.breaches)
    counts["bids"] = world.judge.bids
    counts["critical_bids"] = world.judge.critical_bids
    counts["penalties_sent"] = world.judge.penalties_sent
    counts["penalties_confirmed"] = sum(
        bool(end.taker) and end.spend is not None and case.is_stale(end.spend.sequence)
        for case in world.cases
        for end in [oracles.end_of(world, case)]
    )
    return counts
