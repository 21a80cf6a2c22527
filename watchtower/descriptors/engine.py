"""The one door to the native descriptor library. It runs inside a `Worker`, never in the service itself.

The library ends its process on some inputs (a panic is an abort there), so nobody else may import it.
"""

from __future__ import annotations

import bdkpython
import msgspec

from watchtower.descriptors import Resolved
from watchtower.worker import Answering


def answering() -> Answering:
    """Descriptor text in (ASCII), encoded `Resolved` out."""
    encode = msgspec.msgpack.Encoder().encode
    return lambda question: encode(resolved(question.decode("ascii")))


def resolved(text: str) -> Resolved:
    """Ask the library everything about one descriptor without private keys, wildcards or several paths."""
    try:
        # The script is the same on every network; only the prefix of extended keys differs.
        kind = bdkpython.NetworkKind.TEST if "tpub" in text else bdkpython.NetworkKind.MAIN
        descriptor = bdkpython.Descriptor(text, kind)
    except bdkpython.DescriptorError:
        return Resolved("parse")
    if descriptor.has_wildcard() or descriptor.is_multipath():
        return Resolved("ranged")
    if descriptor.to_string_with_secret() != str(descriptor):
        return Resolved("secret")
    try:
        descriptor.sanity_check()
    except bdkpython.DescriptorError:
        return Resolved("sanity", descriptor.desc_type().name)
    try:
        weight = descriptor.max_weight_to_satisfy()
    except bdkpython.DescriptorError:
        return Resolved("weight", descriptor.desc_type().name)
    try:
        spk = bytes(descriptor.derive_address(0, bdkpython.Network.REGTEST).script_pubkey().to_bytes())
    except bdkpython.DescriptorError:
        return Resolved("script", descriptor.desc_type().name)
    return Resolved("", descriptor.desc_type().name, spk, weight)
