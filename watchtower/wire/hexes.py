"""Byte strings that are lower-case hexadecimal text in JSON, with their length in the type.

All are plain `bytes` inside the program. `TxidHex` and `BlockHashHex` are reversed on the way, so that the text
is the one that bitcoind and block explorers show.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from domain.chain import display, from_display
from domain.errors import MalformedInput


class Hex(bytes):
    """Bytes of any length up to `LIMIT`."""

    SIZE: ClassVar[int | None] = None
    LIMIT: ClassVar[int] = 65_536

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the JSON form; `ValueError` with what is wrong."""
        if len(text) > 2 * cls.LIMIT:
            raise ValueError(f"at most {2 * cls.LIMIT} hexadecimal digits are allowed, got {len(text)}")
        # bytes.fromhex skips blanks; the text must have one form only, for answers are compared byte by byte.
        if not text.isascii() or not set(text) <= _DIGITS or len(text) % 2:
            raise ValueError("expected an even number of lower-case hexadecimal digits")
        if cls.SIZE is not None and len(text) != 2 * cls.SIZE:
            raise ValueError(f"expected {2 * cls.SIZE} hexadecimal digits ({cls.SIZE} bytes), got {len(text)}")
        return cls(bytes.fromhex(text))

    def to_text(self) -> str:
        """The JSON form."""
        return self.hex()


class Hex16(Hex):
    """The name of a log."""

    SIZE = 16


class Hex32(Hex):
    """A hash, x-only key or secret."""

    SIZE = 32


class SecretHex(Hex32):
    """32 bytes that must not be shown."""

    def __repr__(self) -> str:
        return "<secret>"

    def __str__(self) -> str:
        return repr(self)  # that of `bytes` does not ask for the one above


class Hex33(Hex):
    """A compressed point."""

    SIZE = 33


class Hex64(Hex):
    """A BIP-340 signature."""

    SIZE = 64


class HeaderHex(Hex):
    """An encoded state header."""

    SIZE = 320


class ParamsHex(Hex):
    """Encoded channel constants."""

    SIZE = 516


class KeyBlockHex(Hex):
    """An encoded key block."""

    SIZE = 206


class NonceHex(Hex):
    """A MuSig2 public nonce."""

    SIZE = 66


class TransactionHex(Hex):
    """A serialized transaction."""

    LIMIT = 100_000


class TxidHex(Hex32):
    """A transaction id: reversed in text, internal order in memory."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the display form."""
        super().from_text(text)
        try:
            return cls(from_display(text))
        except MalformedInput as error:
            raise ValueError(str(error)) from None

    def to_text(self) -> str:
        """The display form."""
        return display(self)


class BlockHashHex(TxidHex):
    """A block hash: reversed in text, internal order in memory."""


_DIGITS = frozenset("0123456789abcdef")
_LONG = re.compile(r"[0-9A-Za-z+/=_-]{43,}")
"""32 bytes in base64 or hexadecimal, and whatever else is too long for the name of a field."""

T = TypeVar("T")


def to_json(value: object) -> bytes:
    """JSON bytes of a struct; the same value always gives the same bytes."""
    return _encoder.encode(value)


def to_plain(value: object) -> Any:
    """The value as dictionaries, lists and texts."""
    return msgspec.to_builtins(value, enc_hook=_encode, str_keys=True)


def from_json(raw: bytes, form: type[T]) -> T:
    """Read a struct; `MalformedInput` names the field and what is wrong with it."""
    try:
        return msgspec.json.decode(raw, type=form, dec_hook=_decode)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedInput(readable(error)) from None


def readable(error: Exception) -> str:
    """One sentence about a decoding error. A key that stands in the wrong field is not repeated."""
    text = _LONG.sub("[…]", str(error).rstrip("."))
    return f"the message cannot be read: {text if text[:2].isupper() else text[:1].lower() + text[1:]}"


def decoder(form: Any) -> msgspec.json.Decoder[Any]:
    """A reusable decoder for structs with hexadecimal fields."""
    return msgspec.json.Decoder(form, dec_hook=_decode)


def _encode(value: object) -> str:
    if isinstance(value, Hex):
        return value.to_text()
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def _decode(form: type, value: object) -> object:
    if not issubclass(form, Hex):
        raise NotImplementedError(f"{form.__name__} has no JSON form")
    if not isinstance(value, str):
        raise ValueError("expected hexadecimal text")  # noqa: TRY004 - msgspec adds the path to a ValueError only
    return form.from_text(value)


_encoder = msgspec.json.Encoder(enc_hook=_encode)
