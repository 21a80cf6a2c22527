"""What the SDK needs from the connection to the other party: `PeerLink`, or `ServedPeer` for one that comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from watchtower.client.protocol.messages import Message
from watchtower.client.protocol.opening import NO_APP, Terms


class Closer(Protocol):
    """Gets the peer's signature on a cooperative close: a `Peer`, or `InProcessPeer` for two parties here."""

    async def close_channel(self, channel_id: bytes, final_balances: tuple[int, int], fee: int) -> bytes:
        """The complete transaction, not sent; `fee` in satoshi from the own side."""


class Peer(Closer, Protocol):
    """The other party of a channel. Every method raises `PeerError`s, and the refusals of the own party."""

    async def propose_channel(self, terms: Terms) -> bytes:
        """Agree on the constants of a new channel; the proposal id."""

    async def fix_channel(
        self, proposal_id: bytes, txid: bytes, vout: int, *, state_data: bytes = b"", app_id: bytes = NO_APP
    ) -> bytes:
        """Fix the funding outpoint (txid in internal order) and complete state 0; the channel id."""

    async def advance(self, channel_id: bytes, offer: Callable[[], Iterable[Message]]) -> int:
        """Run the exchange that begins with an offer of the own party; the number of the new state."""
