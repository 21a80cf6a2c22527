"""Whether the log is the one that receipts were signed for, and which epoch new receipts belong to.

Decided once at the start from the high-water file. A log that was rolled back still protects every channel that it
knows, but nothing is signed about it until the operator has said that it goes on from there.
"""

from __future__ import annotations

from watchtower.store.high_water import Comparison


class Continuity:
    """The standing of a log beside its high-water mark."""

    def __init__(self, epoch: int, verdict: Comparison) -> None:
        self._epoch, self._verdict = epoch, verdict

    def epoch(self) -> int:
        """Epoch of the receipts that are signed now."""
        return self._epoch

    def may_sign(self) -> bool:
        """Whether receipts may be signed: the log holds everything that receipts were signed for, or it was accepted."""
        return self._verdict is Comparison.FITS
