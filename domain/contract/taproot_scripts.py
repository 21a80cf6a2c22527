"""Scripts, outputs and descriptors of profile 0, SCT-P: funding, contest, HTLC (protocol chapter 3)."""

from __future__ import annotations

from functools import lru_cache

from domain.contract import keys, musig
from domain.contract.hashes import ripemd160
from domain.contract.params import ChannelParams
from domain.contract.primitives import HtlcTerms, check_terms, push_number
from domain.contract.taproot_tree import TaprootOutput, taproot_output

_CHECKSIG, _CHECKSIGVERIFY = b"\xac", b"\xad"
_CLTV, _CSV = b"\xb1", b"\xb2"
_KEY_PUSH = b"\x20"


@lru_cache(maxsize=1024)
def funding_output(params: ChannelParams) -> TaprootOutput:
    """The 2-of-2 output that holds the capacity; `leaf` is leaf_F (protocol 3.1)."""
    publics = (params.keys_a.fund, params.keys_b.fund)
    low, high = sorted(public[1:] for public in publics)
    leaf = _KEY_PUSH + low + _CHECKSIGVERIFY + _KEY_PUSH + high + _CHECKSIG
    return taproot_output(musig.key_agg(publics)[1:], (leaf,))


def funding_descriptor(params: ChannelParams, musig: bool) -> str:
    """Descriptor without checksum; `musig=False` gives the form for nodes that do not parse `musig()`."""
    publics = [params.keys_a.fund, params.keys_b.fund]
    low, high = sorted(public[1:].hex() for public in publics)
    internal = f"musig({','.join(public.hex() for public in publics)})"
    if not musig:
        internal = funding_output(params).internal.hex()
    return f"tr({internal},and_v(v:pk({low}),pk({high})))"


@lru_cache(maxsize=1024)
def contest_leaves(params: ChannelParams) -> tuple[bytes, ...]:
    """leaf_S and, with flag rescue_leaf, leaf_R (protocol 3.2); the same in all states."""
    low, high = sorted((params.keys_a.settle, params.keys_b.settle))
    both = _KEY_PUSH + low + _CHECKSIGVERIFY + _KEY_PUSH + high
    leaf_s = both + _CHECKSIGVERIFY + push_number(params.challenge_period) + _CSV
    return (leaf_s, both + _CHECKSIG) if params.has_rescue_leaf else (leaf_s,)


@lru_cache(maxsize=4096)
def contest_output(params: ChannelParams, revocation_key: bytes) -> TaprootOutput:
    """Output 0 of a commitment whose revocation key is R (33 bytes); leaves are leaf_S and perhaps leaf_R."""
    return taproot_output(keys.xonly(revocation_key), contest_leaves(params))


def contest_descriptor(params: ChannelParams, revocation_key: bytes) -> str:
    """Descriptor of the contest output, without checksum."""
    low, high = sorted((params.keys_a.settle.hex(), params.keys_b.settle.hex()))
    leaf_s = f"and_v(and_v(v:pk({low}),v:pk({high})),older({params.challenge_period}))"
    leaf_r = f"and_v(v:pk({low}),pk({high}))"
    tree = f"{{{leaf_s},{leaf_r}}}" if params.has_rescue_leaf else leaf_s
    return f"tr({keys.xonly(revocation_key).hex()},{tree})"


@lru_cache(maxsize=1024)
def _htlc_internal(params: ChannelParams) -> bytes:
    return musig.key_agg((params.keys_a.htlc, params.keys_b.htlc))[1:]


@lru_cache(maxsize=1024)
def htlc_output(params: ChannelParams, terms: HtlcTerms) -> TaprootOutput:
    """Conditional output of an HTLC; leaves are success and timeout (protocol 3.5)."""
    check_terms(terms)
    receiver_key, offerer_key = params.keys(terms.offerer.other).htlc[1:], params.keys(terms.offerer).htlc[1:]
    # OP_SIZE 32 OP_EQUALVERIFY OP_HASH160 <20 bytes> OP_EQUALVERIFY <receiver> OP_CHECKSIG
    preimage_check = b"\x82\x01\x20\x88\xa9\x14" + ripemd160(terms.payment_hash) + b"\x88"
    success = preimage_check + _KEY_PUSH + receiver_key + _CHECKSIG
    timeout = _KEY_PUSH + offerer_key + _CHECKSIGVERIFY + push_number(terms.expiry) + _CLTV
    return taproot_output(_htlc_internal(params), (success, timeout))


def htlc_descriptor(params: ChannelParams, terms: HtlcTerms) -> str:
    """Descriptor of an HTLC output with the aggregate key written out, without checksum."""
    receiver, sender = params.keys(terms.offerer.other).htlc[1:].hex(), params.keys(terms.offerer).htlc[1:].hex()
    success = f"and_v(v:hash160({ripemd160(terms.payment_hash).hex()}),pk({receiver}))"
    timeout = f"and_v(v:pk({sender}),after({terms.expiry}))"
    return f"tr({_htlc_internal(params).hex()},{{{success},{timeout}}})"
