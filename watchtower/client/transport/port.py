"""The two protocols that a transport fulfils."""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """One authenticated connection to one peer. Messages arrive whole, once and in order, or the connection ends.

    For use in one event loop; one task receives, any task may send.
    """

    @property
    def peer(self) -> bytes:
        """The peer's identity, 32 bytes, proved by the transport."""

    async def send(self, raw: bytes) -> None:
        """Hand over one message of at most `MAX_MESSAGE` bytes; it does not mean that the peer has read it.

        Raises `MalformedInput` for a longer one, and `TransportClosed` after the end, or if the peer reads so
        slowly that too many messages or bytes wait: then the connection is closed, nothing is left out silently.
        """

    async def receive(self) -> bytes:
        """The next message; `TransportClosed` once the connection ended and all that had arrived was read."""

    async def close(self) -> None:
        """End the connection; the peer notices. Harmless if it ended already."""


class Listener(Protocol):
    """Where peers knock. Only peers that are allowed get as far as `accept`."""

    async def accept(self) -> Transport:
        """The next new connection; `TransportClosed` once the listener is closed."""

    async def close(self) -> None:
        """Stop listening and end all connections that came in here."""
