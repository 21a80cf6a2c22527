"""The oracles O1 to O4 and O7 to O9; O5 and O6 are watched event by event in `judge.py`.

Each takes the world and returns nothing, or raises `Violation`. O1, O8 are asked after every step; the others when
the faults are over. A schedule beyond the bounds of the promise is not asked O1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from domain.chain import make_outpoint
from domain.channel_fold import fold
from domain.events import CHAIN_STREAM, BlockConnected, BlockDisconnected, CursorStarted, SpendKind
from domain.status import ChannelStatus
from domain.units import FINAL_DEPTH
from projections.catalog import PROJECTIONS, TABLES
from projections.projector import Projector
from tests.fakes.rows import MemoryRows
from tests.simulation.case import Case, Known, known_transactions
from tests.simulation.judge import Violation
from watchtower.repository import Channels

if TYPE_CHECKING:
    from tests.simulation.world import SimWorld

EVENTS_PER_BLOCK = 60
"""Events of three channels for one block that moved: far above what any honest pass writes."""

CALLS_PER_MOVE = 40
CALLS_PER_PASS = 150
"""Calls of the node in one pass: a fixed part, and one for each block that it connected or disconnected."""


class End(msgspec.Struct, frozen=True):
    """How a channel stands on the model chain: the spend of its funding output and the spend of its contest output."""

    spend: Known | None = None
    spend_txid: bytes = b""
    height: int = 0
    block_hash: bytes = b""
    taker: bytes = b""
    taken_at: int = 0
    taken_in: bytes = b""


def end_of(world: SimWorld, case: Case) -> End:
    """A fresh look at the true chain."""
    ledger = world.chain.ledger
    txid = ledger.spenders.get(case.funding)
    if txid is None:
        return End()
    place = ledger.confirmation(txid)
    known = known_transactions(case.channel.index).get(txid)
    if place is None or known is None:
        raise AssertionError("something that was never signed spends a funding output")
    taker = ledger.spenders.get(make_outpoint(txid, 0)) if known.kind in ("commit", "own") else None
    if taker is None:
        return End(known, txid, place.height, place.block_hash)
    end = ledger.confirmation(taker)
    assert end is not None, "a spender in the ledger stands in a block"
    return End(known, txid, place.height, place.block_hash, taker, end.height, end.block_hash)


def o1_safety(world: SimWorld) -> None:
    """No foreign transaction takes the contest output of a revoked state, and our penalty stands at D or below."""
    for case in world.cases:
        end = end_of(world, case)
        if not _is_breach(case, end) or not end.taker:
            continue
        assert end.spend is not None
        deadline = end.height + case.channel.period - 1
        foreign = not _is_penalty(world, case, end.taker)
        if foreign or end.taken_at > deadline:
            whose = "the cheater's settlement" if foreign else "our penalty"
            raise Violation(
                "O1",
                f"channel {case.channel.index}: state {end.spend.sequence} at height {end.height} ended by {whose} "
                f"at {end.taken_at}, deadline {deadline}",
            )


def o1_answered(world: SimWorld) -> None:
    """At the end every breach in a block was answered by a penalty in a block."""
    for case in world.cases:
        end = end_of(world, case)
        if _is_breach(case, end) and not end.taker:
            assert end.spend is not None
            raise Violation("O1", f"channel {case.channel.index}: state {end.spend.sequence} was never punished")


def o2_nothing_lost(world: SimWorld) -> None:
    """What a client was answered is in the log, byte for byte."""
    fresh = Channels(world.store)
    for case in world.cases:
        for sequence, header in case.answers:
            if sequence == 0:
                stored: object = header if world.store.version(case.stream) else None
            else:
                channel = fresh.find(case.stream)
                state = None if channel is None else fresh.stored_state(channel, sequence)
                stored = None if state is None else state.header
            if stored != header:
                raise Violation("O2", f"channel {case.channel.index}: the acknowledged state {sequence} is not stored")


def o3_views(world: SimWorld) -> None:
    """The read models and the cached folds equal what the log adds up to."""
    rows = MemoryRows()
    for _ in Projector(world.store, rows, PROJECTIONS).catch_up():
        pass
    for name, table in TABLES.items():
        expected, found = rows.page(table, None, 10**6), world.rows.page(table, None, 10**6)
        if expected != found:
            raise Violation("O3", f"the view {name} says {found} instead of {expected}")
    for case in world.cases:
        if not world.store.version(case.stream):
            continue
        expected_fold = fold(None, world.store.read_stream(case.stream))
        if world.channels.load(case.stream) != expected_fold:
            raise Violation("O3", f"channel {case.channel.index}: the cached fold differs from its events")


def o3_scan(world: SimWorld) -> None:
    """What the log says about funding and contest outputs equals a fresh scan of the chain."""
    for case in world.cases:
        if not world.store.version(case.stream):
            continue
        end, channel = end_of(world, case), world.channels.load(case.stream)
        spend = channel.confirmed_spend
        taken = None if spend is None else channel.contest_spend(spend.txid)
        said = (
            b"" if spend is None else spend.txid,
            b"" if spend is None or spend.block is None else spend.block.hash,
            b"" if taken is None else taken.txid,
            b"" if taken is None else taken.block.hash,
        )
        true = (end.spend_txid, end.block_hash, end.taker, end.taken_in)
        if said != true and channel.resolved is None:
            texts = [tuple(part[::-1].hex()[:8] for part in each) for each in (said, true)]
            raise Violation("O3", f"channel {case.channel.index}: the log says {texts[0]}, the chain {texts[1]}")


def o3_mempool(world: SimWorld) -> None:
    """What the log says about the mempool equals the mempool."""
    for case in world.cases:
        if not world.store.version(case.stream):
            continue
        seen = world.channels.load(case.stream).mempool_spend
        true = world.chain.mempool.spenders.get(case.funding)
        if (None if seen is None else seen.txid) != true:
            raise Violation("O3", f"channel {case.channel.index}: mempool spend {seen and seen.txid}, really {true}")


def o4_cursor(world: SimWorld) -> None:
    """The cursor is the node's tip, and the log's connects and disconnects are a walk."""
    cursor, tip = world.tower.follower.cursor, world.chain.ledger.tip
    if (cursor.height, cursor.hash) != (tip.height, tip.hash):
        raise Violation("O4", f"the cursor stands at {cursor.height}, the node at {tip.height}, or on another block")
    if o4_walk(world) != (tip.height, tip.hash):
        raise Violation("O4", "the walk of the log does not lead to the node's tip")


def o4_walk(world: SimWorld) -> tuple[int, bytes]:
    """The log's connects and disconnects are a walk; returns the height and hash at its end."""
    walk: list[tuple[int, bytes]] = []
    for event in world.store.read_stream(CHAIN_STREAM):
        payload = event.payload
        match payload:
            case CursorStarted():
                walk = [(payload.block.height, payload.block.hash)]
            case BlockConnected():
                if (payload.block.height - 1, payload.prev) != walk[-1]:
                    raise Violation(
                        "O4", f"block {payload.block.height} was connected on another block than its parent"
                    )
                walk.append((payload.block.height, payload.block.hash))
            case BlockDisconnected():
                if (payload.block.height, payload.block.hash) != walk.pop():
                    raise Violation("O4", f"block {payload.block.height} was disconnected and was not the tip")
    return walk[-1]


def o4_undone_for_a_reason(world: SimWorld) -> None:
    """No block was undone that the node had only lost for a while: branches of the model never win a second time."""
    left: set[bytes] = set()
    for event in world.store.read_stream(CHAIN_STREAM):
        payload = event.payload
        if isinstance(payload, BlockDisconnected):
            left.add(payload.block.hash)
        elif isinstance(payload, BlockConnected) and payload.block.hash in left:
            raise Violation("O4", f"block {payload.block.height} was disconnected although no branch beat it")


def o7_quiet(world: SimWorld) -> None:
    """With everything in order nothing is reported as wrong."""
    report = world.report
    if report is None or report.error is not None or report.respond.troubles:
        what = world.error if report is None else report.error or report.respond.troubles
        raise Violation("O7", f"a clean pass ends with {what!r}")


def o8_bounded(world: SimWorld) -> None:
    """The number of calls and of new events per pass is bounded by what moved."""
    followed = None if world.report is None else world.report.follow
    moved = max(world.faults.moves, 0 if followed is None else followed.connected + followed.disconnected)
    if world.faults.calls > CALLS_PER_PASS + CALLS_PER_MOVE * moved:
        raise Violation("O8", f"{world.faults.calls} calls of the node in a pass that moved {moved} blocks")
    if world.events_in_pass > EVENTS_PER_BLOCK * (moved + 1):
        raise Violation("O8", f"{world.events_in_pass} events in a pass that moved {moved} blocks")


def o9_silent(world: SimWorld) -> None:
    """No secret stands in an event, a log line or an error."""
    logged = "\n".join(world.captured)
    stored = b"".join(row[3] for row in world.store.rows)
    for case in world.cases:
        for secret in case.channel.secrets:
            if secret in stored or secret.hex() in logged or repr(secret)[2:-1] in logged:
                raise Violation("O9", f"a secret of channel {case.channel.index} was written down")


def resolved_as_due(world: SimWorld) -> None:
    """The status of every channel is what its end on the chain means (part of O3)."""
    for case in world.cases:
        if not world.store.version(case.stream):
            continue
        end, status = end_of(world, case), world.channels.load(case.stream).status
        due = _due_status(world, case, end)
        if due is not None and status not in (due, ChannelStatus.RESOLVED):
            raise Violation("O3", f"channel {case.channel.index} is {status} and should be {due}")


def resolved_in_time(world: SimWorld) -> None:
    """A case is over at 100 confirmations of its last transaction, not before and not never (part of O3)."""
    tip = world.chain.height
    for case in world.cases:
        end = end_of(world, case)
        if not world.store.version(case.stream) or end.spend is None:
            continue
        channel = world.channels.load(case.stream)
        last = end.height if end.spend.kind == "coop" else end.taken_at if _is_punished(world, case, end) else None
        if last is not None and tip - last + 1 >= FINAL_DEPTH and channel.resolved is None:
            raise Violation("O3", f"channel {case.channel.index} is {channel.status} after {tip - last + 1} blocks")


def _is_punished(world: SimWorld, case: Case, end: End) -> bool:
    return _is_breach(case, end) and bool(end.taker) and _is_penalty(world, case, end.taker)


def _due_status(world: SimWorld, case: Case, end: End) -> ChannelStatus | None:
    if end.spend is None:
        return None
    if end.spend.kind == "coop":
        return ChannelStatus.SETTLED
    if not end.taker:
        return None
    if _is_breach(case, end):
        return ChannelStatus.PUNISHED if _is_penalty(world, case, end.taker) else ChannelStatus.LOST
    kind = world.channels.load(case.stream).confirmed_spend
    honest = kind is not None and kind.kind in (SpendKind.PEER_CLOSE, SpendKind.OWN_CLOSE)
    return ChannelStatus.SETTLED if honest else None


def _is_breach(case: Case, end: End) -> bool:
    known = end.spend
    if known is None or known.kind != "commit":
        return False
    return case.is_stale(known.sequence) and known.sequence not in case.excused


def _is_penalty(world: SimWorld, case: Case, txid: bytes) -> bool:
    tx = world.chain.ledger.transaction(txid)
    return tx is not None and [out.spk for out in tx.outputs] == [case.channel.sweep]
