"""Spends of the funding output and settlements that both parties sign: which signatures a witness holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

from domain.contract import keys
from domain.contract.closing import key_path_sighash
from domain.contract.form import form_of
from domain.contract.params import TAPROOT, ChannelParams
from domain.transaction import Transaction
from domain.units import Side

Signatures = tuple[bytes, bytes]
"""Of A and of B, 64 bytes each."""

LONGEST_WITNESS = 6
"""Items; two signatures, a script and what goes with it are four or five. Strangers' longer ones are not searched."""


def signs_funding(params: ChannelParams, tx: Transaction, side: Side, signature: bytes) -> bool:
    """Whether `side` signed this spend of the funding output by script."""
    form = form_of(params)
    return form.verify(params.keys(side).fund, form.funding_message(params, tx), signature)


def funding_signatures(params: ChannelParams, tx: Transaction) -> Signatures | None:
    """Both signatures of a spend by script, None unless its witness is exactly the one that they make."""
    if len(tx.inputs) != 1:
        return None
    form = form_of(params)
    message = form.funding_message(params, tx)

    def fits(pair: Signatures) -> bool:
        return all(form.verify(params.keys(side).fund, message, pair[side]) for side in Side)

    return _pair(tx.inputs[0].witness, fits, lambda a, b: form.funding_witness(params, a, b))


def settle_signatures(params: ChannelParams, tx: Transaction, revocation_key: bytes) -> Signatures | None:
    """Both signatures of a settlement, None unless its witness is exactly the one that they make."""
    if len(tx.inputs) != 1:
        return None
    form = form_of(params)
    message = form.settle_message(params, tx, revocation_key)

    def fits(pair: Signatures) -> bool:
        return all(form.verify_settle(params.keys(side).settle, message, pair[side]) for side in Side)

    witness = tx.inputs[0].witness
    return _pair(witness, fits, lambda a, b: form.settle_witness(params, revocation_key, a, b))


def key_path_signature(params: ChannelParams, tx: Transaction) -> bytes | None:
    """The joined signature of a spend by key path, None if it is none or does not verify."""
    witness = tx.inputs[0].witness
    if params.profile != TAPROOT or len(tx.inputs) != 1 or len(witness) != 1 or len(witness[0]) != 64:
        return None
    output_key = form_of(params).funding_output(params).spk[2:]
    return witness[0] if keys.verify_schnorr(output_key, key_path_sighash(params, tx), witness[0]) else None


def _pair(
    witness: Sequence[bytes], fits: Callable[[Signatures], bool], complete: Callable[[bytes, bytes], tuple[bytes, ...]]
) -> Signatures | None:
    if len(witness) > LONGEST_WITNESS:
        return None
    found = [signature for item in witness if (signature := read_signature(item)) is not None]
    for pair in permutations(found, 2):
        if fits(pair) and complete(*pair) == tuple(witness):
            return pair
    return None


def read_signature(item: bytes) -> bytes | None:
    """A signature of 64 bytes as it stands in a witness of either profile."""
    return item if len(item) == 64 else keys.from_der(item[:-1])
