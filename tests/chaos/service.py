"""The tower of a schedule as the real process: `watchtower run` with both proxies between it and its node.

Nothing can be said about when it passes; a clean pass is a wait for what has to be true soon. Clients use the API.
"""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from domain.chain import OutPoint
from domain.channel import Channel
from domain.channel_fold import fold
from domain.contract.params import TAPROOT
from domain.events import CHAIN_STREAM, BlockConnected, BlockDisconnected, CursorStarted, Payload
from domain.units import Side
from tests.chaos.pair import NodePair, wait_for
from tests.chaos.stage import Stage, Violation
from tests.support.new_towers import create
from tests.support.parties import Pair, make_party, open_pair, settings_of
from tests.support.rpc_proxy import RpcProxy
from tests.support.service import ServiceProcess, settings_for
from tests.support.zmq_proxy import ZmqProxy
from watchtower.descriptors import resolve
from watchtower.ports import StoreError
from watchtower.store.create import open_reader
from watchtower.tower import Hints
from watchtower.wire.hexes import to_json

CLEAN_SECONDS = 90.0
"""Until everything that is due is done: longer than the longest wait between two tries of the service."""

GLANCE_SECONDS = 0.3
SPREAD_SECONDS = 5.0
"""Until the network has what the tower's node has. If it refused it once, only the next bid can change that."""


class Refused(StoreError):
    """The service did not take a request; nothing was acknowledged."""


class ServiceWorld:
    """Files and process of one tower, and what a schedule asks of `World`."""

    def __init__(
        self, nodes: NodePair, directory: Path, rpc: RpcProxy, zmq: ZmqProxy, program: str = "watchtower"
    ) -> None:
        """`program` is the module that is run as `watchtower`."""
        self.node = nodes.network
        self.directory = directory
        self._pairs = 0
        topics = {"zmq_sequence": zmq.endpoint, "zmq_rawtx": zmq.endpoint, "zmq_hashblock": zmq.endpoint}
        settings = settings_for(nodes.own, rpc_url=rpc.url, rest_url=rpc.rest_url, **topics)
        self.made = create(directory, directory / "config.toml", "regtest", settings)
        self._token = self.made.token_path.read_text().strip()
        self.said: list[str] = []
        self._command = ("-m", program, "run", "--config", str(self.made.config_path))
        self.process = ServiceProcess(self.made.config_path, command=self._command)

    def wake(self) -> None:
        """Start the process again."""
        self.process = ServiceProcess(self.made.config_path, command=self._command)

    def stop(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.said += [json.dumps(line) for line in self.process.lines]
        self.process.close()

    def close(self) -> None:
        """End it."""
        self.stop()

    def restart(self) -> None:
        """`stop` and `wake`."""
        self.stop()
        self.wake()

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────

    def open(self, *, balances: tuple[int, int], challenge_period: int, confirm: bool) -> Pair:
        """A registered channel whose funding transaction is in the network's mempool."""
        assert not confirm
        self._pairs += 1
        names = (f"alice{self._pairs}", f"bob{self._pairs}")
        first, second = (make_party(name, settings=settings_of(TAPROOT), resolve=resolve) for name in names)
        pair = open_pair(
            lambda spk, amount: self.node.fund(spk, amount, broadcast=False),
            balances=balances,
            names=names,
            parties=(first, second),
            challenge_period=challenge_period,
        )
        self._ask("", pair.registration(Side.B))
        self.node.send_raw(pair.funding.raw)
        return pair

    def update(self, pair: Pair, count: int) -> None:
        """Default updates, each uploaded."""
        for _ in range(count):
            self.upload(pair, pair.update())

    def upload(self, pair: Pair, sequence: int) -> None:
        """A state with the revocation of the one before; raises `Refused`."""
        self._ask(f"/{pair.channel_id.hex()}/states", pair.update_request(Side.B, sequence))

    def is_confirmed(self, pair: Pair) -> bool:
        """Whether the tower takes states of the channel; raises `Refused`."""
        return bool(self._ask(f"/{pair.channel_id.hex()}/funding")["confirmed"])

    def _ask(self, path: str, body: object = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        content = None if body is None else to_json(body)
        url = f"http://{self.process.address('api')}/v1/channels{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=20) as answer:
                document: dict[str, Any] = json.loads(answer.read())
                return document
        except urllib.error.HTTPError as error:
            raise Refused(f"{error.code}: {error.read()[:200]!r}") from error
        except OSError as error:
            raise Refused(str(error)) from error

    # ── what its files say ────────────────────────────────────────────────────────────────────────────────

    def cursor_hash(self) -> bytes:
        """Hash of the cursor as the log has it; empty before the first contact."""
        with open_reader(self.directory / "events.db") as log:
            for envelope in reversed(log.read_stream(CHAIN_STREAM)):
                match envelope.payload:
                    case BlockConnected() | CursorStarted() as step:
                        return step.block.hash
                    case BlockDisconnected() as step:
                        return step.parent.hash
        return b""

    def channel(self, pair: Pair) -> Channel:
        """A channel folded from the log."""
        with open_reader(self.directory / "events.db") as log:
            folded = fold(None, log.read_stream(log.stream_id("c", pair.params.proposal_id)))
        assert folded is not None
        return folded

    def status(self, pair: Pair) -> str:
        """Its status."""
        return str(self.channel(pair).status)

    def events(self, pair: Pair, kind: type[Payload]) -> list[Payload]:
        """Its events of one type."""
        with open_reader(self.directory / "events.db") as log:
            stored = log.read_stream(log.stream_id("c", pair.params.proposal_id))
        return [each.payload for each in stored if isinstance(each.payload, kind)]

    # ── what it says itself ───────────────────────────────────────────────────────────────────────────────

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process.process.poll() is None

    def ready(self) -> dict[str, Any]:
        """The document of /readyz, empty while it cannot be asked."""
        with suppress(OSError, AssertionError):
            return self.process.ready()
        return {}

    def passed_height(self) -> int:
        """Height of the last complete pass, -1 while it cannot be asked."""
        with suppress(OSError, AssertionError):
            for line in self.process.get("admin", "/metrics")[1].decode().splitlines():
                if line.startswith("watchtower_chain_processed_height "):
                    return int(float(line.split()[1]))
        return -1


class ServiceStage(Stage):
    """A schedule's world whose tower is a process."""

    world: ServiceWorld  # type: ignore[assignment]
    program = "watchtower"

    def _make_world(self, directory: Path) -> ServiceWorld:  # type: ignore[override]
        self.zmq = ZmqProxy(self.nodes.own.zmq_endpoint, seed=self.seed)
        world = ServiceWorld(self.nodes, directory / "tower", self.proxy, self.zmq, self.program)
        try:
            world.process.wait_watching()
        except BaseException:
            world.close()
            self.zmq.close()
            raise
        return world

    def close(self) -> None:
        """End process and proxies."""
        super().close()
        self.zmq.close()

    def be_patient(self, seconds: float) -> None:
        """Its time limits are those of production."""

    def cursor_hash(self) -> bytes:
        """As the log has it."""
        return self.world.cursor_hash()

    def said(self) -> list[str]:
        """Everything that the service logged."""
        return [*self.told, *self.world.said, *(json.dumps(line) for line in self.world.process.lines)]

    def look(self, hints: Hints | None = None) -> None:
        """Let it work for a moment."""
        if not self.is_away:
            self.counts["passes"] += 1
            with suppress(TimeoutError):
                wait_for(self._has_seen_tip, GLANCE_SECONDS)

    def clean_pass(self) -> None:
        """Wait until it has passed at the tip, says that it watches, and each breach has its answer on the way."""
        self.counts["passes"] += 1
        try:
            wait_for(self._has_done_all, CLEAN_SECONDS)
        except TimeoutError as late:
            ready, height = self.world.ready(), self.world.passed_height()
            raise Violation(f"the service does not get ready: {ready}, last pass at {height}") from late
        with suppress(TimeoutError):
            wait_for(self._has_spread, SPREAD_SECONDS)

    def _has_seen_tip(self) -> bool:
        return self.nodes.up and self.cursor_hash() == self.nodes.own.tip()

    def _has_done_all(self) -> bool:
        if not self.world.is_running():
            raise Violation(f"the service ended by itself: {self.world.process.stderr()[-2000:]}")
        if not self._has_seen_tip() or self.world.passed_height() != self.nodes.own.height():
            return False
        if not self.world.ready().get("watching"):
            return False
        return all(self.nodes.own.spender(contest) is not None for contest in self._open_contests())

    def _has_spread(self) -> bool:
        both = (self.nodes.own, self.nodes.network)
        return all(len({node.spender(contest) for node in both}) == 1 for contest in self._open_contests())

    def _open_contests(self) -> list[OutPoint]:
        return [breach.contest for breach in self.breaches() if breach.answer is None]

    def restart_tower(self) -> None:
        """SIGKILL and start."""
        self.world.restart()

    def reopen_tower(self) -> None:
        """Start."""
        self.world.wake()

    def fill_disk(self) -> None:
        """A process of its own has no disk of its own here."""

    def free_disk(self) -> None:
        """Nothing was filled."""

    def repair(self) -> None:
        """As ever; and while the node was away the service must have said so (O7)."""
        if not self.nodes.up and not self.is_away:
            wait_for(lambda: self.world.ready().get("watching") is False, 60.0)
            self.counts["loud outages"] += 1
        self.zmq.heal()
        super().repair()
        self.zmq.forge("hashblock", secrets.token_bytes(32))  # a reconnected publisher rings too

    def break_bells(self, choice: int) -> None:
        """One of the ZMQ faults, until `repair`."""
        names = ("drop half", "drop all", "duplicate", "shuffle", "delay", "freeze", "forge", "jump")
        self.tell(f"notifications: {names[choice % len(names)]}")
        match names[choice % len(names)]:
            case "drop half":
                self.zmq.drop(0.5)
            case "drop all":
                self.zmq.drop(1.0)
            case "duplicate":
                self.zmq.duplicate(0.7)
            case "shuffle":
                self.zmq.shuffle(20)
            case "delay":
                self.zmq.delay(5.0)
            case "freeze":
                self.zmq.freeze()
            case "jump":
                self.zmq.jump("sequence", -100)
            case _:
                for _ in range(50):
                    self.zmq.forge_frames([secrets.token_bytes(5), secrets.token_bytes(40), b"\0"])
