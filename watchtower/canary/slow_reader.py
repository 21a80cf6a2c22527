"""Reads what a block spends, slowly and plainly: shares no line with the scanner that it checks."""

from __future__ import annotations

from domain.chain import OutPoint
from domain.errors import MalformedInput

HEADER_BYTES = 80
_WIDTHS = {0xFD: 2, 0xFE: 4, 0xFF: 8}


class SlowReader:
    """Walks through one serialized block from the first transaction to the last byte."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._at = HEADER_BYTES

    def spent(self) -> list[OutPoint]:
        """The outpoints of all inputs but the coinbase's, in order. Raises `MalformedInput`."""
        found: list[OutPoint] = []
        for number in range(self._number()):
            outpoints = self._transaction()
            if number:
                found += outpoints
        if self._at != len(self._block):
            raise MalformedInput(f"the block has {len(self._block)} bytes, its transactions end at {self._at}")
        return found

    def _transaction(self) -> list[OutPoint]:
        self._take(4)  # version
        inputs = self._number()
        segwit = inputs == 0  # the marker of BIP-144 stands where the number of inputs would
        if segwit:
            self._take(1)
            inputs = self._number()
        outpoints = [self._input() for _ in range(inputs)]
        for _ in range(self._number()):
            self._take(8)  # value
            self._take(self._number())
        for _ in range(inputs if segwit else 0):
            for _ in range(self._number()):
                self._take(self._number())
        self._take(4)  # lock time
        return outpoints

    def _input(self) -> OutPoint:
        outpoint = OutPoint(self._take(36))
        self._take(self._number())  # scriptSig
        self._take(4)  # nSequence
        return outpoint

    def _number(self) -> int:
        first = self._take(1)[0]
        return int.from_bytes(self._take(_WIDTHS[first]), "little") if first in _WIDTHS else first

    def _take(self, size: int) -> bytes:
        taken = self._block[self._at : self._at + size]
        if len(taken) != size:
            raise MalformedInput(f"the block of {len(self._block)} bytes ends in the middle of a transaction")
        self._at += size
        return taken
