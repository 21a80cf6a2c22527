"""A tower's signature over a manifest: whoever trusts the key may trust head, digests and bounds of the export."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec

from domain.contract.hashes import tagged_hash
from domain.contract.keys import verify_schnorr
from watchtower.store.exports.manifest import SIGNATURE
from watchtower.store.exports.records import ExportMalformed

Sign = Callable[[bytes], bytes]
"""Signs 32 bytes with the tower key (BIP-340)."""

MAX_SIGNATURE = 1_024
"""Bytes of a signature file that is read; ours has about 230."""


class ManifestSignature(msgspec.Struct, frozen=True):
    """The tower's key (x-only) and its signature over `signed_hash`, both hexadecimal."""

    tower: str
    signature: str


def signed_hash(manifest: bytes) -> bytes:
    """What the tower signs, 32 bytes."""
    return tagged_hash("SCT1/export", sha256(manifest).digest())


def signature_file(manifest: bytes, tower_id: bytes, sign: Sign) -> bytes:
    """The bytes of `manifest.sig`; the same manifest and key give the same bytes."""
    made = ManifestSignature(tower_id.hex(), sign(signed_hash(manifest)).hex())
    return msgspec.json.encode(made) + b"\n"


def read_signature(directory: Path, manifest: bytes) -> tuple[str, bool] | None:
    """The tower that an export says it was signed by (hex) and whether that is true; None if it is not signed.

    Raises `ExportMalformed` for a file that holds no signature.
    """
    try:
        with (directory / SIGNATURE).open("rb") as file:
            raw = file.read(MAX_SIGNATURE)
        found = msgspec.json.decode(raw, type=ManifestSignature)
        key, signature = bytes.fromhex(found.tower), bytes.fromhex(found.signature)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExportMalformed(f"{SIGNATURE} cannot be read ({error.strerror})") from None
    except (msgspec.MsgspecError, ValueError):
        raise ExportMalformed(f"{SIGNATURE} holds no signature") from None
    return found.tower, verify_schnorr(key, signed_hash(manifest), signature)
