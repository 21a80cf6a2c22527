"""The node's ZMQ notifications as a door-bell: they say that something happened, never what is true.

Every frame rings; the core then asks the node over RPC. The content decides only how soon: a transaction that
touches a watched outpoint rings `touched` and brings its bytes along, because a signed commitment is worth
keeping. Losses show as gaps in a counter per topic - except the loss of the last message, which nobody can see;
therefore the core also looks by itself every few seconds. This is the only module with asyncio beside the shell.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum

import msgspec
import zmq
import zmq.asyncio

from domain.chain import OutPoint, Txid
from domain.errors import MalformedInput
from domain.transaction import Transaction
from watchtower.node.blocks import transaction_inputs

REQUIRED_TOPICS = ("sequence", "rawtx")
TOPICS = (*REQUIRED_TOPICS, "hashblock")
RECEIVE_LIMIT = 1000
"""Frames held per socket; for a bell a dropped frame costs nothing."""

FRAME_LIMIT = 4_000_100
"""Bytes; no transaction is larger. The peer is dropped if it sends more."""

RECONNECT_MS, RECONNECT_LIMIT_MS = 100, 5_000
REVIVE_MS = 10_000
"""Without a connection for so long the address is dropped and taken again; libzmq tries more often by itself."""

DRAIN = 256
"""Frames taken in a row before other tasks of the loop get their turn."""

_COUNTER = 1 << 32
_LARGEST_GAP = 1_000_000  # a lower number that is closer than this is the counter's overflow with a loss
_MONITORED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class BellKind(StrEnum):
    """What rang. `tip`, `touched`, `removed` are urgent; `gap`, `restart`, `connected` ask for a full look."""

    TIP = "tip"
    MEMPOOL = "mempool"
    TOUCHED = "touched"
    REMOVED = "removed"
    GAP = "gap"
    RESTART = "restart"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class Bell(msgspec.Struct, frozen=True):
    """One ring. `topic` is the configured name; `missed` counts lost messages of a gap.

    `touched` has the watched outpoints that `raw`, the transaction `txid`, spends. It was in the mempool, or in
    a block that was connected *or disconnected*: the bytes are genuine signatures, its place is unknown.
    """

    kind: BellKind
    topic: str
    touched: tuple[OutPoint, ...] = ()
    raw: bytes = b""
    txid: Txid | None = None
    missed: int = 0


class TopicCounter:
    """The counter of one topic: 32 bits, from 0 at each start of the node."""

    def __init__(self) -> None:
        self._expected: int | None = None

    def take(self, number: int) -> int | None:
        """Messages missed before this one (0: none), or None if the node restarted (a lower number)."""
        expected, self._expected = self._expected, (number + 1) % _COUNTER
        if expected is None or number == expected:
            return 0
        missed = (number - expected) % _COUNTER
        return None if number < expected and missed > _LARGEST_GAP else missed


class ZmqDoorbell:
    """Subscribes to the topics of one node and calls `on_bell` for each ring, in the event loop's thread.

    `endpoints` maps topic names (`sequence`, `rawtx`, `hashblock`) to addresses; the first two are required, and
    several may share one address. `watched` is asked for every input of every `rawtx`; it must be fast.
    """

    def __init__(
        self,
        endpoints: Mapping[str, str],
        on_bell: Callable[[Bell], None],
        watched: Callable[[bytes], bool],
    ) -> None:
        missing = [topic for topic in REQUIRED_TOPICS if not endpoints.get(topic)]
        unknown = [topic for topic in endpoints if topic not in TOPICS]
        if missing or unknown:
            raise ValueError(f"ZMQ endpoints: missing {missing or 'none'}, unknown {unknown or 'none'}")
        self._topics: dict[str, list[str]] = {}
        for topic, address in endpoints.items():
            if address:
                self._topics.setdefault(address, []).append(topic)
        self._counters = {topic: TopicCounter() for topic in TOPICS}
        self._on_bell = on_bell
        self._watched = watched

    async def run(self) -> None:
        """Listen until cancelled. Losing the node is no error here: libzmq connects again by itself."""
        context = zmq.asyncio.Context()
        try:
            async with asyncio.TaskGroup() as group:
                for address, topics in self._topics.items():
                    socket = _subscriber(context, topics)
                    monitor = socket.get_monitor_socket(_MONITORED)
                    watching = self._watch_connection(monitor, socket, address)
                    group.create_task(watching, name=f"zmq monitor {address}")
                    group.create_task(self._listen(socket), name=f"zmq {address}")
                    socket.connect(address)
        finally:
            context.destroy(linger=0)

    async def _listen(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            frames = await socket.recv_multipart()
            for _ in range(DRAIN):
                self.take(frames)
                try:
                    frames = await socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
            else:
                self.take(frames)
                await asyncio.sleep(0)  # a flood must not hold the loop

    async def _watch_connection(self, monitor: zmq.asyncio.Socket, socket: zmq.asyncio.Socket, address: str) -> None:
        """Ring for connections won and lost. libzmq never comes back to a peer that broke its protocol: we do."""
        connected = False
        while True:
            if not connected and not await monitor.poll(REVIVE_MS):
                with suppress(zmq.ZMQError):  # libzmq has forgotten the address already
                    socket.disconnect(address)
                socket.connect(address)
                continue
            event, _ = struct.unpack("=hi", (await monitor.recv_multipart())[0])
            connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            for topic in self._topics[address]:
                self._on_bell(Bell(BellKind.CONNECTED if connected else BellKind.DISCONNECTED, topic))

    def take(self, frames: Sequence[bytes]) -> None:
        """Ring for one multipart message. Nothing in it is trusted; what cannot be read rings as `mempool`."""
        topic = frames[0].decode("ascii", "replace") if frames else ""
        counter = self._counters.get(topic)
        if counter is None:
            return
        if len(frames) == 3 and len(frames[2]) == 4:
            missed = counter.take(int.from_bytes(frames[2], "little"))
            if missed is None:
                self._on_bell(Bell(BellKind.RESTART, topic))
            elif missed:
                self._on_bell(Bell(BellKind.GAP, topic, missed=missed))
        self._on_bell(self._bell(topic, frames[1] if len(frames) > 1 else b""))

    def _bell(self, topic: str, body: bytes) -> Bell:
        if topic == "hashblock":
            return Bell(BellKind.TIP, topic)
        if topic == "rawtx":
            return self._transaction(body)
        label = body[32:33]
        if label in (b"C", b"D"):
            return Bell(BellKind.TIP, topic)
        if label == b"R":
            return Bell(BellKind.REMOVED, topic, txid=Txid(body[31::-1]))
        return Bell(BellKind.MEMPOOL, topic)

    def _transaction(self, raw: bytes) -> Bell:
        nothing = Bell(BellKind.MEMPOOL, "rawtx")
        try:
            touched = tuple(outpoint for outpoint in transaction_inputs(raw) if self._watched(outpoint))
            txid = Transaction.parse(raw).txid if touched else None
        except MalformedInput:
            return nothing  # forged: the node sends only transactions that it has accepted
        return Bell(BellKind.TOUCHED, "rawtx", touched, raw, txid) if touched else nothing


def _subscriber(context: zmq.asyncio.Context, topics: Sequence[str]) -> zmq.asyncio.Socket:
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_LIMIT)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_LIMIT)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_LIMIT_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 30)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
    for topic in topics:
        socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
    return socket
