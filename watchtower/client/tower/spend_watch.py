"""Learns from the own tower when a funding output is spent, and when it is not any more (rule U6).

The tower's event stream tells; then it is asked once, and the client notes the answer in the party's log. Between two
such events nothing is asked, however many states are made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from watchtower.client.errors import ChannelNotFound
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.tower.payment_tower import PASSING
from watchtower.client.types import FundingStatus, ProtocolState
from watchtower.wire.events import EventBody

SPENDS = frozenset({"SpendSeen", "SpendConfirmed", "SpendReplaced", "SpendDisconnected"})
"""Kinds of events after which the spend of a funding output is another one."""

DEEP = 100
"""Blocks on a spend behind which nobody asks for it any more."""

RETRY_SECONDS = 5.0

MOST_STREAMS = 4
"""Streams of single channels at once: a tower takes 16 connections of one address, and those are for calls, too."""

LOOK_SECONDS = 60.0
"""Pause between two questions about a channel beyond them."""

_log = logging.getLogger(__name__)


class Tower(Protocol):
    """The calls of the client that are needed; `get_funding_status` notes in the party's log what it says."""

    async def get_state(self) -> ProtocolState:
        """The tower itself, with the end of its log."""
        ...

    async def get_funding_status(self, channel_id: str) -> FundingStatus:
        """Where the funding output stands."""
        ...

    def follow(self, channel_id: str | None = None, after: int | None = None) -> AsyncIterator[EventBody]:
        """Events as they are stored."""
        ...


class SpendWatch:
    """Follows the channels of a party at its own tower. For one event loop."""

    def __init__(self, tower: Tower, party: ChannelParty, *, by_channel: bool) -> None:
        """`by_channel`: a stream for each of the first channels, for a tower that knows a party by its channels' keys.

        The others are asked for every `LOOK_SECONDS`.
        """
        self._tower, self._party, self._by_channel = tower, party, by_channel
        self._followed: set[bytes] = set()
        self._bell = asyncio.Event()

    def wake(self) -> None:
        """A channel came to the tower."""
        self._bell.set()

    async def run(self) -> None:
        """Follow until cancelled; failures are logged and tried again."""
        if not self._by_channel:
            await self._keep_following(None)
            return
        async with asyncio.TaskGroup() as group:
            while True:
                self._bell.clear()
                others = [each.channel_id for each in self._watched() if each.channel_id not in self._followed]
                room = MOST_STREAMS - len(self._followed)
                for channel_id in others[:room]:
                    self._followed.add(channel_id)
                    group.create_task(self._keep_following(channel_id))
                await self._ask_all(others[room:])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._bell.wait()

    async def _ask_all(self, channel_ids: Sequence[bytes]) -> None:
        try:
            for channel_id in channel_ids:
                await self._ask_if_known(channel_id)
        except PASSING as error:
            _log.warning("spends_not_followed reason=%s", error)

    async def _keep_following(self, channel_id: bytes | None) -> None:
        while True:
            try:
                await self._follow(channel_id)
            except ChannelNotFound:  # of one channel: it is not registered yet, and `wake` is called when it is
                self._followed.discard(channel_id or b"")
                return
            except PASSING as error:
                _log.warning("spends_not_followed reason=%s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self, channel_id: bytes | None) -> None:
        """Ask where the outputs stand now, then read the stream from there on."""
        log = (await self._tower.get_state()).log
        for channel in self._watched():
            if channel_id is None:
                await self._ask_if_known(channel.channel_id)
            elif channel_id == channel.channel_id:
                await self._tower.get_funding_status(channel_id.hex())
        name, position = None if channel_id is None else channel_id.hex(), None if log is None else log.position
        async for event in self._tower.follow(name, position):
            if event.kind in SPENDS:
                await self._ask_if_known(bytes(event.channel_id))

    async def _ask_if_known(self, channel_id: bytes) -> None:
        """A tower may have channels of others, and a party channels that are not registered yet."""
        if any(channel.channel_id == channel_id for channel in self._party.channels()):
            try:
                await self._tower.get_funding_status(channel_id.hex())
            except ChannelNotFound:
                return

    def _watched(self) -> list[PartyChannel]:
        """Channels that hold money, or whose close is young enough to be undone."""
        return [each for each in self._party.channels() if each.state is not None and not self._is_over(each)]

    def _is_over(self, channel: PartyChannel) -> bool:
        height = self._party.height
        if channel.abandoned or channel.confirmed is None or height is None:
            return channel.abandoned
        return height - channel.confirmed[1].height >= DEEP
