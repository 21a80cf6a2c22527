"""Invoices: a payment hash, an amount, and how long it may be paid.

The hash is SHA-256 of 32 bytes, as in Lightning, so a Lightning invoice can be paid or awaited through a channel:
`read_bolt11` takes hash and amount out of its text. Its signature and its routing hints are not read: who pays by it
has to know from elsewhere that the text is the receiver's.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from domain.errors import MalformedInput

MAX_BOLT11 = 4_096
"""Characters; real ones have 200 to 1,000."""

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_PREFIXES = {"lnbcrt": "regtest", "lntbs": "signet", "lnbc": "mainnet", "lntb": "testnet"}
_PART_MSAT = {"": 100_000_000_000, "m": 100_000_000, "u": 100_000, "n": 100}
"""Millisatoshi of one bitcoin and of its parts; `p` is a tenth of a millisatoshi."""

_HASH_TAG, _HASH_WORDS = 1, 52
_SIGNATURE_WORDS, _CHECKSUM_WORDS, _TIME_WORDS = 104, 6, 7


class Invoice(msgspec.Struct, frozen=True):
    """What a payer needs: 32 bytes of hash, satoshi, and the last height at which the receiver takes the payment.

    `final_expiry` is the least expiry of the last HTLC that the receiver takes, 0 if the payer may choose.
    """

    payment_hash: bytes
    amount: int
    payable_until: int = 0
    final_expiry: int = 0


class LightningInvoice(msgspec.Struct, frozen=True):
    """What is read from a BOLT-11 text. `amount` in satoshi (rounded up), None if the payer chooses it."""

    network: str
    payment_hash: bytes
    amount: int | None


def read_bolt11(text: str) -> LightningInvoice:
    """Network, payment hash and amount of a BOLT-11 invoice; `MalformedInput` says what is wrong.

    The checksum is verified, the signature is not.
    """
    text = text.strip().removeprefix("lightning:")
    if len(text) > MAX_BOLT11 or text not in (text.lower(), text.upper()):
        raise MalformedInput(f"an invoice has at most {MAX_BOLT11} characters, all in lower or all in upper case")
    human, separator, rest = text.lower().rpartition("1")
    if not separator or not human.startswith("ln") or any(letter not in _CHARSET for letter in rest):
        raise MalformedInput("this is not a Lightning invoice: it begins with 'ln' and has a '1' before its content")
    words = [_CHARSET.index(letter) for letter in rest]
    if len(words) < _TIME_WORDS + _SIGNATURE_WORDS + _CHECKSUM_WORDS or _polymod(_expanded(human) + words) != 1:
        raise MalformedInput("the checksum of the invoice is wrong: a character was changed or lost")
    network, amount = _read_human(human)
    fields = words[_TIME_WORDS : -_SIGNATURE_WORDS - _CHECKSUM_WORDS]
    hashes = [value for tag, value in _tagged(fields) if tag == _HASH_TAG and len(value) == _HASH_WORDS]
    if len(hashes) != 1:
        raise MalformedInput(f"an invoice has one payment hash, this one has {len(hashes)}")
    return LightningInvoice(network, _to_bytes(hashes[0])[:32], amount)


def _read_human(human: str) -> tuple[str, int | None]:
    prefix = next((known for known in _PREFIXES if human.startswith(known)), None)
    if prefix is None:
        raise MalformedInput(f"the network of the invoice ({human[:8]}) is not known")
    text = human.removeprefix(prefix)
    if not text:
        return _PREFIXES[prefix], None
    digits, part = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    if not digits.isdecimal() or digits.startswith("0") or part not in (*_PART_MSAT, "p"):
        raise MalformedInput(f"the amount of the invoice ({text[:20]}) cannot be read")
    tenths = int(digits) * (1 if part == "p" else 10 * _PART_MSAT[part])
    return _PREFIXES[prefix], -(-tenths // 10_000)


def _tagged(words: list[int]) -> Iterator[tuple[int, list[int]]]:
    place = 0
    while place < len(words):
        length = words[place + 1] * 32 + words[place + 2] if place + 2 < len(words) else len(words)
        if place + 3 + length > len(words):
            raise MalformedInput("a field of the invoice is longer than the invoice")
        yield words[place], words[place + 3 : place + 3 + length]
        place += 3 + length


def _to_bytes(words: list[int]) -> bytes:
    number = 0
    for word in words:
        number = number << 5 | word
    bits = 5 * len(words)
    return (number >> bits % 8).to_bytes(bits // 8, "big")


def _expanded(human: str) -> list[int]:
    codes = human.encode("utf-8", "replace")
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            check ^= generator if top >> bit & 1 else 0
    return check
