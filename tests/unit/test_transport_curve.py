"""What is true of connections over TCP only: encryption, wrong keys, changed bytes, giants, loiterers, silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import pytest
import zmq
import zmq.asyncio

from tests.support.clocks import LoopTime
from tests.support.wires import (
    ALICE_KEY,
    BOB_KEY,
    EVE_KEY,
    IMPATIENT,
    LIVELY,
    QUICK,
    CurveWire,
    Tap,
    curve_wire,
    key_of,
    tapped,
)
from watchtower.client.errors import ConfigurationError
from watchtower.client.peer_errors import PeerUnreachable, TransportClosed
from watchtower.client.protocol.messages import MAX_MESSAGE
from watchtower.client.transport import Transport, curve_listener
from watchtower.client.transport.admission import everybody
from watchtower.client.transport.curve_doorstep import WAITING_LIMIT, Doorstep, hang_up
from watchtower.client.transport.curve_key import PeerAddress, TransportKey
from watchtower.client.transport.curve_listener import CurveListener, CurveSession
from watchtower.client.transport.curve_meter import UNSENT_BYTES, Backlog, Meter
from watchtower.client.transport.curve_socket import HELLO, MESSAGE, RECEIVE_LIMIT, SEND_LIMIT, Timing

pytestmark = pytest.mark.asyncio
T = TypeVar("T")
HASTY = Timing(handshake=0.5, heartbeat=0.2, silence=30.0)


async def soon(waiting: Awaitable[T]) -> T:
    """What must happen within seconds, and on a busy machine in half a minute."""
    return await asyncio.wait_for(waiting, 30)


@asynccontextmanager
async def strangers(wire: CurveWire, number: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections to Bob that say nothing, oldest first."""
    address = wire.listener.address
    ends = [await asyncio.open_connection(address.host, address.port) for _ in range(number)]
    try:
        yield [reader for reader, _ in ends]
    finally:
        for _, writer in ends:
            writer.close()


async def both(wire: CurveWire, address: PeerAddress | None = None) -> tuple[Transport, Transport]:
    """Alice's end and Bob's."""
    near = await wire.dial(ALICE_KEY, address)
    return near, await soon(wire.listener.accept())


async def test_an_eavesdropper_sees_no_plaintext() -> None:
    """Neither messages nor identities are among the bytes on the wire, in either direction."""
    tap = Tap()
    async with curve_wire() as wire, tapped(wire.listener.address, tap) as detour:
        near, far = await both(wire, detour)
        await near.send(b"a message of forty-two bytes, not encrypted")
        await far.send(b"an answer that nobody else may read at all")
        await soon(near.receive())
        await soon(far.receive())

    assert len(tap.seen) > 300
    assert b"message of forty" not in tap.seen
    assert b"nobody else may" not in tap.seen
    assert ALICE_KEY.public not in tap.seen


async def test_a_flipped_byte_ends_the_connection() -> None:
    """A changed frame never reaches the application; both sides notice the end."""
    tap = Tap()
    async with curve_wire(LIVELY) as wire, tapped(wire.listener.address, tap) as detour:
        near, far = await both(wire, detour)
        came = tap.flip(1)
        await near.send(b"pay me 1000 sat")
        await soon(came.wait())
        await asyncio.sleep(0.1)  # time enough for it to be handed out
        LoopTime().forward(LIVELY.silence)

        with pytest.raises(TransportClosed):
            await soon(far.receive())
        with pytest.raises(TransportClosed):
            await soon(near.receive())


async def test_another_key_at_the_address_is_refused() -> None:
    """Who listens there must prove the key of the address, or nothing is said to it."""
    async with curve_wire() as wire:
        listener = wire.listener.address
        with pytest.raises(PeerUnreachable, match="does not hold the key"):
            await wire.dial(ALICE_KEY, PeerAddress(EVE_KEY.public, listener.host, listener.port))


async def test_nobody_at_the_address_is_said() -> None:
    """A closed port is `PeerUnreachable` at once."""
    async with curve_wire() as wire:
        with pytest.raises(PeerUnreachable, match="nobody answers"):
            await wire.dial(ALICE_KEY, PeerAddress(BOB_KEY.public, "127.0.0.1", 1))


async def test_a_silent_address_is_given_up() -> None:
    """A host that takes the connection and says nothing costs the handshake's time, no more."""
    async with curve_wire(HASTY) as wire, tapped(wire.listener.address, Tap(silent=True)) as detour:
        with pytest.raises(PeerUnreachable):
            await soon(wire.dial(ALICE_KEY, detour))


async def test_a_loiterer_is_shown_out() -> None:
    """A connection that never finishes its handshake is closed by the listener; others are served meanwhile."""
    async with curve_wire(HASTY) as wire:
        wire.timing = QUICK  # of those who dial
        address = wire.listener.address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"\xff\0\0\0")
        near, far = await both(wire)
        await near.send(b"served")

        assert b"served" == await soon(far.receive())
        assert b"" == await soon(_last(reader))
        writer.close()


async def test_strangers_do_not_use_up_the_descriptors() -> None:
    """However many connect and say nothing, a hundred wait at most; the oldest give way, and peers get through."""
    async with curve_wire() as wire, strangers(wire, WAITING_LIMIT + 60) as readers:
        turned_away = await soon(asyncio.gather(*(_last(reader) for reader in readers[:60])))
        near, far = await both(wire)
        await near.send(b"served")

        assert b"served" == await soon(far.receive())
        assert [b""] * 60 == turned_away
        assert WAITING_LIMIT >= len(wire.listener._doorstep)


@pytest.mark.slow
async def test_a_peer_that_stays_after_the_goodbye_is_hung_up_on() -> None:
    """Each new connection ends the session of the one before; a program that keeps the old ones open holds few."""
    async with curve_wire() as wire:
        wire.listener._doorstep = Doorstep(3)
        sockets, ends = [], []
        for _ in range(6):  # one after another: all at once they would be too many before their handshakes end
            sockets.append(raw_socket(wire, ALICE_KEY))
            ends.append(sockets[-1].get_monitor_socket(zmq.EVENT_DISCONNECTED))
            await sockets[-1].send(HELLO)
            await soon(wire.listener.accept())
        await soon(asyncio.gather(*(end.recv_multipart() for end in ends[:2])))

        assert 3 == len(wire.listener._doorstep)
        for socket in sockets:
            socket.context.destroy(0)


async def test_the_number_of_peers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that admits everybody says no to one more, and yes again when one has gone."""
    monkeypatch.setattr("watchtower.client.transport.curve_listener.SESSION_LIMIT", 2)
    async with curve_wire(admission=everybody) as wire:
        first, far = await both(wire)
        await wire.dial(BOB_KEY)
        with pytest.raises(PeerUnreachable, match="no further connection"):
            await soon(wire.dial(EVE_KEY))
        await first.close()
        with pytest.raises(TransportClosed):
            await soon(far.receive())

        await soon(wire.dial(EVE_KEY))


class Greedy:
    """Lets three megabytes pass and keeps the rest, so that what is on the way never ends."""

    def __init__(self) -> None:
        self.passed = 0

    def __call__(self, data: bytes) -> bytes:
        """What goes on."""
        self.passed += len(data)
        return data if self.passed < 3_000_000 else b""


@pytest.mark.slow
async def test_a_message_without_end_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is small enough; their sum is bounded as well, and what came of them is thrown away."""
    monkeypatch.setattr(curve_listener, "Meter", partial(Meter, limit=2_000_000))
    monkeypatch.setattr(curve_listener, "LOOK_SECONDS", 0.05)
    tap = Tap(change=Greedy())
    async with curve_wire() as wire, tapped(wire.listener.address, tap) as detour:
        socket = raw_socket(wire, ALICE_KEY, detour)
        await socket.send(HELLO)
        far = await soon(wire.listener.accept())
        await socket.send_multipart([MESSAGE + bytes(300_000)] * 20)

        with pytest.raises(TransportClosed):
            await soon(far.receive())
        socket.context.destroy(0)


async def test_many_whole_messages_end_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count begins anew with each: only what comes without one is too much."""
    monkeypatch.setattr(curve_listener, "Meter", partial(Meter, limit=100_000))
    monkeypatch.setattr(curve_listener, "LOOK_SECONDS", 0.0)
    async with curve_wire() as wire:
        near, far = await both(wire)
        for number in range(20):
            await near.send(bytes([number]) * 20_000)
            assert bytes([number]) == (await soon(far.receive()))[:1]


async def test_a_dialed_peer_sends_no_message_without_end_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """The side that dialed measures its connection as well."""
    async with curve_wire() as wire:
        near, _ = await both(wire)
        monkeypatch.setattr(near._meter, "_limit", -1)  # type: ignore[attr-defined]
        near._looked = 0.0  # type: ignore[attr-defined]

        with pytest.raises(TransportClosed, match="without end"):
            await soon(near.receive())


@pytest.mark.slow
async def test_a_dialed_peer_that_does_not_read_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """What waits for it is bounded in bytes on this side as well, and is given back at once."""
    caplog.set_level(logging.INFO)
    async with curve_wire() as wire:
        near, _ = await both(wire)
        wire.listener._tasks[-1].cancel()  # Bob's program takes nothing any more
        sent = 0
        with pytest.raises(TransportClosed, match="bytes unread"):
            while sent < SEND_LIMIT:
                await near.send(bytes(MAX_MESSAGE))
                sent += 1
                await asyncio.sleep(0)

        assert UNSENT_BYTES - MAX_MESSAGE <= sent * MAX_MESSAGE
        assert f"peer_gone peer={near.peer.hex()[:16]} " in caplog.text
        with pytest.raises(TransportClosed, match="bytes unread"):
            await soon(near.receive())


async def test_a_session_that_is_left_ends_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener hangs up: a goodbye in the queue would be read by nobody, and the queue would stay."""
    monkeypatch.setattr(curve_listener, "Backlog", partial(Backlog, limit=1))
    async with curve_wire(LIVELY) as wire:
        near, far = await both(wire)
        far._backlog._before += 1_000_000  # type: ignore[attr-defined]  # nothing has arrived there

        with pytest.raises(TransportClosed, match="bytes unread"):
            await far.send(b"some bytes")
        with pytest.raises(TransportClosed):
            while True:  # what was sent last may have got through before the line was cut
                await soon(near.receive())
        again, there = await both(wire)
        await again.send(b"again")
        assert b"again" == await soon(there.receive())


async def test_what_was_read_does_not_wait() -> None:
    """Far more than the bound passes to a peer that reads, and heartbeats, which nobody counts, change nothing."""
    async with curve_wire(LIVELY) as wire:
        near, far = await both(wire)
        backlog = Backlog(far.descriptor, limit=50_000)  # type: ignore[attr-defined]
        far._backlog = backlog  # type: ignore[attr-defined]
        for number in range(20):
            await far.send(bytes([number]) * 20_000)
            assert bytes([number]) == (await soon(near.receive()))[:1]


@pytest.mark.slow
async def test_a_connection_that_breaks_with_much_unread_aborts_no_program() -> None:
    """More waits than libzmq reads ahead, the line is cut, and the time of a heartbeat passes."""
    async with curve_wire(LIVELY) as wire:
        near, far = await both(wire)
        for _ in range(2 * RECEIVE_LIMIT):
            await far.send(bytes(1_000))
        await asyncio.sleep(LIVELY.heartbeat)
        hang_up(far.descriptor, wire.listener.address.port)  # type: ignore[attr-defined]
        await asyncio.sleep(2 * LIVELY.heartbeat)

        with pytest.raises(TransportClosed):
            while True:
                await soon(near.receive())


async def test_heartbeats_keep_a_quiet_connection() -> None:
    """Nobody says anything for longer than silence may last; heartbeats are not handed out as messages."""
    async with curve_wire(LIVELY) as wire:
        near, far = await both(wire)
        time, (session,) = LoopTime(), wire.listener._sessions.values()
        waiting = [asyncio.create_task(end.receive()) for end in (near, far)]
        for _ in range(8):
            time.forward(LIVELY.silence / 4)
            await soon(_heard(near, session, time.seconds()))
        await far.send(b"still here")
        await near.send(b"so am I")

        assert [b"still here", b"so am I"] == await soon(asyncio.gather(*waiting))


async def _heard(near: Transport, session: CurveSession, since: float) -> None:
    """Wait until a heartbeat has come on both sides."""
    while min(near._heard, session.heard) <= since:  # type: ignore[attr-defined]  # noqa: ASYNC110 - inner marks
        await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_dead_line_is_noticed() -> None:
    """When nothing passes any more, not even heartbeats, both sides hear of the end."""
    tap = Tap()
    async with curve_wire(IMPATIENT) as wire, tapped(wire.listener.address, tap) as detour:
        near, far = await both(wire, detour)
        tap.silent = True

        with pytest.raises(TransportClosed):
            await soon(near.receive())
        with pytest.raises(TransportClosed):
            await soon(far.receive())


async def test_a_giant_ends_its_connection_only() -> None:
    """A frame above the limit is not read; the next connection of the same peer works."""
    async with curve_wire() as wire:
        socket = raw_socket(wire, ALICE_KEY)
        await socket.send(HELLO)
        far = await soon(wire.listener.accept())
        await socket.send(MESSAGE + bytes(MAX_MESSAGE + 1_000))

        with pytest.raises(TransportClosed):
            await soon(far.receive())
        near, again = await both(wire)
        await near.send(b"again")
        assert b"again" == await soon(again.receive())
        socket.context.destroy(0)


@pytest.mark.parametrize("frames", [[MESSAGE, MESSAGE], [b"X"], [b""]], ids=["two frames", "unknown kind", "empty"])
async def test_an_odd_frame_ends_the_connection(frames: list[bytes]) -> None:
    """What no peer of this kind sends ends the session; nothing of it reaches the party."""
    async with curve_wire() as wire:
        socket = raw_socket(wire, ALICE_KEY)
        await socket.send(HELLO)
        far = await soon(wire.listener.accept())
        await socket.send_multipart(frames)

        with pytest.raises(TransportClosed):
            await soon(far.receive())
        socket.context.destroy(0)


async def test_a_new_connection_replaces_the_old_one() -> None:
    """One session per peer: after a reconnect messages go to the new connection."""
    async with curve_wire() as wire:
        _, old = await both(wire)
        near, new = await both(wire)
        await new.send(b"here")

        with pytest.raises(TransportClosed):
            await soon(old.receive())
        assert b"here" == await soon(near.receive())


async def test_a_callback_that_fails_lets_nobody_in() -> None:
    """An admission that raises, or that does not say True, is a refusal; the listener goes on."""

    def broken(identity: bytes) -> bool:
        raise RuntimeError("a bug of the application")

    async with curve_wire() as wire:
        strict = CurveListener(key_of("carol"), "127.0.0.1", 0, broken)
        await strict.start()
        with pytest.raises(PeerUnreachable):
            await wire.dial(ALICE_KEY, PeerAddress(EVE_KEY.public, "127.0.0.1", strict.address.port))
        await strict.close()


async def test_a_taken_port_is_said() -> None:
    """Listening twice on one port is a `ConfigurationError`."""
    async with curve_wire() as wire:
        second = CurveListener(EVE_KEY, "127.0.0.1", wire.listener.address.port, everybody)
        with pytest.raises(ConfigurationError, match="cannot listen"):
            await second.start()


async def test_a_key_comes_from_the_seed_and_is_never_shown() -> None:
    """The same seed gives the same identity; the secret is in no text of the key."""
    key = TransportKey.from_seed(bytes(32))

    assert TransportKey.from_seed(bytes(32)).public == key.public
    assert TransportKey.from_seed(b"\x01" * 32).public != key.public
    assert f"<TransportKey {key.public.hex()}>" == repr(key)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "peer.example"])
async def test_an_address_has_one_form(host: str) -> None:
    """Text and object are the same thing."""
    text = f"{'ab' * 32}@{host}:9735"

    assert text == str(PeerAddress.parse(text))


@pytest.mark.parametrize(
    "text", ["", "ab@host:1", f"{'AB' * 32}@host:1", f"{'ab' * 32}@host:0", f"{'ab' * 32}@host:65536"]
)
async def test_a_wrong_address_is_refused(text: str) -> None:
    """The error shows how an address looks."""
    with pytest.raises(ConfigurationError, match="64 hexadecimal"):
        PeerAddress.parse(text)


def raw_socket(wire: CurveWire, key: TransportKey, address: PeerAddress | None = None) -> zmq.asyncio.Socket:
    """A client of this transport without its manners; it connects once."""
    socket = zmq.asyncio.Context().socket(zmq.DEALER)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    key.apply(socket)
    socket.curve_serverkey = BOB_KEY.public
    socket.connect((address or wire.listener.address).endpoint)
    return socket


async def _last(reader: asyncio.StreamReader) -> bytes:
    """What comes when nothing more comes."""
    await reader.read()
    return await reader.read(1)
