"""The four stages of the canary, each by the code that does the same for real channels.

Every one raises `CanaryFailed` if the answer is not the expected one.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from domain.channel import Channel, Spend
from domain.channel_fold import fold
from domain.classifier import classify
from domain.contract.keys import verify_schnorr
from domain.events import BroadcastOutcome, Source, SpendKind, envelopes
from domain.punishing import breach_to_answer
from domain.spending import spend_seen
from domain.transaction import Transaction
from domain.units import Side
from watchtower.canary import example
from watchtower.canary.slow_reader import SlowReader
from watchtower.node.blocks import scan_block
from watchtower.ports import Answer, Rng, WatchtowerError
from watchtower.responder.signing import Wish, signer_of


class CanaryFailed(WatchtowerError):
    """A stage did not give the answer that it has to give. Breaches may be missed: this is urgent."""

    slug = "canary-failed"


class WatchIndex(Protocol):
    """The watch index, for reading; from any thread."""

    @property
    def watched(self) -> Container[bytes]:
        """All watched outpoints."""

    def marked(self, outpoint: bytes) -> bytearray:
        """The sieve with one more outpoint."""


class JudgingNode(Protocol):
    """The part of the node that judges a penalty."""

    def test_accept(self, raw: bytes) -> Answer:
        """`testmempoolaccept`."""


class _Overlay:
    """The watch index and one more outpoint."""

    def __init__(self, index: Container[bytes], outpoint: bytes) -> None:
        self._index = index
        self._outpoint = outpoint

    def __contains__(self, outpoint: object) -> bool:
        return outpoint == self._outpoint or outpoint in self._index


def index(raw: bytes, models: WatchIndex, seed: bytes) -> bool:
    """The scanner finds an input of this block, which `seed` chooses; False if the block spends nothing."""
    spent = SlowReader(raw).spent()
    if not spent:
        return False
    wanted = spent[int.from_bytes(seed[:8], "little") % len(spent)]
    found = scan_block(raw, _Overlay(models.watched, wanted), sieve=models.marked(wanted))
    if not any(wanted in hit.outpoints for hit in found.hits):
        raise CanaryFailed("the scanner passed over an input that the block spends")
    return True


def classified() -> Channel:
    """The example's channel with its breach in the mempool, as the classifier sees it."""
    channel, tx = example.example(), Transaction.parse(example.COMMITMENT)
    verdict = classify(channel, tx, None)
    if (verdict.kind, verdict.side, verdict.sequence) != (SpendKind.BREACH, Side.A, example.BREACH_SEQUENCE):
        raise CanaryFailed(f"a revoked commitment was classified as {verdict.kind.name.lower()}")
    seen = spend_seen(channel, tx, example.COMMITMENT, verdict, Source.MEMPOOL, 0, 0)
    known = fold(channel, envelopes(channel.stream, channel.version, seen))
    assert known is not None  # a fold that starts with a channel ends with one
    return known


def built(channel: Channel, rng: Rng) -> Transaction:
    """The penalty of the example's breach; its bytes and its signature are the known ones."""
    breach = _breach(channel)
    signer = signer_of(channel, breach, example.REVOCATION_SECRET, rng)
    if signer is None:
        raise CanaryFailed("no penalty can be signed although both secrets are there")
    penalty = signer.sign(Wish(example.FEE, 0, example.FEE)).tx
    if penalty.txid != example.PENALTY_TXID:
        raise CanaryFailed("the penalty is another transaction than the one that takes the contest output")
    if not verify_schnorr(example.CONTEST_KEY, example.PENALTY_SIGHASH, penalty.inputs[0].witness[0]):
        raise CanaryFailed("the penalty's signature does not verify")
    return penalty


def judged(penalty: Transaction, node: JudgingNode) -> None:
    """The node reads the penalty and knows that its input exists nowhere. Raises `NodeError` if it does not answer."""
    answer = node.test_accept(penalty.serialize())
    if answer.outcome is not BroadcastOutcome.MISSING_INPUTS:
        said = answer.text or answer.outcome.name.lower()
        raise CanaryFailed(f"the node had to answer missing-inputs about the example's penalty and said: {said}")


def _breach(channel: Channel) -> Spend:
    breach = breach_to_answer(channel)
    if breach is None:
        raise CanaryFailed("a breach in the mempool asks for no answer")
    return breach
