"""Whole updates between two parties: per second in one process and over TCP with CURVE, and their bytes on the wire.

Logs and keystores are real files; every message is durable before it is sent, as in production. No tower.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.bench.scale import Scale
from tests.support.linking import ALICE, BOB, TERMS, fund
from tests.support.wires import ALICE_KEY, BOB_KEY
from watchtower.client.party import exchange
from watchtower.client.party.home import PartyHome, create_home, open_home
from watchtower.client.party.party import PartySettings
from watchtower.client.peers.link import PeerLink
from watchtower.client.protocol.messages import MAX_MESSAGE
from watchtower.client.transport import Transport
from watchtower.client.transport.admission import only
from watchtower.client.transport.curve import CurveDialer
from watchtower.client.transport.curve_listener import CurveListener
from watchtower.client.transport.memory import memory_pair

NAMES = (
    "exchange_per_s_in_process",
    "exchange_per_s_memory_link",
    "exchange_per_s_curve_link",
    "exchange_per_s_curve_link_32_channels",
    "exchange_bytes_messages",
)
PASSPHRASE = b"bench"
CHANNELS = 32


class Counting:
    """A transport that counts what its party sends."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.peer = inner.peer
        self.sent = 0

    async def send(self, raw: bytes) -> None:
        """Count and send."""
        self.sent += min(len(raw), MAX_MESSAGE)
        await self._inner.send(raw)

    async def receive(self) -> bytes:
        """As the inner one."""
        return await self._inner.receive()

    async def close(self) -> None:
        """As the inner one."""
        await self._inner.close()


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part."""
    with _home(directory / "alice") as alice, _home(directory / "bob") as bob:
        alone = _in_process(alice, bob, scale.exchanges)
        memory, size = asyncio.run(_over_memory(alice, bob, scale.exchanges))
        curve, together = asyncio.run(_over_curve(alice, bob, scale.exchanges))
    values = (round(alone, 1), round(memory, 1), round(curve, 1), round(together, 1), round(size))
    return dict(zip(NAMES, values, strict=True))


def _home(directory: Path) -> PartyHome:
    create_home(directory, "regtest", PASSPHRASE, cost=2**4)
    return open_home(directory, PASSPHRASE, PartySettings(network="regtest"))


def _in_process(alice: PartyHome, bob: PartyHome, count: int) -> float:
    """Updates per second through `exchange`: the parties and their files, no event loop, no link."""
    channel_id = exchange.open_channel(alice.party, bob.party, TERMS, fund)
    began = time.perf_counter()
    for number in range(count):
        _check(exchange.update(alice.party, bob.party, channel_id, TERMS.balances, state_data=b"%d" % number))
    return count / (time.perf_counter() - began)


async def _over_memory(alice: PartyHome, bob: PartyHome, count: int) -> tuple[float, float]:
    """Updates per second over the in-process transport, and the bytes of all messages of one update."""
    near, far = (Counting(each) for each in memory_pair(ALICE, BOB))
    async with PeerLink(alice.party, near, alice.book) as a, PeerLink(bob.party, far, bob.book) as b:
        channel_id = await _opened(a, b)
        before = near.sent + far.sent
        rate = await _rate(a, b, channel_id, count)
    return rate, (near.sent + far.sent - before) / count


async def _over_curve(alice: PartyHome, bob: PartyHome, count: int) -> tuple[float, float]:
    """Updates per second over TCP: one channel, then many at the same time on one link."""
    listener, dialer = CurveListener(BOB_KEY, "127.0.0.1", 0, only([ALICE_KEY.public])), CurveDialer(ALICE_KEY)
    await listener.start()
    near = await dialer.dial(listener.address)
    far = await listener.accept()
    async with PeerLink(alice.party, near, alice.book) as a, PeerLink(bob.party, far, bob.book) as b:
        alone = await _rate(a, b, await _opened(a, b), count)
        channels = [await _opened(a, b) for _ in range(CHANNELS)]
        began = time.perf_counter()
        each = max(1, count // 4)
        await asyncio.gather(*(_rate(a, b, channel_id, each) for channel_id in channels))
        together = CHANNELS * each / (time.perf_counter() - began)
    await dialer.close()
    await listener.close()
    return alone, together


async def _opened(a: PeerLink, b: PeerLink) -> bytes:
    channel_id = await a.open_channel(TERMS, fund)
    await b.wait_for(channel_id, lambda channel: channel.sequence == 0)
    return channel_id


async def _rate(a: PeerLink, b: PeerLink, channel_id: bytes, count: int) -> float:
    """Each update by the party whose turn it is, so that none asks for the turn."""
    began = time.perf_counter()
    for number in range(1, count + 1):
        link = a if number % 2 == 0 else b
        _check(await link.update(channel_id, TERMS.balances, state_data=b"%d" % number))
    return count / (time.perf_counter() - began)


def _check(sequence: int) -> None:
    """A benchmark of updates that were not made would be fast."""
    if sequence < 1:
        raise RuntimeError("no update was made")
