"""The six acts. Each plays with real transactions and then asks the node alone what happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

from domain.chain import display, make_outpoint
from domain.deadlines import deadline
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client.party import exchange
from watchtower.demo.result import ActResult
from watchtower.demo.stage import CHALLENGE_PERIOD, DemoFailed, Stage, Tell

CAPACITY = 1_000_000
HALF = CAPACITY // 2
PAYMENT = 10_000
STALE = 3
"""The state that Alice publishes: from before most of her payments."""

ANSWER_SECONDS = 60
CHILD_FEE = 5_000
SLEEP_BLOCKS = 20

Act = Callable[[Stage, Tell], Awaitable[ActResult]]


async def _pay(stage: Stage, channel_id: bytes, count: int) -> None:
    """Alice pays Bob `count` times, as in the documentation's workflow."""
    start = stage.bob.party.channel(channel_id).balances
    for number in range(1, count + 1):
        paid = number * PAYMENT
        balances = (start[0] - paid, start[1] + paid)
        await stage.update(channel_id, balances, f"payment_{number}".encode())


class UpdatesThenBreach:
    """Acts one and two share a channel: ten payments, then a breach in the mempool."""

    def __init__(self) -> None:
        self._channel_id: bytes | None = None

    async def updates(self, stage: Stage, tell: Tell) -> ActResult:
        """Open a channel of 1,000,000 sat and make ten updates."""
        channel_id = self._channel_id = await stage.open_channel((HALF, HALF))
        funding = stage.bob.party.channel(channel_id).params.funding_outpoint
        tell(f"channel {channel_id.hex()[:16]} is open: 500,000 sat each, T = {CHALLENGE_PERIOD} blocks")
        await _pay(stage, channel_id, 10)
        info = await stage.client.get_channel_info(channel_id.hex())
        tell(f"ten payments later: state {info.current_sequence}, balances {info.balances[0]:,} / {info.balances[1]:,}")
        expected = (HALF - 10 * PAYMENT, HALF + 10 * PAYMENT)
        ok = (
            info.current_sequence == 10
            and tuple(info.balances) == expected
            and stage.node.is_unspent(funding, include_mempool=True)
        )
        return ActResult(
            name="updates",
            ok=ok,
            summary="10 updates off chain, funding output unspent",
            channel_id=channel_id.hex(),
            balances=expected,
        )

    async def breach_in_mempool(self, stage: Stage, tell: Tell) -> ActResult:
        """Alice publishes stale state 3 with a paid child; the tower answers before the next block."""
        if self._channel_id is None:
            raise DemoFailed("the channel of the first act is missing")
        channel_id = self._channel_id
        raw = stage.stale_commitment(channel_id, STALE)
        commit = Transaction.parse(raw)
        child = stage.node.anchor_child(commit.txid, fee=CHILD_FEE)
        began = time.monotonic()
        stage.node.submit_package([raw, child])
        tell(
            f"Alice publishes revoked state {STALE} ({display(commit.txid)[:12]}…) and a child ({CHILD_FEE:,} sat fee)"
        )
        penalty = await _penalty(stage, commit.txid)
        elapsed = (time.monotonic() - began) * 1000
        tell(f"the penalty {display(penalty)[:16]}… is in the mempool after {elapsed:,.0f} ms")
        stage.node.mine(1)
        tell(f"block {stage.node.height()}: both are in")
        await stage.until_status(channel_id, "PUNISHED")
        result = _punished(stage, "breach_in_mempool", channel_id, commit.txid, elapsed)
        same = result.ok and result.breach_height == result.penalty_height
        return _with(result, ok=same, summary="breach and penalty in the same block, Bob has the whole channel")


async def breach_mined_unseen(stage: Stage, tell: Tell) -> ActResult:
    """A stale state enters a block that no mempool saw; the penalty is in the next block."""
    channel_id = await stage.open_channel((HALF, HALF))
    await _pay(stage, channel_id, 5)
    raw = stage.stale_commitment(channel_id, STALE)
    txid = Transaction.parse(raw).txid
    began = time.monotonic()
    stage.node.generate_block([raw])
    tell(f"block {stage.node.height()} holds revoked state {STALE}, which no mempool ever saw")
    penalty = await _penalty(stage, txid)
    elapsed = (time.monotonic() - began) * 1000
    tell(f"the penalty {display(penalty)[:16]}… is in the mempool after {elapsed:,.0f} ms")
    stage.node.mine(1)
    await stage.until_status(channel_id, "PUNISHED")
    result = _punished(stage, "breach_mined_unseen", channel_id, txid, elapsed)
    next_block = result.ok and result.penalty_height == (result.breach_height or 0) + 1
    return _with(result, ok=next_block, summary="penalty in the next block")


async def tower_asleep(stage: Stage, tell: Tell) -> ActResult:
    """The tower is killed before the breach and comes back 20 blocks later."""
    channel_id = await stage.open_channel((HALF, HALF))
    await _pay(stage, channel_id, 5)
    raw = stage.stale_commitment(channel_id, STALE)
    txid = Transaction.parse(raw).txid
    stage.tower.kill()
    tell("the tower is killed (SIGKILL)")
    stage.node.generate_block([raw])
    tell(f"block {stage.node.height()}: Alice's revoked state {STALE} is mined while nobody watches")
    stage.node.mine(SLEEP_BLOCKS)
    tell(f"block {stage.node.height()}: {SLEEP_BLOCKS} blocks later the tower starts again")
    began = time.monotonic()
    stage.tower.start()
    penalty = await _penalty(stage, txid)
    elapsed = (time.monotonic() - began) * 1000
    tell(f"the penalty {display(penalty)[:16]}… is in the mempool {elapsed:,.0f} ms after the start")
    stage.node.mine(1)
    await stage.wait_ready()
    await stage.until_status(channel_id, "PUNISHED")
    result = _punished(stage, "tower_asleep", channel_id, txid, elapsed)
    in_time = result.ok and (result.penalty_height or 0) <= (result.deadline or 0)
    return _with(result, ok=in_time, summary=f"missed {SLEEP_BLOCKS} blocks, still before the deadline")


async def honest_unilateral_close(stage: Stage, tell: Tell) -> ActResult:
    """Alice closes alone with the newest state: no penalty, the tower settles after T blocks."""
    channel_id = await stage.open_channel((HALF, HALF))
    await _pay(stage, channel_id, 5)
    raw = stage.alice.party.sign_commitment(channel_id, stage.alice.party.channel(channel_id).sequence)
    commit = Transaction.parse(raw)
    stage.node.send_raw(raw)
    stage.node.mine(1)
    closed_at = stage.node.height()
    tell(f"block {closed_at}: Alice closes alone with her newest state")
    await stage.until_height()
    stage.node.mine(CHALLENGE_PERIOD - 1)
    await stage.until_height()
    contest = make_outpoint(commit.txid, 0)
    await _spender(stage, contest)
    tell(f"tip {stage.node.height()}: the tower sends the settlement by itself")
    stage.node.mine(1)
    await stage.until_status(channel_id, "SETTLED")
    return _settled(stage, channel_id, commit.txid, contest, closed_at)


async def cooperative_close(stage: Stage, tell: Tell) -> ActResult:
    """Both sign: one small transaction, no waiting; the tower knows it for what it is."""
    channel_id = await stage.open_channel((HALF, HALF))
    await _pay(stage, channel_id, 5)
    final = stage.bob.party.channel(channel_id).balances
    raw = exchange.close(stage.alice.party, stage.bob.party, channel_id, final, 1_000)
    tx = Transaction.parse(raw)
    stage.node.send_raw(raw)
    stage.node.mine(1)
    tell(f"block {stage.node.height()}: Alice and Bob close together with {final[0]:,} / {final[1]:,}")
    await stage.until_status(channel_id, "SETTLED")
    params = stage.bob.party.channel(channel_id).params
    paid = tuple(_paid(tx, params.keys(side).payout) for side in Side)
    place = stage.node.confirmation(tx.txid)
    ok = place is not None and paid == (final[0] - 1_000, final[1])
    return ActResult(
        name="cooperative_close",
        ok=ok,
        summary="both paid at once, recognized as cooperative",
        channel_id=channel_id.hex(),
        close_txid=display(tx.txid),
        close_height=place.height if place else None,
        balances=(paid[0], paid[1]),
    )


async def _penalty(stage: Stage, commit_txid: bytes) -> bytes:
    """Wait until somebody spends the contest output; returns the txid."""
    return await _spender(stage, make_outpoint(commit_txid, 0))


async def _spender(stage: Stage, outpoint: bytes) -> bytes:
    """Asked in turns of a second: a tower that died, or Ctrl-C, is noticed at once."""
    for _ in range(ANSWER_SECONDS):
        try:
            return await asyncio.to_thread(stage.node.wait_spender, outpoint, 1.0)
        except TimeoutError:
            stage.tower.check_alive()
    raise DemoFailed(f"nobody spent the contest output within {ANSWER_SECONDS} s")


def _punished(stage: Stage, name: str, channel_id: bytes, commit_txid: bytes, elapsed: float) -> ActResult:
    """What the node's chain says about a breach, asked without the tower."""
    node, params = stage.node, stage.bob.party.channel(channel_id).params
    contest = make_outpoint(commit_txid, 0)
    breach, penalty_txid = node.confirmation(commit_txid), node.spender(contest)
    penalty = node.confirmation(penalty_txid) if penalty_txid else None
    raw = node.transaction(penalty_txid) if penalty_txid else None
    swept = _paid(Transaction.parse(raw), stage.sweep_spk(channel_id)) if raw else 0
    last = deadline(breach.height, params.challenge_period) if breach else None
    return ActResult(
        name=name,
        ok=breach is not None and penalty is not None and swept > params.contest_value // 2,
        summary="",
        channel_id=channel_id.hex(),
        breach_txid=display(commit_txid),
        penalty_txid=display(penalty_txid) if penalty_txid else None,
        breach_height=breach.height if breach else None,
        penalty_height=penalty.height if penalty else None,
        deadline=last,
        recovered_sat=swept,
        milliseconds_to_penalty=round(elapsed, 1),
    )


def _settled(stage: Stage, channel_id: bytes, commit_txid: bytes, contest: bytes, closed_at: int) -> ActResult:
    node, channel = stage.node, stage.bob.party.channel(channel_id)
    txid = node.spender(contest)
    place, raw = (node.confirmation(txid), node.transaction(txid)) if txid else (None, None)
    paid = tuple(_paid(Transaction.parse(raw), channel.params.keys(s).payout) for s in Side) if raw else (0, 0)
    # A, the opener, alone pays the overhead: two anchors and the fees of commitment and settlement.
    overhead = channel.balances[0] - paid[0]
    ok = (
        place is not None
        and place.height == closed_at + CHALLENGE_PERIOD
        and paid[1] == channel.balances[1]
        and 0 < overhead < 2_000
    )
    return ActResult(
        name="honest_unilateral_close",
        ok=ok,
        summary=f"no penalty; settled exactly {CHALLENGE_PERIOD} blocks later",
        channel_id=channel_id.hex(),
        close_txid=display(commit_txid),
        close_height=closed_at,
        settlement_txid=display(txid) if txid else None,
        settlement_height=place.height if place else None,
        balances=(paid[0], paid[1]),
    )


def _paid(tx: Transaction, spk: bytes) -> int:
    return sum(output.value for output in tx.outputs if output.spk == spk)


def _with(result: ActResult, *, ok: bool, summary: str) -> ActResult:
    return msgspec.structs.replace(result, ok=ok, summary=summary)
