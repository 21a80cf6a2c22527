"""Rule U4: a state counts once the own tower holds it.

`settle` waits for the tower, for a call that must not return earlier. `touch` marks a channel that the peer has
moved on; the task of `run` brings it to the tower, again and again until the tower has taken it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import msgspec

from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.tower.payment_tower import PASSING

Synchronize = Callable[[bytes], Awaitable[object]]
"""Brings one channel at the tower to where the party stands: `StateChannelClient.synchronize`."""

Settled = Callable[[bytes], Awaitable[None]]
"""Told the id of a channel that the tower holds now."""

RETRY_SECONDS = 5.0

ALARM_SECONDS = 60.0
"""How long a complete state may be without a receipt before its owner is told: it is not armed so long."""


class Unarmed(msgspec.Struct, frozen=True):
    """A channel whose newest state has no receipt of the own tower: for how long (seconds), and why not."""

    channel_id: bytes
    seconds: float
    reason: str


Alarm = Callable[[Unarmed], None]
"""Told once for each time that a channel stays unarmed too long."""


def log_alarm(unarmed: Unarmed) -> None:
    """Write a line that an operator's log watch finds."""
    _log.error(
        "state_unarmed channel=%s seconds=%d reason=%s",
        unarmed.channel_id.hex()[:16],
        unarmed.seconds,
        unarmed.reason or "the tower does not answer",
    )


_log = logging.getLogger(__name__)


class Finality:
    """One party's channels at its own tower; links share it. For one event loop.

    With `max_unacked` above 0 (mode async) `settle` waits only while the tower lacks more states than that. A channel
    that stays without a good receipt for `alarm_seconds` is told to `alarm`, once, while `run` runs.
    """

    def __init__(
        self,
        synchronize: Synchronize,
        *,
        retry_seconds: float = RETRY_SECONDS,
        max_unacked: int = 0,
        alarm_seconds: float = ALARM_SECONDS,
        alarm: Alarm = log_alarm,
    ) -> None:
        self.alarm = alarm
        self._alarm_seconds = alarm_seconds
        self._since: dict[bytes, float] = {}
        self._reasons: dict[bytes, str] = {}
        self._told: set[bytes] = set()
        self._logged: dict[bytes, str] = {}
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
            self._since.setdefault(channel.channel_id, monotonic())
            self._bell.set()

    def unarmed(self) -> tuple[Unarmed, ...]:
        """Channels whose newest state the tower has not given a good receipt for, longest first."""
        now = monotonic()
        found = [Unarmed(name, now - since, self._reasons.get(name, "")) for name, since in self._since.items()]
        return tuple(sorted(found, key=lambda each: -each.seconds))

    async def settle(self, channel_id: bytes) -> None:
        """Return once the tower holds the newest state; raises what the tower's client raises."""
        if self._lacking.get(channel_id, 0) > self._max_unacked or not self._max_unacked:
            await self.bring(channel_id)

    async def bring(self, channel_id: bytes) -> None:
        """Bring a channel to the tower now, whatever it holds; raises what the tower's client raises."""
        try:
            await self._bring(channel_id)
        except BaseException:
            self._bell.set()  # the task may have looked while nothing seemed to be behind
            raise

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
            self._raise_alarms()
            if self._behind and not self._bell.is_set():
                await self._pause()

    async def _bring(self, channel_id: bytes) -> None:
        async with self._turns.setdefault(channel_id, asyncio.Lock()):
            self._behind.discard(channel_id)  # before, so that what moves meanwhile is not forgotten
            try:
                await self._synchronize(channel_id)
            except BaseException as error:
                self._behind.add(channel_id)
                self._since.setdefault(channel_id, monotonic())
                self._reasons[channel_id] = str(error)
                raise
            if channel_id in self._behind:
                self._since[channel_id] = monotonic()  # a newer state came meanwhile; this one is armed
            else:
                self._lacking.pop(channel_id, None)
                self._since.pop(channel_id, None)
            self._reasons.pop(channel_id, None)
            self._told.discard(channel_id)
            self._logged.pop(channel_id, None)
        for listener in tuple(self._listeners):
            await listener(channel_id)

    async def _try(self, channel_id: bytes) -> None:
        try:
            await self._bring(channel_id)
        except PASSING as error:
            if self._logged.get(channel_id) != str(error):  # once per reason: it is tried every few seconds
                self._logged[channel_id] = str(error)
                _log.warning("tower_behind channel=%s reason=%s", channel_id.hex()[:16], error)

    def _raise_alarms(self) -> None:
        for unarmed in self.unarmed():
            if unarmed.seconds >= self._alarm_seconds and unarmed.channel_id not in self._told:
                self._told.add(unarmed.channel_id)
                self.alarm(unarmed)

    def _seconds_to_next_try(self) -> float:
        """An alarm that becomes due is not late because of the pause."""
        waiting = [each.seconds for each in self.unarmed() if each.channel_id not in self._told]
        due = [self._alarm_seconds - seconds for seconds in waiting]
        return max(0.0, min([self._retry_seconds, *due]))

    async def _pause(self) -> None:
        """Wait before the next try; a touched channel ends the pause."""
        try:
            async with asyncio.timeout(self._seconds_to_next_try()):
                await self._bell.wait()
        except TimeoutError:
            self._bell.set()
