"""Authenticated and encrypted connections over TCP: the side that listens.

One ROUTER serves all peers. It would drop messages for a peer that is gone or reads too slowly; ROUTER_MANDATORY
turns that into an error, which ends the connection. libzmq tells the end of a TCP connection by its descriptor,
which is why every session remembers it.
"""

from __future__ import annotations

import asyncio
import logging

import zmq
import zmq.asyncio

from domain.errors import MalformedInput
from watchtower.client.errors import ConfigurationError
from watchtower.client.peer_errors import TransportClosed
from watchtower.client.protocol.messages import MAX_MESSAGE
from watchtower.client.transport.admission import Admission
from watchtower.client.transport.curve_doorstep import Doorstep, hang_up
from watchtower.client.transport.curve_gate import DOMAIN, Gate
from watchtower.client.transport.curve_key import PeerAddress, TransportKey
from watchtower.client.transport.curve_meter import Backlog, Meter
from watchtower.client.transport.curve_socket import (
    BYE,
    HELLO,
    LOOK_SECONDS,
    MESSAGE,
    PING,
    Timing,
    Watched,
    end,
    prepare,
)

UNREAD_BYTES = 16_000_000
"""What one peer may have waiting here; a party reads faster than an honest peer can write."""

SESSION_LIMIT = 500
"""Peers that are connected at one time; each holds a descriptor. Only a listener that admits everybody comes near."""

_log = logging.getLogger(__name__)


class CurveSession:
    """A `Transport` that came in through a listener."""

    def __init__(self, listener: CurveListener, route: bytes, descriptor: int, peer: bytes) -> None:
        self.peer = peer
        self.route = route
        self.descriptor = descriptor
        self._listener = listener
        self._backlog = Backlog(descriptor)
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._unread = 0
        self.heard = asyncio.get_running_loop().time()
        self.ended = ""

    def __repr__(self) -> str:
        return f"<CurveSession of {self.peer.hex()[:8]}>"

    async def send(self, raw: bytes) -> None:
        """See `Transport.send`."""
        if len(raw) > MAX_MESSAGE:
            raise MalformedInput(f"a message has at most {MAX_MESSAGE} bytes, got {len(raw)}")
        if self.ended:
            raise TransportClosed(self.ended)
        if not await self._listener.put(self.route, MESSAGE + raw):
            await self._listener.leave(self, "the connection ended, or the peer left too many messages unread")
        elif not self._backlog.add(len(raw)):
            await self._listener.leave(self, "the peer left too many bytes unread")
        if self.ended:
            raise TransportClosed(self.ended)

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        raw = await self._queue.get()
        if raw is None:
            self._queue.put_nowait(None)
            raise TransportClosed(self.ended)
        self._unread -= len(raw)
        return raw

    async def close(self) -> None:
        """See `Transport.close`."""
        if not self.ended:
            await self._listener.drop(self, "the connection was closed here")

    def arrived(self, raw: bytes) -> bool:
        """Queue a message; False if the peer floods this side."""
        self._unread += len(raw)
        self._queue.put_nowait(raw)
        return self._unread <= UNREAD_BYTES

    def end(self, reason: str) -> None:
        """Nothing comes after what is waiting."""
        if not self.ended:
            self.ended = reason
            self._queue.put_nowait(None)


class CurveListener:
    """A `Listener` on a TCP port. `start` binds it."""

    def __init__(
        self, key: TransportKey, host: str, port: int, admission: Admission, timing: Timing | None = None
    ) -> None:
        self._context = zmq.asyncio.Context()
        self._gate = Gate(self._context, admission)
        socket = self._context.socket(zmq.ROUTER)
        self._timing = timing or Timing()
        prepare(socket, self._timing)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        key.apply(socket)
        socket.curve_server = True
        socket.setsockopt_string(zmq.ZAP_DOMAIN, DOMAIN)
        self._watched = Watched(socket)
        self._host, self._port, self._key = host, port, key
        self._sessions: dict[bytes, CurveSession] = {}
        self._by_descriptor: dict[int, CurveSession] = {}
        self._doorstep = Doorstep()
        self._meters: dict[int, Meter] = {}
        self._looked = self._beaten = 0.0
        self._waiting: asyncio.Queue[CurveSession | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<CurveListener {self.address}>"

    @property
    def address(self) -> PeerAddress:
        """What a peer dials."""
        return PeerAddress(self._key.public, self._host, self._port)

    async def start(self) -> None:
        """Listen; port 0 takes a free one. `ConfigurationError` if the address cannot be had."""
        self._tasks.append(asyncio.create_task(self._gate.run(), name="peer gate"))
        try:
            if self._port:
                self._watched.socket.bind(self.address.endpoint)
            else:
                self._port = self._watched.socket.bind_to_random_port(f"tcp://{self._host}")
        except zmq.ZMQError as error:
            await self.close()
            raise ConfigurationError(f"cannot listen on {self._host}:{self._port} ({error.strerror})") from None
        self._tasks.append(asyncio.create_task(self._pump(), name="peer listener"))

    async def accept(self) -> CurveSession:
        """See `Listener.accept`."""
        session = await self._waiting.get()
        if session is None:
            self._waiting.put_nowait(None)
            raise TransportClosed("the listener was closed")
        return session

    async def close(self) -> None:
        """See `Listener.close`."""
        for session in tuple(self._sessions.values()):
            await session.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._watched.socket.closed:
            self._gate.close()
            self._watched.close()
            await end(self._context)
        self._waiting.put_nowait(None)

    async def put(self, route: bytes, payload: bytes) -> bool:
        """Send one frame to a connection; False if it is gone or takes no more."""
        if self._watched.socket.closed:
            return False
        try:
            await self._watched.socket.send_multipart([route, payload], flags=zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    async def _pump(self) -> None:
        """Give every frame to its session. Ends of connections are looked up before, told after the frames."""
        while True:
            ended = await self._look_outside()
            while (frames := await self._watched.frames()) is not None:
                # What happened before this frame is known then: a descriptor in it is that of the newest connection.
                ended += await self._look_outside()
                await self._take(frames)
                self._measure()
                await self._beat()
                await asyncio.sleep(0)  # a flood must not hold the loop
            for session in ended:
                self._forget(session, "the connection to the peer was lost")
            self._measure()
            await self._beat()
            await self._watched.wait(self._timing.look)

    async def _beat(self) -> None:
        """Tell all peers now and then that this side lives, and leave those of whom nothing is heard."""
        now = asyncio.get_running_loop().time()
        if now - self._beaten < self._timing.heartbeat:
            return
        self._beaten = now
        for session in tuple(self._sessions.values()):
            if now - session.heard > self._timing.silence:
                await self.leave(session, self._timing.death)
            else:
                await self.put(session.route, PING)

    def _measure(self) -> None:
        """Hang up on connections whose message does not end; what follows is told as any other end."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for descriptor in [each for each, meter in self._meters.items() if meter.is_over()]:
            _log.info("peer_gone peer=%s reason=%s", self._name(descriptor), "a message without end came")
            del self._meters[descriptor]
            hang_up(descriptor, self._port)

    def _name(self, descriptor: int) -> str:
        session = self._by_descriptor.get(descriptor)
        return session.peer.hex()[:16] if session is not None else "unknown"

    async def _look_outside(self) -> list[CurveSession]:
        """Who came and who left; the sessions whose connections have ended."""
        found = []
        while (event := await self._watched.event()) is not None:
            kind, descriptor = event
            if kind == zmq.EVENT_ACCEPTED:
                self._doorstep.came(descriptor)
                self._meters[descriptor] = Meter(descriptor)
            elif kind == zmq.EVENT_DISCONNECTED:
                self._doorstep.left(descriptor)
                self._meters.pop(descriptor, None)
                if (session := self._by_descriptor.pop(descriptor, None)) is not None:
                    found.append(session)
        self._doorstep.clear(self._port)
        return found

    async def _take(self, frames: list[zmq.Frame]) -> None:
        route, payload = bytes(frames[0].bytes), bytes(frames[-1].bytes)
        session = self._sessions.get(route)
        if session is not None:
            session.heard = asyncio.get_running_loop().time()
        if session is not None and (meter := self._meters.get(session.descriptor)) is not None:
            meter.whole()
        if payload == HELLO and len(frames) == 2 and session is None:
            await self._welcome(route, frames[1])
        elif session is None:
            await self.put(route, BYE)  # it ended here, and a ROUTER cannot hang up
        elif payload == PING and len(frames) == 2:
            return
        elif payload[:1] == MESSAGE and len(frames) == 2:
            if not session.arrived(payload[1:]):
                await self.drop(session, f"the peer has more than {UNREAD_BYTES} bytes waiting here")
        else:
            await self.drop(session, "the peer ended the connection" if payload == BYE else "an unknown frame came")

    async def _welcome(self, route: bytes, frame: zmq.Frame) -> None:
        """A new session; an older one of the same peer is over, for a party connects once."""
        peer = bytes.fromhex(str(frame.get("User-Id")))
        for older in [each for each in self._sessions.values() if each.peer == peer]:
            await self.drop(older, "the peer connected anew")
        if len(self._sessions) >= SESSION_LIMIT:
            _log.info(
                "peer_gone peer=%s reason=%s", peer.hex()[:16], f"{SESSION_LIMIT} others are connected, no more fit"
            )
            await self.put(route, BYE)
            return
        if not await self.put(route, HELLO):
            return  # gone already
        session = CurveSession(self, route, int(frame.get(zmq.SRCFD)), peer)
        self._sessions[route] = session
        self._by_descriptor[session.descriptor] = session
        self._doorstep.left(session.descriptor)
        self._waiting.put_nowait(session)

    async def drop(self, session: CurveSession, reason: str) -> None:
        """End a session and tell its peer; one that stays all the same waits outside until it has to give way."""
        if self._by_descriptor.get(session.descriptor) is session:
            self._doorstep.came(session.descriptor)
        self._forget(session, reason)
        await self.put(session.route, BYE)

    async def leave(self, session: CurveSession, reason: str) -> None:
        """End a session whose peer does not answer, and its connection: libzmq keeps what waits for it until then."""
        await self.drop(session, reason)
        hang_up(session.descriptor, self._port)

    def _forget(self, session: CurveSession, reason: str) -> None:
        _log.info("peer_gone peer=%s reason=%s", session.peer.hex()[:16], reason)
        session.end(reason)
        self._sessions.pop(session.route, None)
        if self._by_descriptor.get(session.descriptor) is session:
            del self._by_descriptor[session.descriptor]
