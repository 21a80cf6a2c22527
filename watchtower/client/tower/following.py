"""Follows the events of a tower: reads its event stream, and takes it up again where it ended.

async for event in follow(http, "/v1/events"):
print(event.channel_id.hex(), event.text)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx

from domain.errors import MalformedInput
from watchtower.client.errors import StateChannelError, UnexpectedAnswer, error_of
from watchtower.wire.api import Problem
from watchtower.wire.events import EventBody
from watchtower.wire.hexes import from_json

SILENCE = 60.0
"""Seconds without a byte until the stream counts as dead. A tower sends a comment every 15, unless set otherwise."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
LONGEST_EVENT = 1_000_000
"""Characters that wait for the end of their event."""

ABOUT = "state_channel"
"""Extension of a request that names no channel in its address: the one it is for (32 bytes), for whoever signs it."""

TRY_AGAIN = (429, 500, 502, 503, 504)


class EventReader:
    """Turns the bytes of a stream into events; `position` is where to go on after an interruption.

    An id counts once its event is complete: whoever went on behind half an event would never see it.
    """

    def __init__(self, position: int | None = None) -> None:
        self.position = position
        self._id = position
        self._rest = ""
        self._data: list[str] = []

    def read(self, text: str) -> list[EventBody]:
        """The events that are complete now. Raises `UnexpectedAnswer` for what no tower sends."""
        *lines, self._rest = (self._rest + text).split("\n")
        found: list[EventBody] = []
        for line in lines:
            self._take(line.rstrip("\r"), found)
        self._require_room(len(self._rest))
        return found

    def restart(self) -> None:
        """Forget what was incomplete: the connection is a new one."""
        self._rest, self._data, self._id = "", [], self.position

    def _require_room(self, more: int) -> None:
        if more + sum(len(line) + 1 for line in self._data) > LONGEST_EVENT:
            raise UnexpectedAnswer("the event stream has an event without end")

    def _take(self, line: str, found: list[EventBody]) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and value.isascii() and value.isdecimal() and len(value) <= 14:
            self._id = int(value)
        elif name == "data":
            self._data.append(value)
        elif not line:
            self._end(found)

    def _end(self, found: list[EventBody]) -> None:
        data, self._data = "\n".join(self._data), []
        if data:
            try:
                found.append(from_json(data.encode(), EventBody))
            except MalformedInput as error:
                raise UnexpectedAnswer(f"the tower sent an event that cannot be read: {error}") from None
        self.position = self._id


async def follow(
    http: httpx.AsyncClient, path: str, after: int | None = None, about: bytes | None = None
) -> AsyncIterator[EventBody]:
    """Events of a path, each once, for ever; interruptions are waited out.

    `after`: begin behind this id, 0 for the whole history; None means from now on. `about` is the channel whose key
    signs for a stream of all channels. Raises the typed error of a refusal that will not pass: a wrong credential, an
    unknown channel.
    """
    reader, pause = EventReader(after), FIRST_PAUSE
    while True:
        try:
            async for event in _one_stream(http, path, reader, about):
                pause = FIRST_PAUSE
                yield event
        except httpx.TransportError:
            pass  # interrupted: the position is known
        reader.restart()
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _one_stream(
    http: httpx.AsyncClient, path: str, reader: EventReader, about: bytes | None
) -> AsyncIterator[EventBody]:
    headers = {"Accept": "text/event-stream"}
    if reader.position is not None:
        headers["Last-Event-ID"] = str(reader.position)
    timeout = httpx.Timeout(http.timeout.connect, read=SILENCE)
    extensions = {} if about is None else {ABOUT: about}
    async with http.stream("GET", path, headers=headers, timeout=timeout, extensions=extensions) as answer:
        if answer.status_code in TRY_AGAIN:
            return
        if answer.status_code != 200:
            raise _refusal(answer.status_code, await answer.aread())
        async for text in answer.aiter_text():
            for event in reader.read(text):
                yield event


def _refusal(status: int, raw: bytes) -> StateChannelError:
    try:
        return error_of(from_json(raw, Problem))
    except MalformedInput:
        return UnexpectedAnswer(f"something answers {status} at this address, but not as a tower does")
