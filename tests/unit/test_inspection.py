"""Every part of a transaction against its template: the real ones hold, and each change is found by its check."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from domain.contract.conditions import Condition
from domain.contract.hashes import sha256
from domain.contract.htlc import (
    ClaimPath,
    build_htlc_success,
    build_htlc_timeout,
    complete_htlc_success,
    complete_htlc_timeout,
    sign_htlc_claim,
)
from domain.contract.scripts import ANCHOR
from domain.contract.settlement import condition_vouts
from domain.inspection import Inspection, TransactionKind, inspect_transaction
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.support.scenes import AUX, Scene, block, funding_of, payout, secrets_of

TIP = 200
PREIMAGE = b"\x21" * 32
WAITING = Condition(0, 1, 5_000, 20_000, sha256(PREIMAGE))


@pytest.fixture
def scene() -> Scene:
    """A's tower with states 0 to 3; state 3 holds an HTLC from A to B."""
    return Scene(conditions={3: (WAITING,)}).opened(updates=3)


def inspect(scene: Scene, tx: Transaction) -> Inspection:
    """As the tower would."""
    number_of = {scene.header(n).commit_txid(scene.own): n for n in range(4)}
    own = tx.txid if tx.txid in number_of else None
    return inspect_transaction(scene.channel, tx, own, TIP)


def failed(inspection: Inspection) -> list[str]:
    """Names of the checks that do not hold."""
    return [finding.name for finding in inspection.findings if not finding.ok]


def claim(scene: Scene, path: ClaimPath, fee: int = 500) -> Transaction:
    """A complete claim of the HTLC in the settlement of B's commitment 3."""
    header = scene.header(3)
    vout = condition_vouts(scene.params, *header.balances, (WAITING,))[WAITING.key]
    settle_txid = header.settle_txid(Side.B)
    if path is ClaimPath.SUCCESS:
        tx = build_htlc_success(scene.params, WAITING, settle_txid, vout, fee, payout(Side.B))
        signature = sign_htlc_claim(scene.params, WAITING, tx, path, secrets_of(Side.B).htlc, AUX)
        return complete_htlc_success(scene.params, WAITING, tx, signature, PREIMAGE)
    tx = build_htlc_timeout(scene.params, WAITING, settle_txid, vout, fee, payout(Side.A))
    signature = sign_htlc_claim(scene.params, WAITING, tx, path, secrets_of(Side.A).htlc, AUX)
    return complete_htlc_timeout(scene.params, WAITING, tx, signature)


# ── what is right ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_funding_transaction(scene: Scene) -> None:
    """Value, script and segwit inputs."""
    found = inspect(scene, funding_of(scene.params))

    assert (TransactionKind.FUNDING, True, []) == (found.kind, found.is_valid, failed(found))


@pytest.mark.parametrize(
    ("side", "number", "revoked"), [(Side.B, 1, True), (Side.B, 3, False), (Side.A, 3, False), (Side.A, 1, True)]
)
def test_commitments(scene: Scene, side: Side, number: int, revoked: bool) -> None:
    """Both sides', revoked or not: side, number and the fixed fee are told."""
    found = inspect(scene, scene.commitment(side, number))

    assert (TransactionKind.COMMITMENT, []) == (found.kind, failed(found))
    assert (side, number, revoked, 332) == (found.side, found.sequence, found.revoked, found.fee)


def test_a_commitment_beyond_our_data(scene: Scene) -> None:
    """Nobody here can say whose it is: the only check that fails."""
    found = inspect(scene, scene.commitment(Side.B, 9))

    assert (TransactionKind.COMMITMENT, ["contest-script"], None) == (found.kind, failed(found), found.revoked)


def test_penalty_settlement_and_close(scene: Scene) -> None:
    """Spends of a seen commitment, and the cooperative close."""
    scene.seen(scene.commitment(Side.B, 1))
    penalty = inspect(scene, scene.penalty(Side.B, 1, 1_234))
    settlement = inspect(scene, scene.settlement(Side.B, 3))
    plain = Scene().opened(updates=3)
    close = inspect(plain, plain.coop_close(fee=400))

    assert (TransactionKind.PENALTY, [], 1_234, True) == (penalty.kind, failed(penalty), penalty.fee, penalty.revoked)
    assert (TransactionKind.SETTLEMENT, [], 3) == (settlement.kind, failed(settlement), settlement.sequence)
    assert (TransactionKind.COOPERATIVE_CLOSE, [], 400) == (close.kind, failed(close), close.fee)


def test_a_settlement_says_when_it_is_valid(scene: Scene) -> None:
    """Waiting is no fault."""
    scene.mined(scene.commitment(Side.B, 3), block(150))
    found = inspect(scene, scene.settlement(Side.B, 3))
    (maturity,) = [finding for finding in found.findings if finding.name == "maturity"]

    assert (True, "valid from block 294, 93 blocks to wait") == (maturity.ok, maturity.detail)


@pytest.mark.parametrize(("path", "names"), [(ClaimPath.SUCCESS, "preimage"), (ClaimPath.TIMEOUT, "expiry")])
def test_claims(scene: Scene, path: ClaimPath, names: str) -> None:
    """By preimage and after the expiry."""
    found = inspect(scene, claim(scene, path))

    assert (TransactionKind.CLAIM, [], 500) == (found.kind, failed(found), found.fee)
    assert names in {finding.name for finding in found.findings}


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────────────


def first_output(tx: Transaction, value: int | None = None, spk: bytes | None = None) -> Transaction:
    """Another value or script in output 0."""
    out = tx.outputs[0]
    changed = TxOut(out.value if value is None else value, out.spk if spk is None else spk)
    return msgspec.structs.replace(tx, outputs=(changed, *tx.outputs[1:]))


DEARER_ANCHOR = TxOut(241, ANCHOR.spk)
Change = Callable[[Transaction], Transaction]

COMMITMENT_CHANGES: dict[str, tuple[Change, str]] = {
    "signature": (lambda tx: tx.with_witness(0, (bytes(64), *tx.inputs[0].witness[1:])), "signatures"),
    "no witness": (lambda tx: tx.with_witness(0, ()), "signatures"),
}
SHAPE_CHANGES: dict[str, tuple[Change, str]] = {
    "version": (lambda tx: msgspec.structs.replace(tx, version=1), "version"),
    "value": (lambda tx: first_output(tx, value=5), "contest-value"),
    "anchor": (
        lambda tx: msgspec.structs.replace(tx, outputs=(tx.outputs[0], TxOut(241, tx.outputs[1].spk))),
        "anchor",
    ),
    "third output": (lambda tx: msgspec.structs.replace(tx, outputs=(*tx.outputs, tx.outputs[1])), "outputs"),
    "locktime": (lambda tx: msgspec.structs.replace(tx, lock_time=tx.lock_time + 2**24), "locktime"),
}


@pytest.mark.parametrize("name", COMMITMENT_CHANGES)
def test_a_commitment_with_a_wrong_witness(scene: Scene, name: str) -> None:
    """The txid is right, so it is a commitment; its signatures are not."""
    change, check = COMMITMENT_CHANGES[name]
    found = inspect(scene, change(scene.commitment(Side.B, 3)))

    assert (TransactionKind.COMMITMENT, [check], False) == (found.kind, failed(found), found.is_valid)


@pytest.mark.parametrize("name", SHAPE_CHANGES)
def test_what_has_not_even_the_shape_is_unknown(scene: Scene, name: str) -> None:
    """The findings name the difference."""
    change, check = SHAPE_CHANGES[name]
    found = inspect(scene, change(scene.commitment(Side.B, 3)))

    assert (TransactionKind.UNKNOWN, False) == (found.kind, found.is_valid)
    assert check in failed(found)


def test_wrong_penalties(scene: Scene) -> None:
    """Another script, an unrevoked state, a foreign signature, outputs above the input."""
    scene.seen(scene.commitment(Side.B, 1))
    penalty = scene.penalty(Side.B, 1)
    thief = inspect(scene, first_output(penalty, spk=payout(Side.B)))
    greedy = inspect(scene, first_output(penalty, value=2_000_000))
    scene.seen(scene.commitment(Side.B, 3))
    early = inspect(scene, scene.penalty(Side.B, 3))

    assert ["sweep", "signature"] == failed(thief)
    assert ["signature", "fee"] == failed(greedy)
    assert ["revoked"] == failed(early)


def test_wrong_settlements(scene: Scene) -> None:
    """Changed outputs and a changed delay break their check and the signatures."""
    settlement = scene.settlement(Side.B, 3)
    moved = inspect(scene, first_output(settlement, value=settlement.outputs[0].value + 1))
    hasty = msgspec.structs.replace(settlement.inputs[0], sequence=1)

    assert ["outputs", "signatures"] == failed(moved)
    assert ["sequence", "signatures"] == failed(inspect(scene, msgspec.structs.replace(settlement, inputs=(hasty,))))


def test_wrong_claims(scene: Scene) -> None:
    """A timeout with another lock, and a success signed by the wrong side."""
    timeout = claim(scene, ClaimPath.TIMEOUT)
    success = claim(scene, ClaimPath.SUCCESS)
    foreign = sign_htlc_claim(scene.params, WAITING, success, ClaimPath.SUCCESS, secrets_of(Side.A).htlc, AUX)

    assert ["locktime", "witness"] == failed(inspect(scene, msgspec.structs.replace(timeout, lock_time=4_999)))
    assert ["witness"] == failed(inspect(scene, success.with_witness(0, (foreign, *success.inputs[0].witness[1:]))))


def test_wrong_closes() -> None:
    """A lock time that is a time, and an unsigned close."""
    scene = Scene().opened(updates=3)
    close = scene.coop_close()
    unsigned = inspect(scene, close.with_witness(0, ()))
    timed = inspect(scene, msgspec.structs.replace(close, lock_time=600_000_000))

    assert ["signatures"] == failed(unsigned)
    assert ["locktime", "signatures"] == failed(timed)


def test_a_wrong_funding_transaction(scene: Scene) -> None:
    """The txid names the channel's funding; an input without witness could be changed by others."""
    funding = funding_of(scene.params)

    assert ["segwit-inputs"] == failed(inspect(scene, funding.with_witness(0, ())))


def test_a_stranger(scene: Scene) -> None:
    """No input and no output of the channel."""
    other = msgspec.structs.replace(funding_of(scene.params), lock_time=7)
    found = inspect(scene, other)

    assert (TransactionKind.UNKNOWN, ["spends"]) == (found.kind, failed(found))
