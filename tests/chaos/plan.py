"""What a seed means: the channels of a schedule, and its steps with what goes wrong in each.

    plan = draw(17)
    plan.only({2, 5})       # the same schedule with two of its steps: how a failure is made small

Each step draws its own numbers from the seed and its place, so leaving others out changes nothing about it.
"""

from __future__ import annotations

import random
from collections.abc import Collection

import msgspec

CHALLENGE_PERIOD = 24
SERVICE_EVERY = 10
"""One schedule in ten runs the tower as a process of its own."""

MISCHIEF = {
    "block_breach": 7,
    "mempool_breach": 4,
    "hidden_breach": 2,
    "package_breach": 2,
    "swap_in_mempool": 2,
    "honest_close": 2,
}
"""What the counterparty does, by weight."""

FAULTS = {
    "reorg": 8,
    "flip_flop": 1,
    "node_restart": 2,
    "node_killed": 2,
    "node_outage": 2,
    "cut_off": 3,
    "node_evicts": 2,
    "network_evicts": 1,
    "rpc_lost_before": 2,
    "rpc_lost_after": 3,
    "rpc_hangs": 1,
    "rpc_truncated": 1,
    "rpc_garbled": 1,
    "rpc_busy": 1,
    "rpc_warming_up": 2,
    "rpc_unknown_refusal": 2,
    "chain_moves_in_pass": 3,
    "absurd_estimate": 1,
    "fee_jump": 4,
    "censorship": 2,
    "tower_killed": 4,
    "tower_restart": 2,
    "tower_away": 2,
    "views_lost": 1,
    "disk_full": 2,
    "clock_jump": 1,
    "upload": 2,
}
"""What goes wrong, by weight."""

ONLY_PASS_BY_PASS = {"chain_moves_in_pass", "disk_full", "clock_jump", "tower_killed"}
ONLY_AS_PROCESS = {"bells_broken": 6, "tower_restart": 6}
"""A process cannot be stopped at a point, has no clock or disk of its own here, but has bells and can be killed."""


class ChannelPlan(msgspec.Struct, frozen=True):
    """One channel: revoked states, HTLCs in its newest one, capacity in satoshi."""

    updates: int
    htlcs: bool
    capacity: int


class Step(msgspec.Struct, frozen=True):
    """`acts` happen first; then `blocks` blocks, each followed by `passes` passes of the tower."""

    number: int
    acts: tuple[str, ...]
    blocks: int
    passes: int


class Plan(msgspec.Struct, frozen=True):
    """A whole schedule."""

    seed: int
    service: bool
    channels: tuple[ChannelPlan, ...]
    steps: tuple[Step, ...]

    def numbers(self, step: Step) -> random.Random:
        """The random numbers of a step."""
        return random.Random(f"{self.seed}/{step.number}")

    def only(self, numbers: Collection[int]) -> Plan:
        """The same schedule with some of its steps."""
        return msgspec.structs.replace(self, steps=tuple(s for s in self.steps if s.number in numbers))


def draw(seed: int, *, service: bool | None = None) -> Plan:
    """The schedule of a seed: 2-3 channels, 10-16 steps, 3-8 faults, a breach early on."""
    rng = random.Random(seed)
    as_process = seed % SERVICE_EVERY == SERVICE_EVERY - 1 if service is None else service
    channels = tuple(
        ChannelPlan(rng.randint(2, 4), rng.random() < 0.4, rng.choice([100_000, 1_000_000]))
        for _ in range(rng.randint(2, 3))
    )
    count = rng.randint(10, 16)
    faults: list[list[str]] = [[] for _ in range(count)]
    table = {name: weight for name, weight in FAULTS.items() if name not in ONLY_PASS_BY_PASS} | ONLY_AS_PROCESS
    table = table if as_process else FAULTS
    for name in rng.choices(list(table), list(table.values()), k=rng.randint(3, 8)):
        faults[rng.randrange(count)].append(name)
    for place in {0, 1, *(at for at in range(count) if rng.random() < 0.15)}:
        faults[place] += rng.choices(list(MISCHIEF), list(MISCHIEF.values()))
    steps = tuple(
        Step(number, tuple(rng.sample(acts, len(acts))), rng.randint(1, 3), rng.choice([0, 1, 1, 2]))
        for number, acts in enumerate(faults)
    )
    return Plan(seed, as_process, channels, steps)
