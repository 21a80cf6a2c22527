"""Who may connect."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Admission = Callable[[bytes], bool]
"""Asked with a peer's proved identity (32 bytes) at every new connection, in the event loop; must be fast."""


def only(identities: Iterable[bytes]) -> Admission:
    """Let these peers in and nobody else."""
    allowed = frozenset(identities)
    return lambda identity: identity in allowed


def everybody(identity: bytes) -> bool:
    """Let in whoever proves a key, as a public hub does; the keys are still told apart."""
    return len(identity) == 32
