"""A real tower for tests that look at it from outside: `watchtower run` on a regtest node, channels and real breaches.

    with live_tower(tmp_path, prepared=prepared_chain) as live:
        pairs = live.open_channels(5, updates=3)
        live.breach(pairs[0])                  # revoked state in the mempool; the tower answers
        live.mine(1)
        live.wait_status(pairs[0], "PUNISHED")
        print(live.admin_url, live.api_url, live.data_dir)

Everything goes the public way: transactions through bitcoind, channels and states through the HTTP API. All of it ends
with the block.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.chain import make_outpoint
from domain.contract.params import TAPROOT
from domain.units import Side
from tests.support.new_towers import create
from tests.support.parties import Pair, make_party, open_pair, settings_of
from tests.support.programs import missing
from tests.support.service import ServiceProcess, settings_for
from watchtower.descriptors import resolve
from watchtower.devnode.provision import Found, NodeNotFound, find
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower
from watchtower.wire.hexes import to_json

CHALLENGE_PERIOD = 24
CAPACITY = 1_000_000
ANSWER_SECONDS = 60.0

Changes = Mapping[str, Mapping[str, str | int | float | bool]]
"""Settings by section, "" is the top level, as `new_tower.create` takes them."""


class Refused(Exception):
    """The tower answered a request with an error; `code` is the HTTP status."""

    def __init__(self, code: int, body: bytes) -> None:
        super().__init__(f"{code}: {body[:300]!r}")
        self.code = code


class LiveTower:
    """The running process, its node and its files; `pairs` are the channels that were opened through it.

    The tower protects side B of each channel; side A cheats. `second` is its second node, if it has one.
    """

    def __init__(self, node: RegtestNode, made: NewTower, second: RegtestNode | None = None) -> None:
        self.node = node
        self.second = second
        self.made = made
        self.token = made.token_path.read_text().strip()
        self.pairs: list[Pair] = []
        self.process = ServiceProcess(made.config_path)

    @property
    def data_dir(self) -> Path:
        """Where the tower's files lie."""
        return self.made.data_dir

    @property
    def api_url(self) -> str:
        """Address of the public listener, without a slash at its end."""
        return f"http://{self.process.address('api')}"

    @property
    def admin_url(self) -> str:
        """Address of the admin listener: metrics, health, status page."""
        return f"http://{self.process.address('admin')}"

    # ── channels ─────────────────────────────────────────────────────────────────────────────────────────

    def open_channels(
        self,
        count: int,
        *,
        updates: int = 3,
        challenge_period: int = CHALLENGE_PERIOD,
        balances: tuple[int, int] = (CAPACITY // 2, CAPACITY // 2),
    ) -> list[Pair]:
        """That many channels: registered, funded in one block, each with that many uploaded states."""
        opened = [self._register(balances, challenge_period) for _ in range(count)]
        for pair in opened:
            self.node.send_raw(pair.funding.raw)
        self.mine(1)
        for pair in opened:
            self.until(lambda pair=pair: bool(self.channel(pair, "/funding")["confirmed"]))  # type: ignore[misc]
            self.update(pair, updates)
        self.pairs += opened
        return opened

    def _register(self, balances: tuple[int, int], challenge_period: int) -> Pair:
        number = os.urandom(4).hex()
        names = (f"alice{number}", f"bob{number}")
        pair = open_pair(
            lambda spk, amount: self.node.fund(spk, amount, broadcast=False),
            balances=balances,
            names=names,
            parties=tuple(make_party(name, settings=settings_of(TAPROOT), resolve=resolve) for name in names),  # type: ignore[arg-type]
            challenge_period=challenge_period,
        )
        self.ask("/v1/channels", pair.registration(Side.B))
        return pair

    def update(self, pair: Pair, count: int = 1) -> None:
        """Default updates, each uploaded with the revocation of the state before it."""
        for _ in range(count):
            self.upload(pair, pair.update())

    def upload(self, pair: Pair, sequence: int) -> None:
        """One state of the pair; raises `Refused`."""
        self.ask(f"/v1/channels/{pair.channel_id.hex()}/states", pair.update_request(Side.B, sequence))

    def channel(self, pair: Pair, below: str = "") -> dict[str, Any]:
        """What the tower says about a channel, or about what is `below` it ("/funding")."""
        document: dict[str, Any] = self.ask(f"/v1/channels/{pair.channel_id.hex()}{below}")
        return document

    def status(self, pair: Pair) -> str:
        """The channel's status in the tower's words: ACTIVE, PUNISHED, SETTLED…"""
        return str(self.channel(pair)["status"])

    def wait_status(self, pair: Pair, status: str, seconds: float = ANSWER_SECONDS) -> None:
        """Until the channel has this status."""
        self.until(lambda: self.status(pair) == status, seconds)

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────

    def mine(self, count: int = 1) -> None:
        """Blocks with whatever is in the mempool; returns when the tower has processed them."""
        self.node.mine(count)
        self.wait_height(ANSWER_SECONDS + count)

    def wait_height(self, seconds: float = ANSWER_SECONDS) -> None:
        """Until the tower has processed the node's tip."""
        height = self.node.height()
        self.until(lambda: (self.value("watchtower_chain_processed_height") or 0) >= height, seconds)

    def breach(self, pair: Pair, state: int = 1, *, in_block: bool = False, answered: bool = True) -> bytes:
        """Side A publishes a revoked state, in the mempool or straight in a block; the commitment's txid.

        Returns when the tower's penalty is in the mempool, unless `answered` is False.
        """
        raw, txid = pair.commitment(Side.A, state), pair.commitment_txid(Side.A, state)
        if in_block:
            self.node.generate_block([raw])
        else:
            self.node.send_raw(raw)
        if answered:
            self.node.wait_spender(make_outpoint(txid, 0), ANSWER_SECONDS)
        return txid

    def close_together(self, pair: Pair) -> None:
        """The cooperative close, in the mempool."""
        self.node.send_raw(pair.close(Side.A))

    def close_alone(self, pair: Pair) -> None:
        """Side A's newest commitment, in the mempool."""
        self.node.send_raw(pair.commitment(Side.A, pair.sequence))

    # ── the process ──────────────────────────────────────────────────────────────────────────────────────

    def outage(self, seconds: float) -> None:
        """The node is away for at least this time; returns when the tower has noticed both ends of it."""
        while self.process.next_line(0) is not None:
            pass  # what was logged before is not about this outage
        self.node.stop()
        self.process.wait_for("phase_changed", phase="degraded", seconds=60.0)
        time.sleep(seconds)
        self.node.launch()
        if self.second is not None:
            self.second.connect(self.node)
        self.process.wait_for("phase_changed", phase="watching", seconds=60.0)

    def restart(self) -> None:
        """Kill the tower and start it again; returns when it watches. Its ports change."""
        self.process.kill()
        self.process.close()
        self.process = ServiceProcess(self.made.config_path)
        self.wait_watching()

    def wait_watching(self) -> None:
        """Until the tower says that it watches; fails with its last words if it ended instead."""
        try:
            self.process.wait_watching()
        except AssertionError as late:
            if self.process.process.poll() is None:
                raise
            raise AssertionError(f"the tower ended: {self.process.stderr()[-2000:]}") from late

    def ask(self, path: str, body: object = None, token: str | None = None) -> Any:
        """A request to the API (POST with a body, else GET), parsed. Raises `Refused`."""
        key = self.token if token is None else token
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        content = None if body is None else to_json(body)
        request = urllib.request.Request(self.api_url + path, content, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read()) from error

    def metrics(self) -> str:
        """The text of /metrics."""
        return self.process.get("admin", "/metrics")[1].decode()

    def value(self, series: str) -> float | None:
        """A value of /metrics by the series as it is printed there, labels included; None if it is absent."""
        lines = (line.rpartition(" ") for line in self.metrics().splitlines())
        return next((float(value) for name, _, value in lines if name == series), None)

    def until(self, predicate: Callable[[], object], seconds: float = ANSWER_SECONDS) -> None:
        """Wait until true; asked again after each message of the node, and at least four times a second."""
        self.node.wait_until(predicate, seconds)


def bitcoind() -> Found:
    """The node's program; skips the test without one, fails it under STATE_CHANNEL_REQUIRE_NODE=1."""
    try:
        return find()
    except NodeNotFound as error:
        missing(error)


def _start_second(directory: Path, first: RegtestNode) -> RegtestNode:
    """A node without a wallet that has the chain of the first from it."""
    directory.mkdir(parents=True)
    second = RegtestNode(directory, binary=first.binary)
    second.begin(with_wallet=False)
    try:
        second.connect(first)
        second.sync_to(first)
    except BaseException:
        second.close()
        raise
    return second


def _named_second(second: RegtestNode) -> dict[str, str]:
    return {"rpc_url": second.rpc_url, "rpc_cookie_path": str(second.cookie_path)}


@contextlib.contextmanager
def live_tower(
    directory: Path,
    *,
    binary: Found | None = None,
    prepared: Path | None = None,
    settings: Changes | None = None,
    node_options: Sequence[str] = (),
    with_second_node: bool = False,
) -> Iterator[LiveTower]:
    """A node with a funded wallet and a tower that watches it, both with files below `directory`.

    `settings` change or extend the tower's configuration by section; `prepared` is from `RegtestNode.make_prepared`.
    `with_second_node` gives the tower another node, which is a peer of the first.
    """
    with contextlib.ExitStack() as stack:
        node = RegtestNode.start(
            directory / "node",
            binary=binary or bitcoind(),
            prepared=prepared,
            extra_args=node_options,
            listen=with_second_node,
        )
        stack.callback(node.close)
        chosen: dict[str, dict[str, Any]] = {name: dict(values) for name, values in settings_for(node).items()}
        second = _start_second(directory / "second", node) if with_second_node else None
        if second is not None:
            stack.callback(second.close)
            chosen["second_node"] = _named_second(second)
        for section, values in (settings or {}).items():
            chosen.setdefault(section, {}).update(values)
        made = create(directory / "tower", directory / "tower" / "config.toml", "regtest", chosen)
        live = LiveTower(node, made, second)
        stack.callback(lambda: live.process.close())
        live.wait_watching()
        yield live
