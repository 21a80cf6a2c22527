"""The canary: it sings over a tower in order, and each thing that is broken on purpose is told under its own stage."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.chain import BlockHash, BlockRef, OutPoint, double_sha256
from domain.contract import penalty
from domain.contract.segwit_form import SegwitForm
from domain.errors import MalformedInput
from domain.events import BroadcastOutcome
from domain.transaction import Transaction
from projections.watch_set import WatchSet
from tests.contract_vectors.load import load
from tests.support.full_block import made_up_block
from watchtower.canary import Canary, stages
from watchtower.canary.canary import IDLE_SECONDS, RETRY_SECONDS
from watchtower.canary.example import EXAMPLES, SEGWIT_EXAMPLE, TAPROOT_EXAMPLE, Example, channel_of
from watchtower.canary.slow_reader import SlowReader
from watchtower.node.blocks import scan_block
from watchtower.ports import Answer, NodeUnavailable
from watchtower.telemetry.catalog import CANARY_STAGES
from watchtower.telemetry.metrics import Metrics

BLOCK = made_up_block(40, 90)
MISSING = Answer(BroadcastOutcome.MISSING_INPUTS, -25, "missing-inputs")


class Node:
    """Hands over one block and judges every penalty alike."""

    def __init__(self, raw: bytes = BLOCK, answer: Answer = MISSING) -> None:
        self.raw, self.answer = raw, answer
        self.trouble: NodeUnavailable | None = None
        self.judged: list[bytes] = []

    def block(self, _block_hash: bytes) -> bytes:
        """The block, whatever was asked for."""
        if self.trouble is not None:
            raise self.trouble
        return self.raw

    def test_accept(self, raw: bytes) -> Answer:
        """The same answer each time."""
        self.judged.append(raw)
        return self.answer


class Index:
    """A watch index of ten outpoints that no block spends; with `blind` its sieve lets nothing more pass."""

    def __init__(self, *, blind: bool = False) -> None:
        rows = [(double_sha256(bytes([number])) + bytes(4), "c", 0) for number in range(10)]
        self.watch = WatchSet(rows)
        self.blind = blind

    @property
    def watched(self) -> Container[bytes]:
        """All of them."""
        return self.watch.outpoints

    def marked(self, outpoint: bytes) -> bytearray:
        """As the real one, unless it is broken."""
        return self.watch.sieve if self.blind else self.watch.marked(outpoint)


class Cage:
    """A canary with a node and an index of its own."""

    def __init__(self, node: Node | None = None, index: Index | None = None) -> None:
        self.node, self.index = node or Node(), index or Index()
        self.metrics = Metrics(build=("0", "0", "regtest", "sqlite"), start=1_000.0)
        self.canary = Canary(node=self.node, models=self.index, rng=bytes, metrics=self.metrics)

    def sing(self, height: int = 1) -> float:
        """One turn at a new tip; the seconds until the next."""
        self.canary.tip(BlockRef(height, BlockHash(bytes([height]) * 32)))
        return self.canary.turn()

    def value(self, name: str, **labels: str) -> float:
        """A metric as it is scraped."""
        found = self.metrics.registry.get_sample_value(f"watchtower_{name}", labels)
        assert found is not None
        return found

    @property
    def failures(self) -> dict[str, float]:
        """Stages that failed, and how often."""
        counts = {stage: self.value("canary_failures_total", stage=stage) for stage in CANARY_STAGES}
        return {stage: number for stage, number in counts.items() if number}


def test_it_sings() -> None:
    """All four stages pass: the time is shown, one line is logged, and the node saw the known penalties."""
    cage = Cage()
    with capture_logs() as logs:
        pause = cage.sing(7)

    assert (IDLE_SECONDS, {}) == (pause, cage.failures)
    assert cage.value("canary_last_success_timestamp_seconds") > 1_000.0
    assert [("canary_passed", 7)] == [(line["event"], line["height"]) for line in logs]
    assert [known.penalty_txid for known in EXAMPLES] == [Transaction.parse(raw).txid for raw in cage.node.judged]


def test_the_answers_are_the_published_ones() -> None:
    """ECDSA takes no randomness: the penalty of segwit v0 is that of the vectors to the last byte."""
    cage = Cage()
    cage.sing()

    assert load("sct_p_v0")["penalty_A_5"]["tx"] == cage.node.judged[1].hex()
    assert load("penalties")["penalty_A_5"]["tx"] == cage.node.judged[0].hex()


def test_the_index_is_only_read() -> None:
    """What the canary looks for is watched in no other scan, before or after."""
    cage = Cage()
    before = (set(cage.index.watch.outpoints), bytes(cage.index.watch.sieve))
    cage.sing()

    assert before == (set(cage.index.watch.outpoints), bytes(cage.index.watch.sieve))


def test_a_block_that_spends_nothing_is_no_failure() -> None:
    """With a coinbase alone there is nothing to find; the other stages are sung."""
    cage = Cage(Node(made_up_block(0, 0)))
    cage.sing()

    assert ({}, 2) == (cage.failures, len(cage.node.judged))


def _another_sequence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(penalty, "RBF_SEQUENCE", 0xFFFFFFFE)


def _damaged_signature(patch: pytest.MonkeyPatch) -> None:
    def sign(*arguments: Any) -> Transaction:
        signed = penalty.sign_penalty(*arguments)
        return signed.with_witness(0, (bytes(64),))

    patch.setattr("watchtower.responder.signing.sign_penalty", sign)


def _segwit_in_taproot_order(patch: pytest.MonkeyPatch) -> None:
    """Script before signature: the txid is the same."""
    sign = SegwitForm.penalty_witness

    def reversed_witness(*arguments: Any) -> tuple[bytes, ...]:
        return sign(*arguments)[::-1]

    patch.setattr(SegwitForm, "penalty_witness", reversed_witness)


def _segwit_for_another_script(patch: pytest.MonkeyPatch) -> None:
    """A sound signature beside a script that is not the contest output's."""
    sign = SegwitForm.penalty_witness
    patch.setattr(SegwitForm, "penalty_witness", lambda *arguments: (sign(*arguments)[0], b"\x51"))


def _segwit_with_another_hash_type(patch: pytest.MonkeyPatch) -> None:
    """The signature is for 0x01, the witness says 0x81."""
    sign = SegwitForm.penalty_witness
    patch.setattr(
        SegwitForm,
        "penalty_witness",
        lambda *arguments: (sign(*arguments)[0][:-1] + b"\x81", sign(*arguments)[1]),
    )


def _forgetful_classifier(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("domain.classifier.revoked_txid", lambda _channel, _sequence: None)


def _blind_scanner(patch: pytest.MonkeyPatch) -> None:
    def scan(raw: bytes, *_arguments: Any, **_options: Any) -> Any:
        return scan_block(raw, ())

    patch.setattr(stages, "scan_block", scan)


def _scanner_that_breaks(patch: pytest.MonkeyPatch) -> None:
    def scan(_raw: bytes, *_arguments: Any, **_options: Any) -> Any:
        raise TypeError("a mistake")

    patch.setattr(stages, "scan_block", scan)


@pytest.mark.parametrize(
    ("plant", "stage", "times"),
    [
        (_blind_scanner, "index", 1),
        (_scanner_that_breaks, "index", 1),
        (_forgetful_classifier, "classify", 2),
        (_another_sequence, "build", 2),
        (_damaged_signature, "build", 2),
        (_segwit_in_taproot_order, "build", 1),
        (_segwit_for_another_script, "build", 1),
        (_segwit_with_another_hash_type, "build", 1),
    ],
)
def test_a_planted_defect_is_told(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], stage: str, times: int
) -> None:
    """Each part that is broken fails its own stage, keeps the time of the last success, and is tried again soon.

    What both profiles share fails for both; each is told once, however often it is tried.
    """
    cage = Cage()
    plant(monkeypatch)
    with capture_logs() as logs:
        pause = cage.sing()
        cage.canary.turn()

    assert (RETRY_SECONDS, {stage: 2 * times}) == (pause, cage.failures)
    assert 1_000.0 == cage.value("canary_last_success_timestamp_seconds")
    assert [("canary_failed", stage)] * times == [(line["event"], line["stage"]) for line in logs]


def test_a_sieve_that_holds_back_is_told() -> None:
    """The scanner asks the sieve first: one that does not know what is watched makes it blind."""
    cage = Cage(index=Index(blind=True))
    cage.sing()

    assert {"index": 1} == cage.failures


@pytest.mark.parametrize(
    "answer",
    [
        Answer(BroadcastOutcome.ACCEPTED),
        Answer(BroadcastOutcome.REJECTED, -26, "bad-witness-nonstandard"),
        Answer(BroadcastOutcome.UNKNOWN, -1, "?"),
    ],
)
def test_a_node_that_judges_otherwise_is_told(answer: Answer) -> None:
    """Anything but `missing-inputs` means that the node would not take a real penalty for what it is."""
    cage = Cage(Node(answer=answer))
    cage.sing()

    assert {"node": 2} == cage.failures


def test_a_node_that_is_away_is_told_once() -> None:
    """Each try counts, one line says why; when the node is back, the canary passes without another block."""
    cage = Cage()
    cage.node.trouble = NodeUnavailable("connection refused")
    with capture_logs() as logs:
        cage.sing()
        cage.canary.turn()
    cage.node.trouble = None
    pause = cage.canary.turn()

    assert ({"node": 2}, IDLE_SECONDS) == (cage.failures, pause)
    assert ["canary_failed"] == [line["event"] for line in logs]


def test_before_the_first_tip_nothing_is_sung() -> None:
    """A tower that has not reached its node has no block to look into."""
    cage = Cage()

    assert (IDLE_SECONDS, []) == (cage.canary.turn(), cage.node.judged)


def test_the_same_tip_is_no_news() -> None:
    """Only another block is a reason to sing again, one at the same height included."""
    canary = Cage().canary
    first, other = (BlockRef(5, BlockHash(bytes([number]) * 32)) for number in (1, 2))

    assert [True, False, True] == [canary.tip(block) for block in (first, first, other)]


def test_the_slow_reader_finds_what_is_spent() -> None:
    """All inputs but the coinbase's, in order; a block that is cut off anywhere is refused."""
    expected = [OutPoint(number.to_bytes(32, "big") + bytes(4)) for number in range(90)]

    assert expected == SlowReader(BLOCK).spent()
    for size in (81, 200, len(BLOCK) - 1):
        with pytest.raises(MalformedInput, match="ends in the middle"):
            SlowReader(BLOCK[:size]).spent()
    with pytest.raises(MalformedInput, match="transactions end at"):
        SlowReader(BLOCK + b"\0").spent()


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (TAPROOT_EXAMPLE, "0b1c248294f97fe071ea0a0fad1271a12f4e2a59d04bbaa294e3fe3643351316"),
        (SEGWIT_EXAMPLE, "d0e2be01609e708290ab8c33f90f128c4800e8646a66fd20dc84f78112386114"),
    ],
)
def test_the_examples_are_the_published_ones(known: Example, expected: str) -> None:
    """Each channel's name is that of the vectors, and it knows six revoked states."""
    channel = channel_of(known)

    assert (expected, 5) == (channel.params.channel_id.hex(), channel.highest_revoked)
