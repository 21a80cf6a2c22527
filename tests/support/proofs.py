"""Proofs and ladders of a pair, made from its known seeds."""

from __future__ import annotations

from collections.abc import Sequence

from domain.contract.form import form_of
from domain.contract.penalty import build_penalty, penalty_sighash
from domain.contract.proofs import encode_evidence, encode_secret_proof
from domain.contract.revocation import revocation_secret
from domain.contract.scripts import contest_output
from domain.ladder import Rung, encode_ladder_proof
from domain.units import Side
from tests.support.parties import Pair

FEES = (333, 1_332, 5_328, 21_312, 85_248)


def secret_proof(
    pair: Pair, sequence: int, *, accused: Side = Side.A, shown: int | None = None, txid: bytes | None = None
) -> bytes:
    """Kind 0 against the commitment of a side; `shown` is another state whose secret is shown instead."""
    secret = pair.secret(accused, sequence if shown is None else shown)
    published = pair.commitment_txid(accused, sequence) if txid is None else txid
    return encode_secret_proof(pair.channel_id, sequence, accused, published, secret)


def rungs(
    pair: Pair, sequence: int, sweep_spk: bytes, fees: Sequence[int] = FEES, top: int | None = None
) -> list[Rung]:
    """Penalties of A's commitment signed by B for these fees; `top` is the hash type of the highest one."""
    params, txid = pair.params, pair.commitment_txid(Side.A, sequence)
    key = pair.contest_key(Side.A, sequence)
    secret = revocation_secret(pair.secrets(Side.B).rev, pair.secret(Side.A, sequence))
    form, spk = form_of(params), contest_output(params, key).spk
    made = []
    for fee in fees:
        hash_type = top if top is not None and fee == fees[-1] else form.plain_hash_type
        message = penalty_sighash(params, build_penalty(params, txid, fee, sweep_spk), spk, hash_type, key)
        made.append(Rung(fee, form.sign_penalty(params, key, secret, message, bytes(32)), hash_type))
    return made


def ladder_proof(pair: Pair, sequence: int, made: Sequence[Rung]) -> bytes:
    """Kind 1 against A's commitment."""
    return encode_ladder_proof(pair.channel_id, sequence, Side.A, pair.commitment_txid(Side.A, sequence), made)


def evidence(pair: Pair, sequence: int) -> bytes:
    """A state signed by both."""
    state = pair.state(sequence)
    return encode_evidence(state.content.read_header(), state.sigs_a.state, state.sigs_b.state)
