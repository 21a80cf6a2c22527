"""The door-bell on a real node's notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
import zmq

from domain.chain import OutPoint
from domain.transaction import Transaction, TxIn, TxOut
from watchtower.devnode.regtest import Funding, RegtestNode
from watchtower.node.zmq import Bell, BellKind, ZmqDoorbell

SPK = b"\x51\x20" + b"\x22" * 32
TOPICS = ("sequence", "rawtx", "hashblock")


class Rings:
    """The rings of a running door-bell, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Bell] = asyncio.Queue()
        self.ring = self._queue.put_nowait

    async def until(self, wanted: Callable[[Bell], bool], seconds: float = 30.0) -> list[Bell]:
        """All rings up to the first wanted one."""
        heard: list[Bell] = []
        async with asyncio.timeout(seconds):
            while not heard or not wanted(heard[-1]):
                heard.append(await self._queue.get())
        return heard


MINED_AT_MOST = 100
"""Blocks until a ring has to be heard."""


@asynccontextmanager
async def listening(node: RegtestNode, *watched: bytes) -> AsyncIterator[Rings]:
    """A connected door-bell."""
    rings = Rings()
    doorbell = ZmqDoorbell(dict.fromkeys(TOPICS, node.zmq_endpoint), rings.ring, set(watched).__contains__)
    task = asyncio.create_task(doorbell.run())
    try:
        await rings.until(lambda bell: bell == Bell(BellKind.CONNECTED, "hashblock"))
        await mined_until(node, rings, Bell(BellKind.TIP, "hashblock"))
        yield rings
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def mined_until(node: RegtestNode, rings: Rings, wanted: Bell) -> None:
    """The subscription reaches the node a moment after the connection: mine until this ring is heard."""
    for _ in range(MINED_AT_MOST):
        await asyncio.to_thread(node.mine)
        with suppress(TimeoutError):
            await rings.until(lambda bell: bell == wanted, 0.2)
            return
    pytest.fail(f"{wanted} was not heard")


def spent_by(funding: Funding) -> OutPoint:
    """The wallet's outpoint that the funding transaction spends."""
    return Transaction.parse(funding.raw).inputs[0].outpoint


@pytest.mark.asyncio
async def test_mempool_transaction_rings_with_its_bytes(node: RegtestNode) -> None:
    """A spend of a watched outpoint rings with the signed bytes; other transactions ring softly."""
    mine, other = node.fund(SPK, 50_000, broadcast=False), node.fund(SPK, 60_000, broadcast=False)
    async with listening(node, spent_by(mine)) as rings:
        await asyncio.to_thread(node.send_raw, other.raw)
        await asyncio.to_thread(node.send_raw, mine.raw)

        heard = await rings.until(lambda bell: bell.kind is BellKind.TOUCHED)

    assert Bell(BellKind.TOUCHED, "rawtx", (spent_by(mine),), mine.raw, mine.txid) == heard[-1]
    assert Bell(BellKind.MEMPOOL, "rawtx") in heard[:-1]


@pytest.mark.asyncio
async def test_replaced_transaction_rings_removed(node: RegtestNode) -> None:
    """A replacement announces the removal of the first transaction by its txid."""
    coin = node.wallet_coin()
    bids = [
        node.sign(Transaction(2, (TxIn(coin.outpoint, 0),), (TxOut(coin.value - fee, SPK),), 0))
        for fee in (1_000, 5_000)
    ]
    async with listening(node) as rings:
        first = await asyncio.to_thread(node.send_raw, bids[0])
        await asyncio.to_thread(node.send_raw, bids[1])

        heard = await rings.until(lambda bell: bell.kind is BellKind.REMOVED)

    assert Bell(BellKind.REMOVED, "sequence", txid=first) == heard[-1]


@pytest.mark.asyncio
async def test_restart_of_the_node_is_heard(node: RegtestNode) -> None:
    """Z4: disconnected, connected again by itself, and the lower counters ring `restart`."""
    async with listening(node) as rings:
        # A restart shows in a lower number, and blocks that come before the new subscription are not heard: with one
        # block before the restart the second one behind it would seem to be the next.
        await asyncio.to_thread(node.mine, MINED_AT_MOST)
        for _ in range(MINED_AT_MOST):
            await rings.until(lambda bell: bell == Bell(BellKind.TIP, "hashblock"))
        await asyncio.to_thread(node.restart)

        await rings.until(lambda bell: bell.kind is BellKind.DISCONNECTED)
        await rings.until(lambda bell: bell == Bell(BellKind.CONNECTED, "hashblock"))
        await mined_until(node, rings, Bell(BellKind.RESTART, "hashblock"))


@pytest.mark.asyncio
async def test_absent_node_is_awaited(node: RegtestNode) -> None:
    """A door-bell that starts before its node rings `connected` once the node is there."""
    node.stop()
    rings = Rings()
    doorbell = ZmqDoorbell({"sequence": node.zmq_endpoint, "rawtx": node.zmq_endpoint}, rings.ring, lambda _: False)
    task = asyncio.create_task(doorbell.run())

    await asyncio.to_thread(node.launch)
    heard = await rings.until(lambda bell: bell.kind is BellKind.CONNECTED)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert Bell(BellKind.CONNECTED, "sequence") == heard[-1]


Messages = Callable[[bytes, str], list[tuple[bytes, bytes]]]


@pytest.fixture
def messages(node: RegtestNode) -> Iterator[Messages]:
    """The node's own messages in their order: a function that reads (topic, body) up to a block's C or D."""
    socket = zmq.Context.instance().socket(zmq.SUB)
    for topic in (b"sequence", b"rawtx"):
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    socket.setsockopt(zmq.RCVTIMEO, 30_000)
    socket.connect(node.zmq_endpoint)
    while not socket.poll(100):  # the subscription reaches the node a moment after the connection
        node.mine()

    def read(block_hash: bytes, label: str) -> list[tuple[bytes, bytes]]:
        heard: list[tuple[bytes, bytes]] = []
        while not heard or heard[-1] != (b"sequence", block_hash[::-1] + label.encode()):
            topic, body, _number = socket.recv_multipart()
            heard.append((topic, body))
        return heard

    yield read
    socket.close(linger=0)


def test_r11_disconnected_transactions_come_before_the_disconnect(node: RegtestNode, messages: Messages) -> None:
    """R11: a reorg sends `rawtx` of the disconnected block first, then `D`; so `rawtx` proves no place at all."""
    funding = node.fund(SPK, 50_000)
    old = node.mine()[0]
    messages(old, "C")

    node.invalidate(old)
    new = node.generate_block()

    before = messages(old, "D")
    after = messages(new, "C")
    assert (b"rawtx", funding.raw) in before
    assert (b"rawtx", funding.raw) in after
    assert any(topic == b"sequence" and body[:33] == funding.txid[::-1] + b"A" for topic, body in after)
    assert {funding.txid} == node.mempool()
