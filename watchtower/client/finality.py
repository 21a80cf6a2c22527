"""Rule U4: a state counts once the own tower holds it.

`settle` waits for the tower, for a call that must not return earlier. `touch` marks a channel that the peer has
moved on; the task of `run` brings it to the tower, again and again until the tower has taken it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from domain.errors import DomainError
from watchtower.client.errors import StateChannelError
from watchtower.client.party_channel import PartyChannel

Synchronize = Callable[[bytes], Awaitable[object]]
"""Brings one channel at the tower to where the party stands: `StateChannelClient.synchronize`."""

Settled = Callable[[bytes], Awaitable[None]]
"""Told the id of a channel that the tower holds now."""

RETRY_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Finality:
    """One party's channels at its own tower; links share it. For one event loop.

    With `max_unacked` above 0 (mode async) `settle` waits only while the tower lacks more states than that.
    """

    def __init__(self, synchronize: Synchronize, *, retry_seconds: float = RETRY_SECONDS, max_unacked: int = 0) -> None:
        self._max_unacked = max_unacked
        self._lacking: dict[bytes, int] = {}
        self._synchronize = synchronize
        self._retry_seconds = retry_seconds
        self._behind: set[bytes] = set()
        self._bell = asyncio.Event()
        self._turns: dict[bytes, asyncio.Lock] = {}
        self._listeners: list[Settled] = []

    @contextmanager
    def telling(self, listener: Settled) -> Iterator[None]:
        """Tell of every channel that the tower has taken, inside the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def touch(self, channel: PartyChannel) -> None:
        """Remember a channel whose newest state is complete and not yet at a tower."""
        if channel.final_sequence < channel.sequence <= channel.peer_revoked + 1:
            self._lacking[channel.channel_id] = channel.sequence - channel.final_sequence
            self._behind.add(channel.channel_id)
            self._bell.set()

    async def settle(self, channel_id: bytes) -> None:
        """Return once the tower holds the newest state; raises what the tower's client raises."""
        if self._lacking.get(channel_id, 0) > self._max_unacked or not self._max_unacked:
            await self._bring(channel_id)

    async def bring(self, channel_id: bytes) -> None:
        """Bring a channel to the tower now, whatever it holds; raises what the tower's client raises."""
        await self._bring(channel_id)

    async def flush(self) -> None:
        """Try once more to bring every channel to the tower; failures are logged."""
        for channel_id in tuple(self._behind):
            await self._try(channel_id)

    async def run(self) -> None:
        """Bring every touched channel to the tower until cancelled; failures are logged and tried again."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            for channel_id in tuple(self._behind):
                await self._try(channel_id)
            if self._behind and not self._bell.is_set():
                await self._pause()

    async def _bring(self, channel_id: bytes) -> None:
        async with self._turns.setdefault(channel_id, asyncio.Lock()):
            self._behind.discard(channel_id)  # before, so that what moves meanwhile is not forgotten
            try:
                await self._synchronize(channel_id)
            except BaseException:
                self._behind.add(channel_id)
                raise
            if channel_id not in self._behind:
                self._lacking.pop(channel_id, None)
        for listener in tuple(self._listeners):
            await listener(channel_id)

    async def _try(self, channel_id: bytes) -> None:
        try:
            await self._bring(channel_id)
        except (StateChannelError, DomainError) as error:
            _log.warning("tower_behind channel=%s reason=%s", channel_id.hex()[:16], error)

    async def _pause(self) -> None:
        """Wait before the next try; a touched channel ends the pause."""
        try:
            async with asyncio.timeout(self._retry_seconds):
                await self._bell.wait()
        except TimeoutError:
            self._bell.set()
