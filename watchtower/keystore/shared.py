"""The keystore of a tower whose log is on a server: its own file, and sealed copies for the towers that stand by.

A secret is durable in both places before the event that needs it. What a tower uses is always in its own file, so a
server that is away keeps no penalty back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import structlog

from watchtower.keystore import FileKeystore, TransportSeal
from watchtower.ports import StoreError

_log = structlog.get_logger(__name__)

BATCH = 500
"""Secrets in one transaction when a server gets those that it lacks."""


class SecretTable(Protocol):
    """Sealed secrets on a server; all methods raise `StoreError`."""

    def put(self, secrets: Sequence[tuple[bytes, bytes]]) -> None:
        """Store names with sealed bytes; a name that is there keeps what it has."""

    def remove(self, names: Collection[bytes]) -> None:
        """Forget names."""

    def names(self) -> frozenset[bytes]:
        """All names."""

    def fresh(self) -> list[tuple[bytes, bytes]]:
        """What was added since the last call; at the first all."""

    def look(self) -> None:
        """Called every second: end a question that the server does not answer."""

    def close(self) -> None:
        """Close the connection."""


class SharedKeystore:
    """Implements `ports.Keystore`; closes neither of its parts."""

    def __init__(self, own: FileKeystore, table: SecretTable, seal: TransportSeal) -> None:
        self._own, self._table, self._seal = own, table, seal

    def put(self, proposal_id: bytes, revocation_secret: bytes) -> None:
        """Store in the file and on the server. Raises `KeystoreError`, or `StoreError` if the server has it not."""
        self._own.put(proposal_id, revocation_secret)
        self._table.put([(proposal_id, self._seal.seal(proposal_id, revocation_secret))])

    def get(self, proposal_id: bytes) -> bytes | None:
        """The secret of a name from the own file, or None."""
        return self._own.get(proposal_id)

    def erase(self, names: Iterable[bytes]) -> None:
        """Forget secrets. What the server keeps because it is away is removed by the next start."""
        unwanted = tuple(names)
        self._own.erase(unwanted)
        try:
            self._table.remove(unwanted)
        except StoreError as error:
            _log.warning("erase_failed", reason=str(error), channels=len(unwanted))

    def look(self) -> None:
        """Called every second: nobody waits for ever for the server."""
        self._table.look()

    def follow(self) -> int:
        """Put what the server got since the last call into the own file; how many were new.

        Raises `StoreError`, and `KeystoreError` if the towers do not have the same key.
        """
        fresh = self._table.fresh()
        known = self._own.names() if fresh else frozenset()
        news = [(name, sealed) for name, sealed in fresh if name not in known]
        for name, sealed in news:
            self._own.put(name, self._seal.open(name, sealed))
        return len(news)

    def lead(self) -> int:
        """At the start of a tower that leads: both places get what they lack; how many the server got."""
        self.follow()
        missing = sorted(self._own.names() - self._table.names())
        for start in range(0, len(missing), BATCH):
            part = ((name, self._own.get(name)) for name in missing[start : start + BATCH])
            self._table.put([(name, self._seal.seal(name, secret)) for name, secret in part if secret is not None])
        return len(missing)
