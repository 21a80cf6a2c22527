"""The oracle of every fault test: nothing lost, nothing half written, every breach answered before its deadline.

    assert_tower_healthy(node, directory, [Watched(pair)])

It reads only the tower's files and the node, so it serves a tower in this process (stopped or at rest) and one in
another process alike. Call it when the faults are over, the tower has caught up, and what is due has happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from domain.chain import display, make_outpoint
from domain.channel import Channel
from domain.channel_fold import fold
from domain.events import (
    CHAIN_STREAM,
    BlockConnected,
    BlockDisconnected,
    CursorStarted,
    Payload,
    PenaltyBroadcast,
    PenaltyPrepared,
    SpendKind,
    StateUpdated,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.support.parties import Pair
from watchtower.devnode.regtest import RegtestNode
from watchtower.store.create import open_reader
from watchtower.store.event_store import LogReader
from watchtower.store.rebuild import replay
from watchtower.store.verify import verify_log

BIDS_PER_BLOCK = 3
"""More raises in one block would be a bidding war with ourselves (O8)."""


class Watched(msgspec.Struct, frozen=True):
    """A channel that the tower serves for `owner`; every state up to `acknowledged` was answered with success.

    `acknowledged` None means: the newest state. `revoked` is the counterparty's highest state whose secret was
    acknowledged (None: all before the newest). `promised` False: the bounds were broken, a loss is allowed (O1).
    """

    pair: Pair
    owner: Side = Side.B
    acknowledged: int | None = None
    revoked: int | None = None
    promised: bool = True

    @property
    def newest(self) -> int:
        """The newest acknowledged state."""
        return self.pair.sequence if self.acknowledged is None else self.acknowledged

    @property
    def highest_revoked(self) -> int:
        """The counterparty's newest state that the tower can punish."""
        return self.newest - 1 if self.revoked is None else self.revoked


class Place(msgspec.Struct, frozen=True):
    """A transaction on the active chain, found as the spender of an outpoint."""

    tx: Transaction
    height: int
    block_hash: bytes


def assert_tower_healthy(
    node: RegtestNode, directory: Path, channels: Sequence[Watched], *, said: Iterable[str] = ()
) -> None:
    """All oracles for a tower's directory (`events.db`, `views.db`) against the node that holds the truth.

    `said` are captured texts (log lines, answers): no secret of a channel may stand in them (O9).
    """
    with open_reader(directory / "events.db") as log:
        with log.connection() as connection:
            assert () == verify_log(connection).findings
        _assert_walk(node, log)
        loaded = [(watched, _load(log, watched)) for watched in channels]
        lowest = min((channel.registered_at for _, channel in loaded), default=node.height())
        spends = _spends_above(node, lowest)
        for watched, channel in loaded:
            events = [envelope.payload for envelope in log.read_stream(channel.stream)]
            _assert_states_kept(watched, channel, events)
            _assert_breach_answered(watched, spends)
            _assert_log_tells_the_chain(channel, spends)
            _assert_nobody_accused(watched, channel, events)
            _assert_bids_rise(events, _blocks_connected(log))
    _assert_views_equal_replay(directory)
    _assert_silent(channels, said)


def _load(log: LogReader, watched: Watched) -> Channel:
    """The channel folded afresh from the log; fails if the registration was lost."""
    events = log.read_stream(log.stream_id("c", watched.pair.params.proposal_id))
    channel = fold(None, events)
    assert channel is not None, "the registration is not in the log"
    return channel


# ── O4: the cursor ───────────────────────────────────────────────────────────────────────────────────────────


def _assert_walk(node: RegtestNode, log: LogReader) -> None:
    """Each connect builds on the tip before it, each disconnect removes it; the end is the node's tip."""
    trail: list[bytes] = []
    height = -1
    for envelope in log.read_stream(CHAIN_STREAM):
        step = envelope.payload
        if isinstance(step, CursorStarted):
            assert [] == trail, "the cursor was started twice"
            trail, height = [step.block.hash], step.block.height
        elif isinstance(step, BlockConnected):
            assert (trail[-1], height + 1) == (step.prev, step.block.height), "a connect does not build on the tip"
            trail.append(step.block.hash)
            height += 1
        elif isinstance(step, BlockDisconnected):
            assert trail.pop() == step.block.hash, "a disconnect of another block than the tip"
            height -= 1
            assert trail[-1:] in ([], [step.parent.hash])
    assert (display(node.tip()), node.height()) == (display(trail[-1]), height)


def _blocks_connected(log: LogReader) -> int:
    return sum(isinstance(envelope.payload, BlockConnected) for envelope in log.read_stream(CHAIN_STREAM))


# ── O2: what was acknowledged is there ───────────────────────────────────────────────────────────────────────


def _assert_states_kept(watched: Watched, channel: Channel, events: Sequence[Payload]) -> None:
    """Every acknowledged state stands in the log byte for byte, once, with the secret that came with it."""
    stored: dict[int, StateUpdated] = {}
    for event in events:
        if isinstance(event, StateUpdated):
            assert event.sequence not in stored, f"state {event.sequence} is stored twice"
            stored[event.sequence] = event
    for sequence in range(1, watched.newest + 1):
        kept, content = stored.get(sequence), watched.pair.state(sequence).content
        assert kept is not None, f"acknowledged state {sequence} is not in the log"
        assert (content.header, content.conditions) == (kept.header, kept.conditions)
    for sequence in range(watched.highest_revoked + 1):
        assert watched.pair.secret(watched.owner.other, sequence) == channel.revealed_secret(sequence)


# ── O1: safety ───────────────────────────────────────────────────────────────────────────────────────────────


def _assert_breach_answered(watched: Watched, spends: Mapping[bytes, Place]) -> None:
    """A revoked commitment on the chain is followed by a transaction to the owner alone, at D at the latest."""
    breach = spends.get(watched.pair.params.funding_outpoint)
    if breach is None or breach.tx.txid not in _stale(watched) or not watched.promised:
        return
    answer = spends.get(make_outpoint(breach.tx.txid, 0))
    assert answer is not None, "a breach on the chain was not answered"
    sweep = bytes(watched.pair.registration(watched.owner).sweep_spk)
    assert [sweep] == [output.spk for output in answer.tx.outputs], "somebody else took the contest output"
    deadline = breach.height + watched.pair.params.challenge_period - 1
    assert answer.height <= deadline, f"the penalty confirmed at {answer.height}, after {deadline}"


def _stale(watched: Watched) -> set[bytes]:
    """Txids of the counterparty's commitments that are revoked towards the tower."""
    return {watched.pair.commitment_txid(watched.owner.other, number) for number in range(watched.highest_revoked + 1)}


# ── O3: truth ────────────────────────────────────────────────────────────────────────────────────────────────


def _assert_log_tells_the_chain(channel: Channel, spends: Mapping[bytes, Place]) -> None:
    """The spends that the log knows as confirmed are those of a fresh scan of the node, in the same blocks."""
    expected: list[tuple[str, str]] = []
    outpoint: bytes = channel.params.funding_outpoint
    while len(expected) < 2 and (place := spends.get(outpoint)) is not None:
        expected.append((display(place.tx.txid), display(place.block_hash)))
        outpoint = make_outpoint(place.tx.txid, 0)
    found: list[tuple[str, str]] = []
    spend = channel.confirmed_spend
    if spend is not None and spend.block is not None:
        found.append((display(spend.txid), display(spend.block.hash)))
        end = channel.contest_spend(spend.txid)
        found += [] if end is None else [(display(end.txid), display(end.block.hash))]
    is_coop = spend is not None and spend.kind is SpendKind.COOP
    assert (expected[:1] if is_coop else expected) == found


def _assert_views_equal_replay(directory: Path) -> None:
    """The read models equal the log folded again up to their position."""
    report = replay(directory / "events.db", directory / "views.db", directory / "replayed.db")
    assert () == report.differing


# ── O5, O6, O8: the bids ─────────────────────────────────────────────────────────────────────────────────────


def _assert_nobody_accused(watched: Watched, channel: Channel, events: Sequence[Payload]) -> None:
    """Penalties were made against revoked commitments of the counterparty only."""
    accused = {event.commit_txid for event in events if isinstance(event, PenaltyPrepared)}
    assert set() == accused - _stale(watched), "a penalty against a commitment that is not revoked"
    prepared = {event.txid for event in events if isinstance(event, PenaltyPrepared)}
    sent = [event.txid for event in events if isinstance(event, PenaltyBroadcast)]
    assert set() == set(sent) - prepared, "a penalty was sent that was never prepared"
    assert len(sent) == len(set(sent)), "a penalty is recorded as sent twice"
    assert {bid.txid for bid in channel.bids} == prepared


def _assert_bids_rise(events: Sequence[Payload], blocks: int) -> None:
    """One chain of bids per contest output: each names the one before it and pays more; their number is bounded."""
    last: dict[bytes, PenaltyPrepared] = {}
    for event in events:
        if not isinstance(event, PenaltyPrepared):
            continue
        before = last.get(event.commit_txid)
        expected = (1, None) if before is None else (before.bid_no + 1, before.txid)
        assert expected == (event.bid_no, event.replaces)
        assert before is None or before.fee < event.fee, "a fee fell or stood still"
        last[event.commit_txid] = event
    assert all(bid.bid_no <= BIDS_PER_BLOCK * (blocks + 1) for bid in last.values())


# ── O9: silence ──────────────────────────────────────────────────────────────────────────────────────────────


def _assert_silent(channels: Iterable[Watched], said: Iterable[str]) -> None:
    secrets = [secret.hex() for watched in channels for secret in _secrets(watched)]
    for text in said:
        assert not any(secret in text for secret in secrets), "a secret was said aloud"


def _secrets(watched: Watched) -> Iterator[bytes]:
    """What the tower holds and must not tell: the owner's revocation secret and the counterparty's revealed ones."""
    yield bytes(watched.pair.registration(watched.owner).revocation_secret)
    for sequence in range(watched.highest_revoked + 1):
        yield watched.pair.secret(watched.owner.other, sequence)


# ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────


def _spends_above(node: RegtestNode, height: int) -> dict[bytes, Place]:
    """Every outpoint that is spent in a block above `height`, with its spender."""
    found: dict[bytes, Place] = {}
    for number in range(height + 1, node.height() + 1):
        block: dict[str, Any] = node.rpc("getblock", display(node.hash_at(number)), 2)
        for entry in block["tx"]:
            place = Place(Transaction.parse(bytes.fromhex(entry["hex"])), number, node.hash_at(number))
            found.update((bytes(source.outpoint), place) for source in place.tx.inputs)
    return found
