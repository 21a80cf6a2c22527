"""A keystore in memory; the contract tests run on it and on the file."""

from __future__ import annotations

from collections.abc import Iterable

from watchtower.keystore import KeystoreConflict


class MemoryKeystore:
    """Implements `ports.Keystore`."""

    def __init__(self) -> None:
        self._secrets: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"<MemoryKeystore {len(self._secrets)} secrets>"

    def put(self, proposal_id: bytes, revocation_secret: bytes) -> None:
        """Store; same value again is a no-op, another value raises."""
        stored = self._secrets.setdefault(bytes(proposal_id), bytes(revocation_secret))
        if stored != revocation_secret:
            raise KeystoreConflict("another secret is stored under this name")

    def erase(self, names: Iterable[bytes]) -> None:
        """Forget these secrets; unknown names change nothing."""
        for name in list(names):
            self._secrets.pop(name, None)

    def get(self, proposal_id: bytes) -> bytes | None:
        """The secret, or None."""
        return self._secrets.get(proposal_id)
