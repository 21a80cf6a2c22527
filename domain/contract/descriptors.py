"""Checksums of output descriptors (BIP-380), which nodes require for imports."""

from __future__ import annotations

from domain.errors import MalformedInput

_INPUT_CHARACTERS = "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "
_CHECKSUM_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)


def descriptor_checksum(descriptor: str) -> str:
    """The eight characters that follow `#`; `MalformedInput` for characters that no descriptor has."""
    positions = [_INPUT_CHARACTERS.find(character) for character in descriptor]
    if -1 in positions:
        raise MalformedInput("a descriptor has a character outside the set of BIP-380")
    groups = [position >> 5 for position in positions]
    symbols: list[int] = []
    for start in range(0, len(positions), 3):
        symbols += [position & 31 for position in positions[start : start + 3]]
        symbols.append(_group_symbol(groups[start : start + 3]))
    remainder = _polymod(symbols + [0] * 8) ^ 1
    return "".join(_CHECKSUM_CHARACTERS[remainder >> 5 * (7 - i) & 31] for i in range(8))


def with_checksum(descriptor: str) -> str:
    """The descriptor followed by `#` and its checksum."""
    return f"{descriptor}#{descriptor_checksum(descriptor)}"


def _group_symbol(groups: list[int]) -> int:
    symbol = 0
    for group in groups:
        symbol = symbol * 3 + group
    return symbol


def _polymod(symbols: list[int]) -> int:
    remainder = 1
    for symbol in symbols:
        top = remainder >> 35
        remainder = (remainder & 0x7FFFFFFFF) << 5 ^ symbol
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                remainder ^= generator
    return remainder
