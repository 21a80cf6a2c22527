"""Limits and rounding of amounts, depths and weights.

Feerates are floats in sat/vB and exist only inside `fees`; everything stored is an integer.
"""

from __future__ import annotations

from enum import IntEnum

MAX_MONEY = 2_100_000_000_000_000
"""21 million bitcoin in satoshi; no valid amount is above it (Bitcoin consensus)."""

MAX_SEQUENCE = 2**48 - 2
"""Highest state number. Number 2^48-1 would use shachain index 0, which is the seed (protocol 2.3)."""

SOFT_FINAL_DEPTH = 6
"""Confirmations after which an outcome may be announced; nothing is forgotten at this depth."""

FINAL_DEPTH = 100
"""Confirmations after which the tower stops defending an outcome against reorgs (coinbase maturity)."""


class Side(IntEnum):
    """A role in a channel: A opened it, B accepted it."""

    A = 0
    B = 1

    @property
    def other(self) -> Side:
        """The counterparty's role."""
        return Side.B if self is Side.A else Side.A


def ceil_div(numerator: int, denominator: int) -> int:
    """Smallest integer not below the quotient; exact for any size."""
    return -(-numerator // denominator)


def vsize(weight: int) -> int:
    """Virtual bytes of a weight in weight units (BIP-141)."""
    return ceil_div(weight, 4)
