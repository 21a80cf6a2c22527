"""Planted bugs of the follower, the scan, the mempool watch and the states of settlement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import domain.cursor as cursors
import domain.spending
import watchtower.chain.follow
import watchtower.chain.mempool
import watchtower.chain.scan
from domain.chain import BlockHeader, BlockRef, chain_hash, work_of_bits
from domain.channel import Channel
from domain.classifier import Verdict, encoded_number
from domain.cursor import ChainCursor, Move
from domain.deadlines import depth
from domain.events import CHAIN_STREAM, BlockConnected, Envelope, Payload, Source, SpendKind, envelopes
from domain.spending import matured
from domain.transaction import Transaction
from domain.units import FINAL_DEPTH
from tests.simulation.mutants.planting import Change, Mutant
from watchtower.chain.arm import Arming
from watchtower.chain.audit import Audit
from watchtower.chain.facts import Facts, FollowReport
from watchtower.chain.fetch import Fetch
from watchtower.chain.follow import Follower
from watchtower.chain.gap import Gap
from watchtower.chain.mempool import MempoolWatch
from watchtower.chain.scan import BlockScan
from watchtower.ports import NodeError
from watchtower.responder.runs import RespondReport
from watchtower.tower import Hints, PassReport, Tower

NO_SECOND_DETECTOR: tuple[Change, ...] = (
    (Audit, "step", lambda audit, *arguments: True),
    (Audit, "pending", property(lambda audit: False)),
    (Audit, "in_round", property(lambda audit: False)),
    (Arming, "check", lambda arming, *arguments: None),
    (Arming, "pending", property(lambda arming: False)),
)
"""The towers that had these bugs ask nobody a second time; ours would find what the first look missed."""


# ── the walk ─────────────────────────────────────────────────────────────────────────────────────────────

_start, _follow, _run_pass = Follower.start, Follower.follow, Tower.run_pass
_undo = domain.spending.disconnected


def _start_at_the_tip(follower: Follower) -> ChainCursor:
    known = _start(follower)
    if follower._models.contested():
        return known
    now = follower._clock.wall_microseconds()
    headers = follower._headers_down(follower._node.best_hash(), 50)
    bottom = headers[-1]
    first = BlockRef(bottom.height, bottom.hash)
    follower._append(
        envelopes(
            CHAIN_STREAM, known.version, cursors.start(first, chain_hash(follower._network), bottom.chainwork, now)
        )
    )
    for header in reversed(headers[:-1]):
        step = cursors.connect(follower.cursor, BlockHeader.parse(header.raw), Source.CATCH_UP, now)
        follower._append(envelopes(CHAIN_STREAM, follower.cursor.version, [step]))
    return follower.cursor


def _nothing_in_it(gap: Gap, block: BlockRef, now: int) -> Facts:
    return Facts(gap._channels)


def _cursor_first(follower: Follower, work: Callable[[int], tuple[BlockConnected, Facts]]) -> None:
    connected, facts = work(follower._clock.wall_microseconds())
    follower._append(envelopes(CHAIN_STREAM, follower.cursor.version, [connected]))
    follower._failpoint("connect:before")
    if facts.job:
        follower._append(facts.job)
    follower._conditions.note(facts.streams)
    follower._failpoint("connect:after")


def _undo_the_first_only(channel: Channel, block: BlockRef, now: int) -> list[Payload]:
    deeper = any(spend.block is not None and spend.block.height < block.height for spend in channel.spends)
    return [] if channel.spends and not deeper else _undo(channel, block, now)


def _connect_unchecked(follower: Follower, source: Source) -> bool:
    if not follower._is_active(follower.cursor.hash):
        return False
    block_hash = follower._node.hash_at(follower.cursor.height + 1)
    if block_hash is None:
        return False
    block = BlockRef(follower.cursor.height + 1, block_hash)
    raw = follower._fetch.raw(block)
    follower._until_written(lambda now: follower._read(raw, block, source, now))
    return True


def _connected_unchecked(cursor: ChainCursor, header: BlockHeader, source: Source, now: int) -> BlockConnected:
    return BlockConnected(
        recorded_at=now,
        block=BlockRef(cursor.height + 1, header.hash),
        prev=header.prev,
        header=header.raw,
        chainwork=cursors._work_bytes(cursor.chainwork + work_of_bits(header.bits)),
        source=source,
    )


def _same_height_is_enough(follower: Follower, source: Source = Source.BLOCK) -> FollowReport:
    if follower._cursor is not None and follower._node.chain_info().blocks == follower.cursor.height:
        return FollowReport()
    return _follow(follower, source)


def _behind_is_a_reorg(
    cursor: ChainCursor, *, node_tip: bytes, node_work: int, is_active: Callable[[bytes], bool]
) -> Move:
    return cursors.next_move(cursor, node_tip=node_tip, node_work=1 << 255, is_active=is_active)


def _equal_is_behind(
    cursor: ChainCursor, *, node_tip: bytes, node_work: int, is_active: Callable[[bytes], bool]
) -> Move:
    return cursors.next_move(cursor, node_tip=node_tip, node_work=node_work - 1, is_active=is_active)


def _short_memory(cursor: ChainCursor | None, event: Envelope, limit: int = cursors.UNDO_LIMIT) -> ChainCursor:
    return _evolve(cursor, event, 6)


_evolve = cursors.evolve


def _again_at_once(follower: Follower, source: Source = Source.BLOCK) -> FollowReport:
    while True:
        try:
            return _follow(follower, source)
        except NodeError:
            continue


def _no_answer_without_a_walk(tower: Tower, hints: Hints) -> PassReport:
    responder, walk = tower.responder, tower.follower.follow
    failed: list[BaseException] = []

    def follow(source: Source = Source.BLOCK) -> FollowReport:
        try:
            return walk(source)
        except BaseException as error:
            failed.append(error)
            raise

    respond = responder.respond
    vars(tower.follower)["follow"] = follow
    vars(responder)["respond"] = lambda tip: RespondReport() if failed else respond(tip)
    try:
        return _run_pass(tower, hints)
    finally:
        del vars(tower.follower)["follow"], vars(responder)["respond"]


def _drop_the_channel(follower: Follower, work: Callable[[int], tuple[BlockConnected, Facts]]) -> None:
    connected, facts = work(follower._clock.wall_microseconds())
    follower._failpoint("connect:before")
    kept = [s for s in facts.streams if follower._store.version(s) == facts._first[s]]
    job = [event for stream in kept for event in facts._new[stream]]
    follower._append(envelopes(CHAIN_STREAM, follower.cursor.version, [connected]) + job)
    follower._conditions.note(kept)
    for stream in facts.streams:
        follower._channels.forget(stream)
    follower._failpoint("connect:after")


# ── what a spend is ──────────────────────────────────────────────────────────────────────────────────────


def _by_its_number(channel: Channel, tx: Transaction, own_txid: bytes | None) -> Verdict:
    number = encoded_number(channel.params, tx)
    kind = SpendKind.BREACH if number <= channel.highest_revoked else SpendKind.PEER_CLOSE
    return Verdict(kind, channel.counterparty, number)


def _nothing_is_seen(watch: MempoolWatch, outpoints: object, captured: object) -> None:
    return None


# ── when it is over ──────────────────────────────────────────────────────────────────────────────────────


def _over_after(confirmations: int) -> Change:
    return domain.spending, "is_final", lambda height, tip: depth(height, tip) >= confirmations


def _follow_then_look_once(follower: Follower, source: Source = Source.BLOCK) -> FollowReport:
    done = _follow(follower, source)
    if done.connected:
        facts, tip = Facts(follower._channels), follower.cursor.height
        for stream in follower._models.contested():
            facts.add(stream, matured(facts.channel(stream), tip, follower._clock.wall_microseconds()))
        if facts.job:
            follower._append(facts.job)
    return done


def _no_news_of_age(scan: BlockScan, facts: Facts, block: BlockRef) -> None:
    return None


WALK: Sequence[Mutant] = (
    Mutant(
        "tip-saved-on-a-match",
        "without an open case a restart begins at the node's tip",
        "lnd lookout",
        ("O1", "O3", "O7"),
        ((Follower, "start", _start_at_the_tip), *NO_SECOND_DETECTOR),
    ),
    Mutant(
        "skipped-block",
        "a block that cannot be fetched is passed over",
        "lnd lookout, #8205",
        ("O1", "O3", "O7"),
        ((Fetch, "is_gone", lambda fetch, block: True), (Gap, "facts", _nothing_in_it), *NO_SECOND_DETECTOR),
    ),
    Mutant(
        "cursor-before-events",
        "the cursor is stored first and what the block holds afterwards",
        "TEOS",
        ("O1", "O3", "O7"),
        ((Follower, "_until_written", _cursor_first), *NO_SECOND_DETECTOR),
    ),
    Mutant(
        "forgotten-disconnect",
        "nothing is undone when a block leaves the chain",
        "TEOS, #241",
        ("O1", "O3", "O7"),
        ((watchtower.chain.follow, "disconnected", lambda channel, block, now: []),),
    ),
    Mutant(
        "half-undone",
        "a reorg undoes the answer and leaves the breach where it stood",
        "own",
        ("O1", "O3", "O7"),
        ((watchtower.chain.follow, "disconnected", _undo_the_first_only),),
    ),
    Mutant(
        "no-look-at-the-parent",
        "the next block is connected whatever it builds on",
        "own",
        ("O3", "O4", "O7"),
        ((Follower, "_connect_next", _connect_unchecked), (cursors, "connect", _connected_unchecked)),
    ),
    Mutant(
        "heights-for-hashes",
        "a tip at the height of the cursor counts as the cursor",
        "btcwallet",
        ("O3", "O4"),
        ((Follower, "follow", _same_height_is_enough),),
    ),
    Mutant(
        "behind-is-a-reorg",
        "a node that lost blocks makes the tower undo them",
        "own",
        ("O3", "O4", "O8"),
        ((watchtower.chain.follow, "next_move", _behind_is_a_reorg),),
    ),
    Mutant(
        "equal-work-is-behind",
        "a branch must have more work to be followed",
        "own",
        ("O1", "O3", "O4", "O7"),
        ((watchtower.chain.follow, "next_move", _equal_is_behind),),
    ),
    Mutant(
        "six-blocks-of-memory",
        "no more than six blocks can be undone",
        "own",
        ("O1", "O4", "O7"),
        ((cursors, "evolve", _short_memory),),
    ),
    Mutant(
        "busy-loop",
        "a node in trouble is asked again at once, for ever",
        "own",
        ("O8",),
        ((Follower, "follow", _again_at_once),),
    ),
    Mutant(
        "no-answer-without-a-walk",
        "nothing is answered while the chain cannot be followed",
        "own",
        ("O1",),
        ((Tower, "run_pass", _no_answer_without_a_walk),),
    ),
    Mutant(
        "upload-was-faster",
        "a channel whose client uploads during a block is left out of that block",
        "own",
        ("O1", "O3"),
        ((Follower, "_until_written", _drop_the_channel), *NO_SECOND_DETECTOR),
    ),
)

VERDICTS: Sequence[Mutant] = (
    Mutant(
        "blind-for-the-mempool",
        "a breach is noticed in a block only",
        "TEOS, lnd lookout",
        ("O3",),
        ((MempoolWatch, "_compare", _nothing_is_seen),),
    ),
    Mutant(
        "never-gone",
        "what left the mempool is taken for still there",
        "Core Lightning, #6283",
        ("O1", "O3"),
        ((watchtower.chain.mempool, "spend_gone", lambda *arguments: []),),
    ),
    Mutant(
        "verdict-for-ever",
        "a secret that comes after the close changes nothing",
        "own",
        ("O1", "O3"),
        ((MempoolWatch, "classify_again", lambda watch: None),),
    ),
    Mutant(
        "judged-by-its-number",
        "the number that a transaction shows decides what it is",
        "own",
        ("O6", "O3"),
        (
            (watchtower.chain.scan, "classify", _by_its_number),
            (watchtower.chain.mempool, "classify", _by_its_number),
        ),
    ),
    Mutant(
        "over-after-one",
        "one confirmation ends a case",
        "own",
        ("O1", "O3"),
        (_over_after(1),),
    ),
    Mutant(
        "over-after-six",
        "six confirmations end a case",
        "LDK's ANTI_REORG_DELAY",
        ("O1", "O3"),
        (_over_after(6),),
    ),
    Mutant(
        "exactly-a-hundred",
        "a case ends at exactly 100 confirmations, looked at once per pass",
        "TEOS",
        ("O3",),
        (
            (domain.spending, "is_final", lambda height, tip: depth(height, tip) == FINAL_DEPTH),
            (BlockScan, "mature", _no_news_of_age),
            (Follower, "follow", _follow_then_look_once),
        ),
    ),
)

__all__ = ["NO_SECOND_DETECTOR", "VERDICTS", "WALK"]
