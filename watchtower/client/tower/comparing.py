"""After a restore of the own tower: notice it, bring the tower what it lacks, and tell it when nothing is missing.

A tower goes on from an older copy of its log when a disk is lost. It says so (`behind_receipts`), its epoch grows, or
its log is shorter than it was. Then every channel is compared with the party's own log, without a call of anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from domain.contract.receipts import LogReceipt
from domain.status import ChannelStatus
from watchtower.client.errors import ChannelIsClosed, ChannelNotFound, ReceiptRefused
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.tower.payment_tower import PASSING
from watchtower.client.types import ChannelInfo, LogState, ProtocolState
from watchtower.wire.restores import ConfirmationRequest

LOOK_SECONDS = 60.0
"""Pause between two looks at the tower."""

CLOSED = (ChannelStatus.UNILATERAL, ChannelStatus.SETTLED)
"""Statuses of a channel whose published state the tower should have."""

RETRY_SECONDS = 5.0
"""The same after a failure: a tower that was away may come back with another log."""

_log = logging.getLogger(__name__)


class Tower(Protocol):
    """The calls of the client that are needed."""

    async def get_state(self) -> ProtocolState:
        """The tower itself."""
        ...

    async def get_channel_info(self, channel_id: str) -> ChannelInfo:
        """A channel."""
        ...

    async def confirm_holdings(self, channel_id: str, confirmation: ConfirmationRequest) -> None:
        """The tower lacks nothing of a channel."""
        ...


class TowerComparison:
    """Looks at the own tower now and then. For one event loop; `bring` synchronizes a channel from the beginning."""

    def __init__(
        self,
        tower: Tower,
        party: ChannelParty,
        bring: Callable[[bytes], Awaitable[object]],
        promised: Callable[[], LogReceipt | None] = lambda: None,
        on_other_log: Callable[[], None] = lambda: None,
    ) -> None:
        """`promised` is the receipt with the latest place in the log that this client holds.

        `on_other_log` is called when the tower goes on from another log than at the last look.
        """
        self._on_other_log = on_other_log
        self._tower, self._party, self._bring, self._promised = tower, party, bring, promised
        self._unkept: LogReceipt | None = None
        self._seen: LogState | None = None
        self._left: set[bytes] = set()
        self._confirmed: tuple[int, set[bytes]] = (-1, set())

    async def run(self) -> None:
        """Look until cancelled; failures are logged and tried again."""
        while True:
            pause = LOOK_SECONDS
            try:
                await self.look()
            except PASSING as error:
                _log.warning("tower_not_compared reason=%s", error)
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Ask the tower once, and compare what has to be compared.

        Raises what the last channel that failed has raised; the others are done, and that one comes again.
        """
        promised = self._promised()  # before the tower is asked: it may grow meanwhile
        state = await self._tower.get_state()
        channels = self._party.channels()
        held = [channel for channel in channels if channel.acknowledged]
        self._left.update([c.channel_id for c in channels if c.is_cut_short and await self._is_lacking(c)])
        if self._seen is None:
            self._left.update([channel.channel_id for channel in held if await self._is_behind(channel)])
        if self._is_suspect(state) or self._breaks_promise(state, promised):
            self._left.update(channel.channel_id for channel in held if not self._is_done(state, channel.channel_id))
        if self._is_other_log(state):
            self._on_other_log()
        self._seen = state.log
        failure: Exception | None = None
        for channel_id in sorted(self._left):
            try:
                await self._compare(channel_id, state)
            except ReceiptRefused as error:
                failure = error  # it was delivered all the same, and the channel's own task asks again
                self._left.discard(channel_id)
            except PASSING as error:
                failure = error
            else:
                self._left.discard(channel_id)
        if failure is not None:
            raise failure

    def _is_suspect(self, state: ProtocolState) -> bool:
        """Whether the log is not certainly the one of the last look."""
        return state.behind_receipts is not None or self._is_other_log(state)

    def _is_other_log(self, state: ProtocolState) -> bool:
        now, before = state.log, self._seen
        if now is None or before is None:
            return False
        return (now.log_id, now.epoch) != (before.log_id, before.epoch) or now.position < before.position

    def _breaks_promise(self, state: ProtocolState, promised: LogReceipt | None) -> bool:
        """Whether the log is shorter than a receipt says; once for each such receipt."""
        if state.log is None or promised is None or promised == self._unkept:
            return False
        is_broken = (state.log.epoch, state.log.position) < (promised.epoch, promised.position)
        self._unkept = promised if is_broken else self._unkept
        return is_broken

    async def _is_behind(self, channel: PartyChannel) -> bool:
        """Whether the tower has less than it once acknowledged."""
        held = max(sequence for _, sequence in channel.acknowledged)
        try:
            info = await self._tower.get_channel_info(channel.channel_id.hex())
        except ChannelNotFound:
            return True
        return info.current_sequence < held

    async def _is_lacking(self, channel: PartyChannel) -> bool:
        """Whether the tower lacks a state that the peer owes its end: a complete one, or one that is on chain."""
        try:
            info = await self._tower.get_channel_info(channel.channel_id.hex())
        except ChannelNotFound:
            return False
        is_public = info.status in CLOSED or channel.signed_sequence in channel.published
        publishable = channel.signed_sequence if is_public else channel.sequence
        return info.current_sequence < publishable

    async def _compare(self, channel_id: bytes, state: ProtocolState) -> None:
        behind, log = state.behind_receipts, state.log
        # What it still takes of a channel that closes was delivered, and until its operator decided it signs nothing.
        expected = (ChannelIsClosed,) if behind is None or behind.accepted else (ChannelIsClosed, ReceiptRefused)
        with contextlib.suppress(*expected):
            await self._bring(channel_id)
        if behind is None or log is None or not behind.accepted or self._has_confirmed(log.epoch, channel_id):
            return
        info = await self._tower.get_channel_info(channel_id.hex())
        channel = self._party.channel(channel_id)
        await self._tower.confirm_holdings(channel_id.hex(), _confirmation(channel, info, log.epoch))
        self._confirmed[1].add(channel_id)
        _log.info("tower_compared channel=%s epoch=%d", channel_id.hex()[:16], log.epoch)

    def _is_done(self, state: ProtocolState, channel_id: bytes) -> bool:
        return state.log is not None and self._has_confirmed(state.log.epoch, channel_id)

    def _has_confirmed(self, epoch: int, channel_id: bytes) -> bool:
        if self._confirmed[0] != epoch:
            self._confirmed = (epoch, set())
        return channel_id in self._confirmed[1]


def _confirmation(channel: PartyChannel, info: ChannelInfo, epoch: int) -> ConfirmationRequest:
    """All that this party has; of a channel that closes, all that the tower still takes."""
    sequence, revoked, released = channel.sequence, channel.peer_revoked, channel.own_released
    if channel.is_closing:
        sequence, revoked, released = min(sequence, info.current_sequence), min(revoked, info.highest_revoked), -1
    return ConfirmationRequest(
        epoch=epoch,
        sequence=sequence,
        highest_revoked=min(revoked, sequence - 1),
        own_released=min(released, sequence - 1),
    )
