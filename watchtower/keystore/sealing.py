"""The first line of a keystore: a random data key, sealed under a key that scrypt makes from the passphrase."""

from __future__ import annotations

import secrets
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Meta

from watchtower.keystore.errors import KeystoreCorrupt, KeystoreError, WrongPassphrase, corrupt

FORMAT = "state-channel-keystore"
VERSION = 1

SCRYPT_COST = 2**16
"""64 MiB and about 0.2 s. `init` makes passphrases of 256 random bits; the cost is for those that people choose."""

BLOCK, LANES = 8, 1
"""scrypt's r and p."""

KEY_SIZE, NONCE_SIZE, TAG_SIZE = 32, 12, 16
SEALED_KEY_SIZE = NONCE_SIZE + KEY_SIZE + TAG_SIZE
MAX_STRETCH_MEMORY = 2**30
MAX_WIDTH = 64
"""Largest product of r and p; this program writes 8."""

_Small = Annotated[int, Meta(ge=1, le=2**20)]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First line. `check` is a SHA-256 over the other fields: it tells damage from a wrong passphrase."""

    format: str
    version: int
    file_id: str
    salt: str
    n: _Small
    r: _Small
    p: _Small
    data_key: str
    check: str = ""

    def checksum(self) -> str:
        """What `check` must be."""
        fields = (self.format, self.version, self.file_id, self.salt, self.n, self.r, self.p, self.data_key)
        return sha256("|".join(map(str, fields)).encode()).hexdigest()

    def bound_to(self, name: bytes, position: int) -> bytes:
        """Associated data of the secret `name` in line `position`: it fits this place in this file only."""
        return bound(self.binding, name, position)

    @property
    def binding(self) -> bytes:
        """What the associated data of all secrets in this file begin with."""
        return b"|".join((FORMAT.encode(), bytes([VERSION]), bytes.fromhex(self.file_id)))


def bound(binding: bytes, name: bytes, position: int) -> bytes:
    """`Header.bound_to`, for many secrets of one file."""
    return b"%b|%d|%b" % (binding, position, name)


def new_header(passphrase: bytes, data_key: bytes | bytearray, cost: int) -> Header:
    """A header with fresh salt and file id around a data key of 32 bytes; `cost` is scrypt's n."""
    check_cost(cost)
    file_id, salt, nonce = secrets.token_bytes(16), secrets.token_bytes(16), secrets.token_bytes(NONCE_SIZE)
    sealed = nonce + stretched_cipher(passphrase, salt, cost).encrypt(nonce, data_key, _header_binding(file_id))
    header = Header(FORMAT, VERSION, file_id.hex(), salt.hex(), cost, BLOCK, LANES, sealed.hex())
    return msgspec.structs.replace(header, check=header.checksum())


def check_cost(cost: int) -> None:
    """Raise `KeystoreError` unless this is a cost that can be opened again: a power of two, at most 1 GiB."""
    if cost < 2 or cost & (cost - 1) or cost > 2**20 or cost * BLOCK * 128 > MAX_STRETCH_MEMORY:
        raise KeystoreError(
            f"the scrypt cost is a power of two from 2 to 2^20, got {cost}; the default is {SCRYPT_COST}"
        )


def read_header(path: Path, line: bytes) -> Header:
    """The header of a file; `KeystoreCorrupt` if it is none or was damaged."""
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise corrupt(path, "the first line is not a keystore header") from None
    if header.format != FORMAT or header.version != VERSION:
        raise KeystoreCorrupt(
            f"{path} is not a keystore of format {FORMAT} {VERSION}; was it written by a newer version?"
        )
    if header.check != header.checksum() or not _can_be_opened(header):
        raise corrupt(path, "the first line is damaged")
    return header


def _can_be_opened(header: Header) -> bool:
    """Whether the fields have their form: anybody can compute the checksum of a line of their own making."""
    try:
        sizes = [len(bytes.fromhex(text)) for text in (header.file_id, header.salt, header.data_key)]
    except ValueError:
        return False
    # Lanes take turns in the same memory, but each takes its time: memory and work are bounded.
    is_bearable = header.n * header.r * header.p * 128 <= MAX_STRETCH_MEMORY and header.r * header.p <= MAX_WIDTH
    return sizes == [16, 16, SEALED_KEY_SIZE] and header.n > 1 and not header.n & (header.n - 1) and is_bearable


def open_cipher(path: Path, header: Header, passphrase: bytes) -> ChaCha20Poly1305:
    """The cipher of the secrets; `WrongPassphrase` if the passphrase is not that of the header."""
    sealed, data_key = bytes.fromhex(header.data_key), bytearray(KEY_SIZE)
    opening = stretched_cipher(passphrase, bytes.fromhex(header.salt), header.n, header.r, header.p)
    binding = _header_binding(bytes.fromhex(header.file_id))
    try:
        opening.decrypt_into(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], binding, data_key)
        return ChaCha20Poly1305(data_key)
    except InvalidTag:
        raise WrongPassphrase(
            f"the passphrase does not open {path}; give the one that it was made with "
            "(a tower reads the setting keystore.passphrase, else the file keystore.passphrase in data_dir)"
        ) from None
    finally:
        wipe(data_key)


def stretched_cipher(passphrase: bytes, salt: bytes, n: int, r: int = BLOCK, p: int = LANES) -> ChaCha20Poly1305:
    """The cipher of a passphrase; its key is wiped here, the library keeps a copy of its own."""
    key = bytearray(KEY_SIZE)
    try:
        Scrypt(salt=salt, length=KEY_SIZE, n=n, r=r, p=p).derive_into(passphrase, key)
        return ChaCha20Poly1305(key)
    finally:
        wipe(key)


def wipe(secret: bytearray) -> None:
    """Overwrite with zeros. Only what is mutable can be wiped: `bytes` and `str` stay until the memory is reused."""
    secret[:] = bytes(len(secret))


def _header_binding(file_id: bytes) -> bytes:
    return b"|".join((FORMAT.encode(), bytes([VERSION]), file_id, b"data-key"))
