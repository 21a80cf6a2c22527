"""State updates per second over HTTP: full verification and a durable commit for each, at 1, 32 and 128 clients.

The service's application runs behind uvicorn in this process, the clients in a process of their own
(`python -m tests.bench.api_clients`), each with one connection that waits for an answer before it sends the next state.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import uvicorn

from domain.chain import BlockRef
from domain.contract.scripts import funding_output
from tests.bench.installation import OWNER, Installation
from tests.bench.scale import Scale
from tests.bench.steady import forget
from tests.support.parties import Pair, made_up_funding, make_party, open_pair
from tests.support.towers import CoinNode
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.connection import ConnectionLimits, Doorman, protocol
from watchtower.http.services import Standing, bind
from watchtower.new_tower import create
from watchtower.wire.hexes import to_json

NAMES = ("api_updates_per_s_1_client", "api_updates_per_s_32_clients", "api_updates_per_s_128_clients")
BLOCK = BlockRef(100, bytes(range(32)))
HEIGHT = 110
TOKEN = "wt_bench"

Work = list[list[tuple[str, str]]]
"""Per client: path and body of each request, in order."""


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part. The log is a real file; each figure has a fresh one."""
    pairs = [_pair(number, scale.api_updates_each) for number in range(scale.api_channels)]
    alone = pairs[: max(1, scale.api_channels // 8)]
    rates = [
        _rate(directory / "1", alone, clients=1),
        _rate(directory / "32", pairs, clients=min(32, scale.api_channels)),
        _rate(directory / "128", pairs, clients=scale.api_channels),
    ]
    return dict(zip(NAMES, rates, strict=True))


def _pair(number: int, updates: int) -> Pair:
    names = (f"alice{number}", f"bob{number}")
    pair = open_pair(made_up_funding, names=names, parties=(make_party(names[0]), make_party(names[1])))
    pair.updates(updates)
    return pair


def _rate(directory: Path, pairs: list[Pair], clients: int) -> float:
    """Updates per second of so many clients, which share the channels evenly."""
    directory.mkdir()
    tower = create(directory / "tower", directory / "tower" / "config.toml", "regtest")
    node = CoinNode()
    for pair in pairs:
        node.add_coin(pair.params.funding_outpoint, pair.params.capacity, funding_output(pair.params).spk)
    work = directory / "work.json"
    work.write_text(json.dumps([_requests(pairs[number::clients]) for number in range(clients)]))
    with Installation(tower, node, HEIGHT) as installation:  # type: ignore[arg-type]
        for pair in pairs:
            installation.watch(pair, BLOCK, updates=0)
        forget()
        with _serving(installation) as port:
            return asyncio.run(_clients(port, work))


def _requests(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [
        (f"/v1/channels/{pair.channel_id.hex()}/states", to_json(pair.update_request(OWNER, sequence)).decode())
        for pair in pairs
        for sequence in range(1, pair.sequence + 1)
    ]


@contextmanager
def _serving(installation: Installation) -> Iterator[int]:
    """The API of an installation on a port of this machine, in a thread with an event loop of its own."""
    standing = Standing(operational=True, watching=True, phase="watching")
    services = bind(installation.context, lambda: standing, version="0", network="regtest", tower_id=bytes(32))
    app = create_app(services, gate=Gate(sha256(TOKEN.encode()).digest()))
    config = uvicorn.Config(app, http=protocol(Doorman(ConnectionLimits())), log_config=None, lifespan="off")
    server, sock = uvicorn.Server(config), config.bind_socket()
    thread = threading.Thread(target=lambda: server.run(sockets=[sock]))
    thread.start()
    try:
        yield sock.getsockname()[1]  # bound: a connection waits until the thread takes it
    finally:
        server.should_exit = True
        thread.join()
        sock.close()


async def _clients(port: int, work: Path) -> float:
    """Run the clients; raises `RuntimeError` with what they say if any request was refused."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.api_clients", str(port), TOKEN, str(work), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    if child.returncode:
        raise RuntimeError(f"the clients failed: {said.decode()}")
    return round(float(said), 1)
