"""Who asks, once it is known."""

from __future__ import annotations

import msgspec

from watchtower.access import ALL_SCOPES, Scope


class Principal(msgspec.Struct, frozen=True):
    """An operator's token (`key` is None), or a party by its x-only auth key (32 bytes), and what it may do."""

    key: bytes | None = None
    scopes: frozenset[Scope] = frozenset()

    @property
    def is_party(self) -> bool:
        """True for a request that was signed with a party's key."""
        return self.key is not None


OPERATOR = Principal(scopes=ALL_SCOPES)
NOBODY = Principal()
"""Who asks at an address that needs no credential."""
