"""The five stories in which every point is reached, and which names each of them reaches."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from domain.units import Side
from tests.crash.stage import Stage

FINAL = 100


def confirmed_breach(stage: Stage) -> None:
    """A breach in a block, blocks without us until bids rise, the penalty, and a hundred blocks on top."""
    pair = stage.open(challenge_period=14)
    stage.arm()
    stage.node.generate_block([pair.commitment(Side.A, 1)])
    stage.look()
    for _ in range(8):
        stage.node.generate_block()
        stage.look()
    stage.node.mine(1)
    stage.look()
    stage.node.mine(FINAL)
    stage.look()


def swapped_in_the_mempool(stage: Stage) -> None:
    """A stale commitment waits in the mempool, another one is mined in its place."""
    pair = stage.open()
    stage.arm()
    stage.node.send_raw(pair.commitment(Side.A, 0))
    stage.look()
    stage.node.generate_block([pair.commitment(Side.A, 2)])
    stage.look()
    stage.node.mine(1)
    stage.look()


def reorg_over_breach_and_penalty(stage: Stage) -> None:
    """Breach and penalty leave the chain with twelve blocks; the node's mempool does not take them back."""
    pair = stage.open(challenge_period=40)
    stage.node.generate_block([pair.commitment(Side.A, 1)])
    stage.look()
    stage.node.mine(11)
    stage.look()
    stage.arm()
    stage.node.reorg(12)
    stage.look(3)
    stage.node.mine(1)
    stage.look()


def state_upload(stage: Stage) -> None:
    """A channel is registered and updated; then its newest revoked state is published."""
    stage.arm()
    pair = stage.register()
    for _ in range(3):
        stage.upload(pair)
    stage.node.generate_block([pair.commitment(Side.A, 2)])
    stage.look()
    stage.node.mine(1)
    stage.look()


def catch_up(stage: Stage) -> None:
    """Away for twenty blocks, a breach in the seventh; the program that returns has other views."""
    pair = stage.open()
    stage.stop()
    for number in range(20):
        stage.node.generate_block([pair.commitment(Side.A, 1)] if number == 6 else [])
    views = sqlite3.connect(stage.world.directory / "views.db", isolation_level=None)
    views.execute("UPDATE views_meta SET layout = x'00'")
    views.close()
    stage.arm()
    stage.wake()
    stage.look()
    stage.node.mine(1)
    stage.look()


def missed_by_the_scanner(stage: Stage) -> None:
    """The scanner of blocks is blind for the block with the breach; only the audit of outputs can find it."""
    pair = stage.open(challenge_period=24)
    stage.arm()
    stage.node.generate_block([pair.commitment(Side.A, 1)])
    stage.look_blindly()
    for _ in range(8):
        stage.node.generate_block()
        stage.look()
    stage.node.mine(1)
    stage.look()


Scenario = Callable[[Stage], None]

_BLOCKS = {"block_fetch", "block_parse", "connect", "projection_apply", "projection_position"}
_ANSWER = {"broadcast", "broadcast_result_commit", "confirm_commit"}
_BREACH = _BLOCKS | _ANSWER | {"breach_commit", "prepare_commit"}

SCENARIOS: dict[Scenario, set[str]] = {
    confirmed_breach: _BREACH | {"bump_commit", "audit_query", "resolve_commit"},
    swapped_in_the_mempool: _BREACH,
    reorg_over_breach_and_penalty: _BLOCKS | _ANSWER | {"breach_commit", "disconnect", "package"},
    state_upload: _BREACH | {"register_commit", "state_commit", "receipt_sign", "receipt_send"},
    catch_up: _BREACH | {"audit_query", "migration_step"},
    missed_by_the_scanner: _BREACH | {"audit_query", "audit_commit", "bump_commit"},
}
"""Each story with the names that it reaches; a test compares them with what was passed."""
