"""Scripts, outputs and descriptors of profile 1, SCT-P/v0: W_F, W_C and W_H (protocol annex C.2)."""

from __future__ import annotations

from functools import lru_cache

from domain.contract.hashes import ripemd160, sha256
from domain.contract.params import ChannelParams
from domain.contract.primitives import HtlcTerms, Output, check_terms, push_number

_TWO, _ENDIF = b"\x52", b"\x68"
_CHECKSIG, _CHECKSIGVERIFY = b"\xac", b"\xad"
_CHECKMULTISIG, _CHECKMULTISIGVERIFY = b"\xae", b"\xaf"
_CLTV, _CSV = b"\xb1", b"\xb2"
_KEY_PUSH = b"\x21"


class ScriptOutput(Output, frozen=True):
    """A P2WSH output: `spk` 34 bytes, and the witness `script` whose SHA256 it names."""

    script: bytes


def p2wsh(script: bytes) -> ScriptOutput:
    """The output of a witness script."""
    return ScriptOutput(b"\x00\x20" + sha256(script), script)


def settle_point(settle: bytes) -> bytes:
    """The 33-byte form of a settle key (32 bytes): even y, so holders of an odd secret sign with its negation."""
    return b"\x02" + settle


@lru_cache(maxsize=1024)
def funding_output(params: ChannelParams) -> ScriptOutput:
    """The 2-of-2 output that holds the capacity, W_F; the keys stand in ascending order (BIP-67)."""
    low, high = sorted((params.keys_a.fund, params.keys_b.fund))
    return p2wsh(_TWO + _KEY_PUSH + low + _KEY_PUSH + high + _TWO + _CHECKMULTISIG)


def funding_descriptor(params: ChannelParams) -> str:
    """Descriptor of the funding output, without checksum."""
    return f"wsh(sortedmulti(2,{params.keys_a.fund.hex()},{params.keys_b.fund.hex()}))"


@lru_cache(maxsize=4096)
def contest_output(params: ChannelParams, revocation_key: bytes) -> ScriptOutput:
    """Output 0 of a commitment whose revocation key is R (33 bytes): W_C."""
    low, high = sorted(settle_point(block.settle) for block in (params.keys_a, params.keys_b))
    # <R> OP_CHECKSIG OP_IFDUP OP_NOTIF: what follows is read only if the signature for R is empty.
    both = _TWO + _KEY_PUSH + low + _KEY_PUSH + high + _TWO + _CHECKMULTISIGVERIFY
    delayed = both + push_number(params.challenge_period) + _CSV
    return p2wsh(_KEY_PUSH + revocation_key + _CHECKSIG + b"\x73\x64" + delayed + _ENDIF)


def contest_key_of(script: bytes) -> bytes:
    """R (33 bytes) as it stands in a W_C; whoever reads a foreign script rebuilds W_C from it and compares."""
    return script[1:34]


def contest_descriptor(params: ChannelParams, revocation_key: bytes) -> str:
    """Descriptor of the contest output, without checksum."""
    low, high = sorted(settle_point(block.settle).hex() for block in (params.keys_a, params.keys_b))
    delayed = f"and_v(v:multi(2,{low},{high}),older({params.challenge_period}))"
    return f"wsh(or_d(pk({revocation_key.hex()}),{delayed}))"


@lru_cache(maxsize=1024)
def htlc_output(params: ChannelParams, terms: HtlcTerms) -> ScriptOutput:
    """Conditional output of an HTLC: W_H."""
    check_terms(terms)
    receiver, offerer = params.keys(terms.offerer.other).htlc, params.keys(terms.offerer).htlc
    refund = _KEY_PUSH + offerer + _CHECKSIGVERIFY + push_number(terms.expiry) + _CLTV
    # OP_SIZE 32 OP_EQUALVERIFY OP_HASH160 <20 bytes> OP_EQUAL
    preimage_check = b"\x82\x01\x20\x88\xa9\x14" + ripemd160(terms.payment_hash) + b"\x87"
    # <receiver> OP_CHECKSIG OP_NOTIF … OP_ELSE … OP_ENDIF: no signature of the receiver means a refund.
    return p2wsh(_KEY_PUSH + receiver + _CHECKSIG + b"\x64" + refund + b"\x67" + preimage_check + _ENDIF)


def htlc_descriptor(params: ChannelParams, terms: HtlcTerms) -> str:
    """Descriptor of an HTLC output, without checksum."""
    receiver, offerer = params.keys(terms.offerer.other).htlc.hex(), params.keys(terms.offerer).htlc.hex()
    preimage_check = f"hash160({ripemd160(terms.payment_hash).hex()})"
    return f"wsh(andor(pk({receiver}),{preimage_check},and_v(v:pk({offerer}),after({terms.expiry}))))"
