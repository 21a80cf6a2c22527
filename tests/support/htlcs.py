"""Conditional outputs of a `Scene`: fixed HTLCs, closes that hold them, and transactions that take them.

HTLC and TWIN are offered by A to B under one payment hash, BACK by B to A; TRIMMED is too small for an output.
"""

from __future__ import annotations

from hashlib import sha256

from domain.chain import BlockRef
from domain.channel import StateRecord
from domain.conditional import ConditionalOutput, conditional_outputs
from domain.contract.conditions import Condition
from domain.contract.htlc import (
    ClaimPath,
    build_htlc_success,
    build_htlc_timeout,
    complete_htlc_success,
    complete_htlc_timeout,
    sign_htlc_claim,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.support.scenes import AUX, Scene, block, payout, secrets_of

PREIMAGE, BACK_PREIMAGE = b"\x71" * 32, b"\x73" * 32
EXPIRY = 500
HTLC = Condition(type=0, id=1, expiry=EXPIRY, amount=20_000, hash=sha256(PREIMAGE).digest())
TWIN = Condition(type=0, id=2, expiry=600, amount=30_000, hash=HTLC.hash)
BACK = Condition(type=1, id=4, expiry=EXPIRY, amount=40_000, hash=sha256(BACK_PREIMAGE).digest())
TRIMMED = Condition(type=1, id=3, expiry=EXPIRY, amount=329, hash=sha256(b"\x72" * 32).digest())
OPEN_HTLCS = {2: (HTLC, TWIN, TRIMMED, BACK)}
"""State 2 of the scene holds them all; later states hold none."""

CLOSED_AT = 200
SETTLED_AT = CLOSED_AT + 144


def nothing(payment_hash: bytes) -> bytes | None:
    """No other channel of the tower knows a preimage."""
    del payment_hash


def closed(own: Side = Side.A, side: Side = Side.B, updates: int = 2) -> Scene:
    """The commitment of `side` of state 2 is in block 200."""
    scene = Scene(own, conditions=OPEN_HTLCS).opened(updates)
    scene.mined(scene.commitment(side, 2), block(CLOSED_AT))
    return scene


def settled(own: Side = Side.A, side: Side = Side.B, updates: int = 2) -> Scene:
    """Its settlement is in block 344."""
    scene = closed(own, side, updates)
    scene.ended(scene.commitment(side, 2), scene.settlement(side, 2), block(SETTLED_AT))
    return scene


def record_of(scene: Scene) -> StateRecord:
    """Content of state 2, as it stands in the log."""
    state = scene.state(2)
    known = Scene(scene.own, conditions=OPEN_HTLCS).opened(2).channel.state(2)
    assert known is not None
    assert known.header == state.header.encode()
    return known


def outputs(scene: Scene) -> tuple[ConditionalOutput, ...]:
    """Conditional outputs of the present close."""
    return conditional_outputs(scene.channel, record_of(scene))


def output(scene: Scene, condition: Condition) -> ConditionalOutput:
    """The output of one condition."""
    return next(found for found in outputs(scene) if found.condition == condition)


def success(scene: Scene, *taken: ConditionalOutput, preimage: bytes = PREIMAGE) -> Transaction:
    """One success claim of several outputs with the same preimage, by their receiver."""
    txs = []
    for place in taken:
        condition, receiver = place.condition, place.condition.offerer.other
        spk = payout(receiver)
        tx = build_htlc_success(scene.params, condition, place.settle_txid, place.vout, 500, spk)
        secret = secrets_of(receiver).htlc
        signature = sign_htlc_claim(scene.params, condition, tx, ClaimPath.SUCCESS, secret, AUX)
        txs.append(complete_htlc_success(scene.params, condition, tx, signature, preimage))
    return Transaction(3, tuple(tx.inputs[0] for tx in txs), tuple(tx.outputs[0] for tx in txs), 0)


def refund(scene: Scene, place: ConditionalOutput) -> Transaction:
    """The timeout claim of an output by its offerer."""
    condition, offerer = place.condition, place.condition.offerer
    tx = build_htlc_timeout(scene.params, condition, place.settle_txid, place.vout, 500, payout(offerer))
    secret = secrets_of(offerer).htlc
    signature = sign_htlc_claim(scene.params, condition, tx, ClaimPath.TIMEOUT, secret, AUX)
    return complete_htlc_timeout(scene.params, condition, tx, signature)


def at(height: int, branch: int = 0) -> BlockRef:
    """A block."""
    return block(height, branch)
