"""A second node and the doubts that it, a silent tip and the audit cause."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.chain import BlockHash, BlockHeader, chain_hash, double_sha256
from domain.events import BroadcastOutcome
from tests.support.clocks import FixedClock
from tests.support.small_world import SmallWorld
from watchtower.chain.audit import AuditReport
from watchtower.chain.facts import FollowReport
from watchtower.node.blocks import scan_block
from watchtower.node.proof import has_work, is_proved, is_proved_decoded
from watchtower.node.second import SecondNode, SecondTip, TwoNodes
from watchtower.ports import Answer, BlockNotAvailable, ChainInfo, DecodedBlock, HeaderInfo, NodeUnavailable
from watchtower.responder.runs import RespondReport
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.tower import PassReport
from watchtower.watch.doubts import Doubts

TIP = BlockHash(b"\x07" * 32)
EASY = 0x207FFFFF
"""The target of regtest."""


class ShortNode:
    """The few answers that two nodes are asked for; `broken` makes every call fail."""

    def __init__(self, height: int = 100, headers: int = 100, genesis: bytes | None = None) -> None:
        self.height, self.headers = height, headers
        self.genesis = chain_hash("regtest") if genesis is None else genesis
        self.sent: list[bytes] = []
        self.calls = 0
        self.work_per_block = 2
        self.broken = False

    def _called(self) -> None:
        self.calls += 1
        if self.broken:
            raise NodeUnavailable("connection refused")

    def chain_info(self) -> ChainInfo:
        """Heights as set."""
        self._called()
        return ChainInfo("regtest", self.height, self.headers, TIP, False, 0)

    def hash_at(self, height: int) -> BlockHash:
        """The genesis block."""
        assert height == 0
        return BlockHash(self.genesis)

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        """Of the tip; a work of 2 per block."""
        return HeaderInfo(BlockHash(block_hash), TIP, self.height, self.work_per_block * self.height, 1, bytes(80))

    def block(self, block_hash: bytes) -> bytes:
        """None is there."""
        raise BlockNotAvailable("pruned")

    def decoded_block(self, block_hash: bytes) -> DecodedBlock:
        """None is there."""
        raise BlockNotAvailable("pruned")

    def broadcast(self, raw: bytes) -> Answer:
        """Notes the bytes."""
        self._called()
        self.sent.append(raw)
        return Answer(BroadcastOutcome.ACCEPTED)


@pytest.fixture
def clock() -> FixedClock:
    """A clock that the test moves."""
    return FixedClock()


def second_of(node: ShortNode, clock: FixedClock) -> SecondNode:
    """The node as a second one on regtest."""
    port: Any = node
    return SecondNode(port, "regtest", clock.monotonic)


def both(own: ShortNode, other: ShortNode, clock: FixedClock) -> TwoNodes:
    """The port over two nodes."""
    port: Any = own
    return TwoNodes(port, second_of(other, clock))


def grown(parent: bytes, count: int, bits: int = EASY) -> list[bytes]:
    """Headers on top of a block, each with the work that it claims if that is that of regtest."""
    headers: list[bytes] = []
    for _ in range(count):
        nonce = 0
        while True:
            raw = bytes(4) + parent + bytes(36) + bits.to_bytes(4, "little") + nonce.to_bytes(4, "little")
            if bits != EASY or has_work(BlockHeader.parse(raw), 1):
                break
            nonce += 1
        headers.append(raw)
        parent = double_sha256(raw)
    return headers


class HeaderNode(ShortNode):
    """Knows the headers of one chain, from height 100 on; `claims` is the height that it tells of its tip."""

    def __init__(self, headers: list[bytes], claims: int | None = None) -> None:
        super().__init__(*[100 + len(headers) - 1 if claims is None else claims] * 2)
        self.places = {double_sha256(raw): (100 + place, raw) for place, raw in enumerate(headers)}
        self.best = BlockHash(double_sha256(headers[-1]))

    def chain_info(self) -> ChainInfo:
        """The last header is the tip."""
        return ChainInfo("regtest", self.height, self.headers, self.best, False, 0)

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        """Of the chain; the tip has the height that is claimed."""
        if block_hash not in self.places:
            return None
        height, raw = self.places[block_hash]
        height = self.height if block_hash == self.best else height
        return HeaderInfo(BlockHash(block_hash), BlockHash(raw[4:36]), height, 2 * height, 1, raw)


def test_fault_N12_deadlines_count_from_the_highest_header_of_any_source(clock: FixedClock) -> None:
    """The own node is cut off; the other one's blocks count, three of them behind the last common one."""
    chain = grown(bytes(32), 6)

    info = both(HeaderNode(chain[:3]), HeaderNode(chain), clock).chain_info()

    assert (102, 105) == (info.blocks, info.headers)


def test_a_second_node_cannot_move_deadlines_by_its_word(clock: FixedClock) -> None:
    """A height that no headers stand for, headers without work, of another chain or with a hole count for nothing."""
    chain = grown(bytes(32), 3)
    tip = double_sha256(chain[-1])
    boast = HeaderNode([*chain, *grown(tip, 1)], claims=1_000_000)
    lazy = HeaderNode([*chain, *grown(tip, 3, bits=0x1D00FFFF)])
    foreign = HeaderNode(grown(b"\x01" * 32, 5))
    holed = HeaderNode([*chain, *grown(tip, 4)[2:]])

    found = [both(HeaderNode(chain), other, clock).chain_info().headers for other in (boast, lazy, foreign, holed)]

    assert [103, 102, 102, 102] == found


def test_a_tip_is_proved_once(clock: FixedClock) -> None:
    """Also one that cannot be: a pass must not follow two thousand headers again and again."""
    other = HeaderNode(grown(b"\x01" * 32, 5))
    asked: list[bytes] = []
    header = other.header
    other.header = lambda block_hash: asked.append(block_hash) or header(block_hash)  # type: ignore[method-assign, func-returns-value]
    nodes = both(HeaderNode(grown(bytes(32), 3)), other, clock)

    nodes.chain_info()
    once = len(asked)
    nodes.chain_info()

    assert 6 < once
    assert once == len(asked)


def test_fault_N9_a_lost_block_comes_from_the_second_node(clock: FixedClock) -> None:
    """By its hash; what neither has is not available."""
    world, own = SmallWorld(), ShortNode()
    world.open()
    other: Any = world.node
    nodes = both(own, other, clock)
    tip = world.chain.tip.hash

    assert world.node.block(tip) == nodes.block(tip)
    assert world.node.decoded_block(tip) == nodes.decoded_block(tip)
    with pytest.raises(BlockNotAvailable):
        nodes.block(bytes(32))


def test_fault_N9_a_second_node_cannot_leave_a_breach_out(clock: FixedClock) -> None:
    """The header has the right hash and one transaction is missing, or its inputs: neither form of it is the block."""
    world = SmallWorld()
    world.open()
    world.cheat(1)
    tip = world.chain.tip.hash
    raw, decoded = world.node.block(tip), world.node.decoded_block(tip)
    coinbase, breach = decoded.transactions
    cut = raw[:80] + b"\x01" + coinbase.raw
    short = msgspec.structs.replace(decoded, transactions=(coinbase,))
    blind = msgspec.structs.replace(decoded, transactions=(coinbase, msgspec.structs.replace(breach, spends=())))
    twice = msgspec.structs.replace(coinbase, spends=(*coinbase.spends, breach.spends[0]))
    false = msgspec.structs.replace(decoded, transactions=(twice, breach))
    scan_block(cut, ())

    found = [is_proved(each, tip) for each in (raw, cut, b"", raw[:80] + bytes(1))]
    found_decoded = [is_proved_decoded(each, tip) for each in (decoded, short, blind, false)]

    assert [True, False, False, False] == found
    assert [True, False, False, False] == found_decoded
    nodes = both(ShortNode(), liar(world, cut, short), clock)
    with pytest.raises(BlockNotAvailable):
        nodes.block(tip)
    with pytest.raises(BlockNotAvailable):
        nodes.decoded_block(tip)


def liar(world: SmallWorld, raw: bytes, decoded: DecodedBlock) -> Any:
    """The world's node with other answers about blocks."""
    node: Any = world.node
    node.block, node.decoded_block = lambda _hash: raw, lambda _hash: decoded
    return node


def test_fault_N13_a_broadcast_goes_to_both_and_the_own_answer_counts(clock: FixedClock) -> None:
    """Also if the own node cannot be reached: the error stays, the bytes are out."""
    own, other = ShortNode(), ShortNode()
    nodes = both(own, other, clock)

    assert Answer(BroadcastOutcome.ACCEPTED) == nodes.broadcast(b"one")
    own.broken = True
    with pytest.raises(NodeUnavailable):
        nodes.broadcast(b"two")

    assert ([b"one"], [b"one", b"two"]) == (own.sent, other.sent)


def test_a_second_node_that_fails_rests(clock: FixedClock) -> None:
    """One failure, then no call for half a minute: a pass must not wait for it again and again."""
    own, other = ShortNode(), ShortNode()
    other.broken = True
    nodes = both(own, other, clock)

    for number in range(5):
        nodes.broadcast(bytes([number]))
    assert 1 == other.calls
    other.broken = False
    clock.seconds += 31.0
    nodes.broadcast(b"again")

    assert [b"again"] == other.sent


def test_fault_N11_a_second_node_of_another_chain_is_never_asked(clock: FixedClock) -> None:
    """Its tip would move deadlines, its blocks would be foreign."""
    other = ShortNode(200, 200, genesis=bytes(32))
    nodes = both(ShortNode(), other, clock)

    assert 100 == nodes.chain_info().headers
    nodes.broadcast(b"raw")
    assert [] == other.sent


def test_the_tip_is_asked_for_at_most_every_ten_seconds(clock: FixedClock) -> None:
    """Many chain infos in one pass cost one call."""
    other = ShortNode(101, 101)
    second = second_of(other, clock)

    tips = [second.tip() for _ in range(5)]

    assert [SecondTip(TIP, 101, 202)] * 5 == tips
    assert 2 == other.calls  # the check of the network, and the question itself


# ── doubts ───────────────────────────────────────────────────────────────────────────────────────────────


class Scene:
    """Doubts over a board, with a clock and a second node."""

    def __init__(self, clock: FixedClock, stale_after: float | None = 5_400.0, *, alone: bool = False) -> None:
        self.clock = clock
        self.other = ShortNode(100, 100)
        metrics = Metrics(build=("1", "r", "regtest", "sqlite"), routes={})
        self.board = ReadinessBoard(metrics)
        self.doubts = Doubts(
            board=self.board,
            metrics=metrics,
            chainwork=lambda: 200,
            second=None if alone else second_of(self.other, clock),
            stale_after=stale_after,
            monotonic=clock.monotonic,
            wall=lambda: 0.0,
        )

    def see(self, height: int = 100, connected: int = 0, audit: AuditReport | None = None, again: bool = False) -> None:
        """One pass."""
        follow = FollowReport(connected, moved_again=again)
        self.doubts.observe(PassReport(follow, RespondReport(), height, None, False, audit or AuditReport()))

    @property
    def reasons(self) -> list[str]:
        """Names that hold."""
        return [reason.name for reason in self.board.snapshot().reasons]


def test_a_longer_chain_with_less_work_is_no_lead(clock: FixedClock) -> None:
    """Blocks that are easy to make are no reason to doubt the own node."""
    scene = Scene(clock)
    scene.other.height, scene.other.work_per_block = 150, 1
    scene.see()

    assert [] == scene.reasons


def test_fault_N12_no_block_for_ninety_minutes_is_a_reason(clock: FixedClock) -> None:
    """By the time since a block reached us; the next block ends it."""
    scene = Scene(clock)
    clock.seconds += 5_399
    scene.see()
    assert [] == scene.reasons
    clock.seconds += 1
    scene.see()
    assert ["tip_stale"] == scene.reasons
    scene.see(connected=1)
    assert [] == scene.reasons


def test_blocks_made_by_hand_are_never_late(clock: FixedClock) -> None:
    """On regtest nobody promises a block."""
    scene = Scene(clock, None)
    clock.seconds += 1e6
    scene.see()

    assert [] == scene.reasons


@pytest.mark.parametrize(("ahead", "expected"), [(1, []), (2, ["second_source_ahead"]), (50, ["second_source_ahead"])])
def test_fault_N12_second_source_ahead(clock: FixedClock, ahead: int, expected: list[str]) -> None:
    """One block may be on its way; two are a reason, which ends when ours has caught up."""
    scene = Scene(clock)
    scene.other.height = 100 + ahead
    scene.see()
    assert expected == scene.reasons
    clock.seconds += 11
    scene.see(height=100 + ahead)
    assert [] == scene.reasons


def test_our_own_catch_up_is_not_the_nodes_lag(clock: FixedClock) -> None:
    """While the cursor is on its way the second tip says nothing about our node."""
    scene = Scene(clock)
    scene.other.height = 150
    scene.see(connected=25, again=True)

    assert [] == scene.reasons


def test_a_silent_second_node_is_no_reason(clock: FixedClock) -> None:
    """It is help, not a condition."""
    scene = Scene(clock)
    scene.other.broken = True
    scene.see()

    assert [] == scene.reasons


def test_an_audit_that_disagrees_is_a_reason_until_it_agrees(clock: FixedClock) -> None:
    """Set with the number of channels, cleared by the audit itself."""
    scene = Scene(clock, alone=True)
    scene.see(audit=AuditReport(rounds=1, disagreeing=2, height=100))
    assert ["audit_mismatch"] == scene.reasons
    scene.see(audit=AuditReport(rounds=2, disagreeing=0, height=106))
    assert [] == scene.reasons
