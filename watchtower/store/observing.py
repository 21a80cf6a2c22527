"""How long what the store does takes, and what its failures count as."""

from __future__ import annotations

from collections.abc import Callable

from watchtower.ports import StoreBroken, StoreBusy, StoreConflict, StoreError, StoreFull

Observe = Callable[[str, float, str], None]
"""Receives (operation, seconds, kind); kind is chain or client for writes, empty for reads.

An operation that failed is told as `…_failed` with the kind of its failure (`failure_kind`).
"""

_INTERFACE = ("InterfaceError", "ProgrammingError")
"""Names that all drivers have: a driver that was used wrongly, or cannot be used any more."""


def failure_kind(meant: StoreError, error: BaseException | None) -> str:
    """How a failure counts: a conflict with a faster writer, the database, its interface, or anything else."""
    if isinstance(meant, StoreConflict):
        return "integrity"
    if isinstance(meant, StoreBusy | StoreFull | StoreBroken):
        return "operational"
    return "interface" if type(error).__name__ in _INTERFACE else "other"
