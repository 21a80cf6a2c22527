"""Calls that wait for the peer: one at a time per channel, woken by every change of the channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from watchtower.client.peer_errors import PeerRefused, PeerSilent
from watchtower.client.protocol.channel import PartyChannel

Reached = Callable[[PartyChannel], bool]
"""Whether the channel stands where a call wants it."""


class Call:
    """One call in flight. It has one deadline (seconds of the event loop's clock), whatever it waits for."""

    def __init__(self, deadline: float, seconds: float) -> None:
        """`seconds` are what the deadline allowed when the call began, for its error."""
        self.deadline = deadline
        self._seconds = seconds
        self._changed = asyncio.Event()
        self._channel: PartyChannel | None = None
        self._error: Exception | None = None

    def note(self, channel: PartyChannel) -> None:
        """The channel as it stands now; one that was read before what is known already changes nothing."""
        if self._channel is None or channel.version >= self._channel.version:
            self._channel = channel
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """The call cannot succeed any more; the first reason counts."""
        self._error = self._error or error
        self._changed.set()

    async def wait(self, reached: Reached, share: float = 1) -> PartyChannel:
        """The channel once `reached` holds; raises what `fail` was told, or `PeerSilent` at the deadline.

        `share` is the part of the time left that may be spent on it.
        """
        now = asyncio.get_running_loop().time()
        async with self.until(now + share * (self.deadline - now)):
            while self._channel is None or not reached(self._channel):
                self.check()
                self._changed.clear()
                await self._changed.wait()
        return self._channel

    @asynccontextmanager
    async def until(self, deadline: float, *, signing: bool = False) -> AsyncIterator[None]:
        """What lasts longer ends as `PeerSilent`; `signing` = it may have come to a signature all the same."""
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise self.silence(signing=signing) from None

    def check(self) -> None:
        """Raise what `fail` was told."""
        if self._error is not None:
            raise self._error

    def silence(self, *, signing: bool = False) -> PeerSilent:
        """The error of a peer that did not answer: what may be done now depends on rule U5."""
        text = f"the peer did not answer within {self._seconds * 1000:.0f} ms"
        pending = self._channel.pending if self._channel is not None else None
        if pending is not None and pending.is_bound:
            stands = f"{text}; the channel stands where it stood. {_bound(pending.content.seq)}"
            return PeerSilent(stands, may_be_signed=True)
        if signing:
            return PeerSilent(
                f"{text}, and this side has not finished its own part either: the next state may be signed. Repeat the "
                "same call, or look at the channel",
                may_be_signed=True,
            )
        return PeerSilent(f"{text}; the channel stands where it stood, and the call may be repeated")

    def refusal(self, reason: str, slug: str) -> PeerRefused:
        """The error of a peer that said no: if the own proposal is out, that does not take it back (rule U5)."""
        pending = self._channel.pending if self._channel is not None else None
        if self._channel is None or pending is None or not pending.is_bound or pending.by is self._channel.peer:
            return PeerRefused(reason, slug)
        return PeerRefused(reason, slug, _bound(pending.content.seq))


def _bound(number: int) -> str:
    return (
        f"Signatures for state {number} were given away: repeat the same call to finish it, "
        f"or close the channel; no other content can become state {number} (rule U5)"
    )


class Calls:
    """The calls of one link. Channels are named by proposal id here, an opening by the name that A drew."""

    def __init__(self) -> None:
        self._calls: dict[bytes, set[Call]] = {}
        self._turns: dict[bytes, asyncio.Lock] = {}
        self._names: dict[bytes, bytes] = {}
        self._end: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether `end` was called."""
        return self._end is not None

    @asynccontextmanager
    async def begin(self, name: bytes, call: Call) -> AsyncIterator[Call]:
        """Wait until no other call that moves this channel is in flight, then be the one; `PeerSilent` if too late."""
        turn = self._turns.setdefault(self.key(name), asyncio.Lock())
        async with call.until(call.deadline):
            await turn.acquire()
        try:
            with self.watch(name, call):
                yield call
        finally:
            turn.release()

    @contextmanager
    def watch(self, name: bytes, call: Call) -> Iterator[Call]:
        """A call that only looks on; there may be many."""
        self._calls.setdefault(self.key(name), set()).add(call)
        if self._end is not None:
            call.fail(self._end)
        try:
            yield call
        finally:
            self._calls = {key: left for key, calls in self._calls.items() if (left := calls - {call})}

    def rename(self, name: bytes, proposal_id: bytes) -> None:
        """An opening has become a channel."""
        self._names[name] = proposal_id
        self._calls.setdefault(proposal_id, set()).update(self._calls.pop(name, set()))

    def note(self, channel: PartyChannel) -> None:
        """The channel as it stands now; its calls look whether they are done."""
        name = channel.params.proposal_id
        self._names[channel.channel_id] = name
        for call in self._calls.get(name, ()):
            call.note(channel)

    def fail(self, name: bytes, error: Exception) -> None:
        """Something went wrong in a channel; without a call nobody is told."""
        for call in self._calls.get(self.key(name), ()):
            call.fail(error)

    def refuse(self, name: bytes, reason: str, slug: str) -> None:
        """The peer does not take a message of this channel; each call hears what that leaves it."""
        for call in self._calls.get(self.key(name), ()):
            call.fail(call.refusal(reason, slug))

    def end(self, error: Exception) -> None:
        """The connection ended: all calls fail, and all that come."""
        self._end = error
        for calls in self._calls.values():
            for call in calls:
                call.fail(error)

    def key(self, name: bytes) -> bytes:
        """The proposal id of a channel id, as far as it was heard; anything else as it is."""
        return self._names.get(bytes(name), bytes(name))


class Greetings:
    """Which channels the peer has not spoken of since the connection began.

    After a break both sides say where each channel stands. An offer that overtakes the peer's word could name a
    state that the peer cannot place yet; so calls wait for it.
    """

    def __init__(self) -> None:
        self._expected: dict[bytes, asyncio.Event] = {}
        self._began = asyncio.Event()

    def expect(self, names: Iterable[bytes]) -> None:
        """The channels that existed before the connection."""
        if not self._began.is_set():
            self._expected = {bytes(name): asyncio.Event() for name in names}
            self._began.set()

    def note(self, name: bytes) -> None:
        """The peer has spoken, and the answer is on its way."""
        if (event := self._expected.pop(name, None)) is not None:
            event.set()

    def end(self) -> None:
        """Nobody speaks any more."""
        self._began.set()
        for name in tuple(self._expected):
            self.note(name)

    async def heard(self, name: bytes, call: Call) -> None:
        """Return once the peer has spoken of this channel; `PeerSilent` after the time, or why the link ended."""
        async with call.until(call.deadline):
            await self._began.wait()
            if (event := self._expected.get(name)) is not None:
                await event.wait()
        call.check()
