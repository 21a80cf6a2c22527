"""Histories of one channel from a list of numbers: blocks, mempool, reorganizations, bids, finality.

Every step asks the domain's deciders, so only events that can happen are produced; a step that does not apply adds
nothing. States and transactions are signed once and shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from domain.chain import BlockRef
from domain.channel import Channel
from domain.channel_fold import evolve
from domain.classifier import Verdict
from domain.events import (
    CHAIN_STREAM,
    AlertKind,
    BlockConnected,
    BroadcastOutcome,
    Envelope,
    Payload,
    Recorded,
    Source,
    SpendKind,
    Via,
    envelopes,
)
from domain.punishing import penalty_answered, penalty_prepared
from domain.spending import (
    clear_alert,
    contest_confirmed,
    disconnected,
    matured,
    raise_alert,
    spend_confirmed,
    spend_gone,
    spend_seen,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.support.scenes import FUNDED_AT, NOW, STREAM, Scene, block

UPDATES = 3
OTHER_STREAM = "c" + "t" * 22


@cache
def scene() -> Scene:
    """A's tower after three updates; B's states 0 to 2 are revoked."""
    return Scene(Side.A).opened(UPDATES)


@cache
def spends() -> tuple[tuple[Transaction, Verdict], ...]:
    """What can spend the funding output, with the classifier's verdict."""
    made = scene()
    txs = (
        made.commitment(Side.B, 1),
        made.commitment(Side.B, 2),
        made.commitment(Side.B, 3),
        made.commitment(Side.A, 3),
        made.coop_close(),
        made.stranger(),
    )
    return tuple((tx, made.verdict(tx)) for tx in txs)


@cache
def answer(commit_txid: bytes, penalty: bool) -> Transaction:
    """The penalty or the settlement for one of `spends`; the penalty of an honest close is its settlement."""
    number = next(i for i, (tx, _) in enumerate(spends()) if tx.txid == commit_txid)
    side, sequence = ((Side.B, 1), (Side.B, 2), (Side.B, 3), (Side.A, 3))[number]
    if penalty and number < 2:
        return scene().penalty(side, sequence)
    return scene().settlement(side, sequence)


class History:
    """Events of a channel behind its opening, and the chain they stand in."""

    def __init__(self, stream: str = STREAM) -> None:
        self.stream = stream
        self.events = [Envelope(stream, e.version, e.topic, e.payload) for e in scene().events]
        self.channel: Channel = scene().channel
        self.blocks: list[BlockRef] = [block(FUNDED_AT)]
        self.branch = 0

    def play(self, steps: Sequence[int]) -> History:
        """Apply steps; each number chooses an action and its argument."""
        for step in steps:
            action = _ACTIONS[step % len(_ACTIONS)]
            self.add(action(self, step // len(_ACTIONS)))
        return self

    def add(self, payloads: Sequence[Payload]) -> None:
        """Append decided events."""
        for event in envelopes(self.stream, self.channel.version, payloads):
            self.events.append(event)
            self.channel = evolve(self.channel, event)

    def new_block(self) -> BlockRef:
        """The next block of the present branch."""
        self.blocks.append(block(self.blocks[-1].height + 1, self.branch))
        return self.blocks[-1]

    @property
    def tip(self) -> int:
        """Height of the present tip."""
        return self.blocks[-1].height


def _see(history: History, choice: int) -> list[Payload]:
    tx, verdict = spends()[choice % len(spends())]
    return spend_seen(history.channel, tx, tx.serialize(), verdict, Source.MEMPOOL, history.tip, NOW)


def _mine(history: History, choice: int) -> list[Payload]:
    if history.channel.confirmed_spend is not None or history.channel.funding_block is None:
        return []
    tx, verdict = spends()[choice % len(spends())]
    return spend_confirmed(history.channel, tx, tx.serialize(), verdict, history.new_block(), Source.BLOCK, NOW)


def _lose(history: History, choice: int) -> list[Payload]:
    seen = history.channel.mempool_spend
    return [] if seen is None else spend_gone(history.channel, seen.txid, None, history.tip, NOW)


def _end(history: History, choice: int) -> list[Payload]:
    spend = history.channel.confirmed_spend
    if spend is None or spend.kind in (SpendKind.COOP, SpendKind.UNKNOWN_SPEND):
        return []
    if history.channel.contest_spend(spend.txid) is not None:
        return []
    tx = answer(spend.txid, choice % 2 == 0)
    return contest_confirmed(history.channel, spend, tx, history.new_block(), NOW)


def _bid(history: History, choice: int) -> list[Payload]:
    spend = history.channel.present_spend
    if spend is None or spend.kind is not SpendKind.BREACH:
        return []
    fee = 1_000 * (1 + len(history.channel.bids))
    txid = bytes([choice % 256, len(history.channel.bids) % 256]) * 16
    events = penalty_prepared(history.channel, spend, txid=txid, raw=b"raw", fee=fee, left=None, now=NOW)
    history.add(events)
    bid = history.channel.bids[-1]
    return penalty_answered(bid, BroadcastOutcome.ACCEPTED, Via.RAW, 0, "", history.tip, NOW)


def _reorg(history: History, choice: int) -> list[Payload]:
    """Up to three blocks leave the active chain; the next ones are of another branch."""
    history.branch += 1
    events: list[Payload] = []
    for _ in range(1 + choice % 3):
        if len(history.blocks) > 1 or choice % 7 == 0:
            gone = history.blocks[-1]
            history.add(disconnected(history.channel, gone, NOW))
            history.blocks = history.blocks[:-1] or [block(gone.height - 1)]
    return events


def _bury(history: History, choice: int) -> list[Payload]:
    for _ in range(6 if choice % 3 else 100):
        history.new_block()
    return matured(history.channel, history.tip, NOW)


def _alert(history: History, choice: int) -> list[Payload]:
    kind = AlertKind.UNECONOMICAL_TO_PUNISH
    raised = raise_alert(history.channel, kind, None, None, history.tip, NOW)
    return raised or clear_alert(history.channel, kind, history.tip, NOW)


_ACTIONS: tuple[Callable[[History, int], list[Payload]], ...] = (
    _see,
    _mine,
    _end,
    _bid,
    _lose,
    _reorg,
    _bury,
    _alert,
)


def block_connected(version: int, height: int) -> Envelope:
    """An event of the chain stream."""
    payload = BlockConnected(
        recorded_at=NOW,
        block=block(height),
        prev=block(height - 1).hash,
        header=bytes(80),
        chainwork=b"\x01",
        source=Source.BLOCK,
    )
    return Envelope(CHAIN_STREAM, version, BlockConnected.TOPIC, payload)


def interleaved(first: Sequence[Envelope], second: Sequence[Envelope]) -> list[Recorded]:
    """One log of two channels and a chain stream, taken by turns, with ids from 1."""
    mixed: list[Envelope] = []
    for index in range(max(len(first), len(second))):
        mixed += [*first[index : index + 1], *second[index : index + 1]]
        if index % 5 == 0:
            mixed.append(block_connected(index // 5 + 1, FUNDED_AT + index))
    return [Recorded(number, event) for number, event in enumerate(mixed, start=1)]


class ListLog:
    """A log in a list, as far as a projector reads it."""

    def __init__(self, recorded: Sequence[Recorded] = ()) -> None:
        self.recorded = list(recorded)

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log behind an id."""
        return self.recorded[after_id : after_id + limit]
