"""Outputs of a channel, whatever its profile: funding, contest, HTLC; their descriptors (protocol chapter 3, C.2)."""

from __future__ import annotations

from domain.contract.form import form_of
from domain.contract.params import ChannelParams
from domain.contract.primitives import ANCHOR, MAX_EXPIRY, HtlcTerms, Output, dust_limit, push_number
from domain.contract.taproot_tree import p2tr
from domain.transaction import TxOut
from domain.units import Side

__all__ = [
    "ANCHOR",
    "MAX_EXPIRY",
    "Output",
    "contest_descriptor",
    "contest_output",
    "dust_limit",
    "funding_descriptor",
    "funding_output",
    "funding_txout",
    "htlc_descriptor",
    "htlc_output",
    "p2tr",
    "push_number",
]


def funding_output(params: ChannelParams) -> Output:
    """The 2-of-2 output that holds the capacity."""
    return form_of(params).funding_output(params)


def funding_txout(params: ChannelParams) -> TxOut:
    """The funding output with its value."""
    return TxOut(params.capacity, funding_output(params).spk)


def funding_descriptor(params: ChannelParams, musig: bool = True) -> str:
    """Descriptor without checksum; `musig=False` gives the form for nodes that do not parse `musig()`.

    Profile 1 has one form only.
    """
    return form_of(params).funding_descriptor(params, musig)


def contest_output(params: ChannelParams, revocation_key: bytes) -> Output:
    """Output 0 of a commitment whose revocation key is R (33 bytes)."""
    return form_of(params).contest_output(params, revocation_key)


def contest_descriptor(params: ChannelParams, revocation_key: bytes) -> str:
    """Descriptor of the contest output, without checksum."""
    return form_of(params).contest_descriptor(params, revocation_key)


def htlc_output(params: ChannelParams, offerer: Side, payment_hash: bytes, expiry: int) -> Output:
    """Conditional output of an HTLC; `expiry` is a height."""
    return form_of(params).htlc_output(params, HtlcTerms(offerer, payment_hash, expiry))


def htlc_descriptor(params: ChannelParams, offerer: Side, payment_hash: bytes, expiry: int) -> str:
    """Descriptor of an HTLC output, without checksum."""
    return form_of(params).htlc_descriptor(params, HtlcTerms(offerer, payment_hash, expiry))
