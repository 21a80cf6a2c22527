"""The four stages of the canary, each by the code that does the same for real channels.

Every one raises `CanaryFailed` if the answer is not the expected one.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from domain.channel import Channel, Spend
from domain.channel_fold import fold
from domain.classifier import classify
from domain.contract.hashes import sha256
from domain.contract.keys import from_der, verify_ecdsa, verify_schnorr
from domain.contract.params import TAPROOT
from domain.contract.sighash import SIGHASH_ALL
from domain.events import BroadcastOutcome, Source, SpendKind, envelopes
from domain.punishing import breach_to_answer
from domain.spending import spend_seen
from domain.transaction import Transaction
from domain.units import Side
from watchtower.canary.example import BREACH_SEQUENCE, FEE, REVOCATION_SECRET, Example, channel_of
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


def classified(example: Example) -> Channel:
    """The example's channel with its breach in the mempool, as the classifier sees it."""
    channel, tx = channel_of(example), Transaction.parse(example.commitment)
    verdict = classify(channel, tx, None)
    if (verdict.kind, verdict.side, verdict.sequence) != (SpendKind.BREACH, Side.A, BREACH_SEQUENCE):
        raise CanaryFailed(f"a revoked {example.name} commitment was classified as {verdict.kind.name.lower()}")
    seen = spend_seen(channel, tx, example.commitment, verdict, Source.MEMPOOL, 0, 0)
    known = fold(channel, envelopes(channel.stream, channel.version, seen))
    assert known is not None  # a fold that starts with a channel ends with one
    return known


def built(example: Example, channel: Channel, rng: Rng) -> Transaction:
    """The penalty of the example's breach; its bytes and what its signature signs are the known ones."""
    breach = _breach(channel)
    signer = signer_of(channel, breach, REVOCATION_SECRET, rng)
    if signer is None:
        raise CanaryFailed(f"no {example.name} penalty can be signed although both secrets are there")
    penalty = signer.sign(Wish(FEE, 0, FEE)).tx
    if penalty.txid != example.penalty_txid:
        raise CanaryFailed(f"the {example.name} penalty is not the transaction that takes the contest output")
    witness = penalty.inputs[0].witness
    holds = _holds_taproot if example.profile == TAPROOT else _holds_segwit
    if not holds(example, witness):
        raise CanaryFailed(f"the witness of the {example.name} penalty does not spend the contest output")
    return penalty


def _holds_taproot(example: Example, witness: tuple[bytes, ...]) -> bool:
    return len(witness) == 1 and verify_schnorr(example.contest_key, example.penalty_sighash, witness[0])


def _holds_segwit(example: Example, witness: tuple[bytes, ...]) -> bool:
    """The script is the one that the commitment's contest output names, the signature is DER by R for all."""
    if len(witness) != 2 or witness[0][-1:] != bytes((SIGHASH_ALL,)):
        return False
    program = Transaction.parse(example.commitment).outputs[0].spk[2:]
    signature = from_der(witness[0][:-1])
    signed = signature is not None and verify_ecdsa(example.contest_key, example.penalty_sighash, signature)
    return signed and sha256(witness[1]) == program


def judged(penalty: Transaction, node: JudgingNode) -> None:
    """The node reads the penalty and knows that its input exists nowhere. Raises `NodeError` if it does not answer."""
    answer = node.test_accept(penalty.serialize())
    if answer.outcome is not BroadcastOutcome.MISSING_INPUTS:
        said = answer.text or answer.outcome.name.lower()
        raise CanaryFailed(f"the node had to answer missing-inputs about an example's penalty and said: {said}")


def _breach(channel: Channel) -> Spend:
    breach = breach_to_answer(channel)
    if breach is None:
        raise CanaryFailed("a breach in the mempool asks for no answer")
    return breach
