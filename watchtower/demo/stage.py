"""The stage: a private node, two parties with their own logs, and Bob's tower as a process of its own.

Everything is real: transactions are mined by bitcoind, the tower is started with its own command and is asked over
HTTP only. Alice opens the channels and cheats; Bob is the one who is protected.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from watchtower import new_tower
from watchtower.client.client import StateChannelClient
from watchtower.client.config import StateChannelConfig
from watchtower.client.errors import TowerUnavailable, TowerUnreachable
from watchtower.client.party import exchange
from watchtower.client.party.home import create_home, open_home
from watchtower.client.party.party import ChannelParty, PartySettings
from watchtower.demo.cheater import unsafe_commitment
from watchtower.devnode.launch import free_ports
from watchtower.devnode.provision import find
from watchtower.devnode.regtest import Funding, RegtestNode
from watchtower.ports import WatchtowerError

CHALLENGE_PERIOD = 144
POLL_SECONDS = 0.02
START_SECONDS = 60.0
STOP_SECONDS = 30.0
"""A tower promises to end within 20 seconds; one that does not is killed, nothing may outlive the demo."""

KEYSTORE_COST = 2**10
"""Low, so that the demo starts fast: the passphrases are random and live as long as the demo."""

Tell = Callable[[str], None]


class DemoFailed(WatchtowerError):
    """The stage could not be set up, or something that the demo waits for never came."""

    slug = "demo-failed"


class Party(msgspec.Struct, frozen=True):
    """A party of the play and its seed (kept so that Alice can sign what she should have thrown away)."""

    name: str
    party: ChannelParty
    seed: bytes


class TowerProcess:
    """`watchtower run` as a child process."""

    def __init__(self, config: Path, log: Path, url: str) -> None:
        self._config = config
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = url

    def start(self) -> None:
        """Start it; `wait_ready` tells when it watches."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "watchtower", "run", "--config", str(self._config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={k: v for k, v in os.environ.items() if not k.startswith("STATE_CHANNEL_")},
            )

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, wait, and SIGKILL if it does not end."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except BaseException:
            self._process.kill()
            raise
        self._process = None

    def check_alive(self) -> None:
        """Raise with the end of its log if it died."""
        if self._process is not None and self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise DemoFailed(f"the tower ended with code {self._process.returncode}; the end of its log:\n{tail}")


class Stage:
    """Node, parties, tower process and client of the play; `close` ends everything that `build` started."""

    def __init__(
        self,
        stack: ExitStack,
        node: RegtestNode,
        tower: TowerProcess,
        client: StateChannelClient,
        alice: Party,
        bob: Party,
    ) -> None:
        self.node = node
        self.tower = tower
        self.client = client
        self.alice = alice
        self.bob = bob
        self.node_name = str(node.rpc("getnetworkinfo")["subversion"]).strip("/")
        """The node's own name and version."""
        self._stack = stack

    @classmethod
    def build(cls, directory: Path, knots_defaults: bool, tell: Tell) -> Stage:
        """Start a node and prepare a tower in an empty directory; whatever was started ends again on an error."""
        with ExitStack() as stack:
            binary = find(explain=tell)
            node = RegtestNode.start(directory / "node", binary=binary, knots_default_policy=knots_defaults)
            stack.callback(node.close)
            node.mine(1)
            tower, client = cls._prepare_tower(directory, node)
            stack.callback(tower.stop)
            alice, bob = (_make_party(directory / name, name, stack) for name in ("alice", "bob"))
            return cls(stack.pop_all(), node, tower, client, alice, bob)
        raise AssertionError("an exit stack hides no error")

    @staticmethod
    def _prepare_tower(directory: Path, node: RegtestNode) -> tuple[TowerProcess, StateChannelClient]:
        api, admin = free_ports(2)
        made = new_tower.create(
            directory / "tower",
            directory / "tower" / "config.toml",
            "regtest",
            {
                "": {"challenge_period": CHALLENGE_PERIOD},
                "node": {
                    "rpc_url": node.rpc_url,
                    "rpc_cookie_path": str(node.cookie_path),
                    "zmq_sequence": node.zmq_endpoint,
                    "zmq_rawtx": node.zmq_endpoint,
                    "zmq_hashblock": node.zmq_endpoint,
                    "rest_url": node.rest_url,
                },
                "api": {"listen": f"127.0.0.1:{api}"},
                "admin": {"listen": f"127.0.0.1:{admin}"},
            },
            cost=KEYSTORE_COST,
        )
        url = f"http://127.0.0.1:{api}"
        tower = TowerProcess(made.config_path, directory / "tower" / "log.json", url)
        client = StateChannelClient(
            StateChannelConfig(network="regtest", challenge_period=CHALLENGE_PERIOD),
            url=url,
            token=made.token_path.read_text().strip(),
        )
        return tower, client

    def close(self) -> None:
        """Close the parties, stop the tower, then the node."""
        self._stack.close()

    async def wait_ready(self) -> None:
        """Until the tower watches."""

        async def watching() -> bool:
            try:
                await self.client.connect()
                return (await self.client.get_state()).watching
            except (TowerUnreachable, TowerUnavailable):
                return False  # not listening yet

        await self.until("the tower watches", watching, START_SECONDS)

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
        """Ask again until true; raises `DemoFailed` naming what never came."""
        end = time.monotonic() + seconds
        while not await condition():
            self.tower.check_alive()
            if time.monotonic() > end:
                raise DemoFailed(f"after {seconds:.0f} s still not: {what}")
            await asyncio.sleep(POLL_SECONDS)

    async def open_channel(self, balances: tuple[int, int]) -> bytes:
        """Open, register Bob's tower, then broadcast the funding and wait until the channel is active."""
        funding: list[Funding] = []

        def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
            funding.append(self.node.fund(spk, amount, broadcast=False))
            return funding[0].txid, funding[0].vout

        terms = self.client.config.terms(balances)
        channel_id = exchange.open_channel(self.alice.party, self.bob.party, terms, fund)
        await self.client.register_channel(self.bob.party.registration(channel_id, funding[0].raw))
        self.node.send_raw(funding[0].raw)
        self.node.mine(1)

        async def confirmed() -> bool:
            return (await self.client.get_funding_status(channel_id.hex())).confirmed

        await self.until("the funding is confirmed", confirmed)
        return channel_id

    async def update(self, channel_id: bytes, balances: tuple[int, int], state_data: bytes) -> int:
        """One exchange between the parties, then Bob's upload; final only when the tower has stored it (rule U4)."""
        sequence = exchange.update(self.alice.party, self.bob.party, channel_id, balances, state_data=state_data)
        await self.client.upload_state(channel_id.hex(), self.bob.party.update_body(channel_id, sequence))
        return sequence

    def stale_commitment(self, channel_id: bytes, sequence: int) -> bytes:
        """Alice's own commitment of a revoked state, fully signed."""
        return unsafe_commitment(self.alice.seed, self.alice.party, channel_id, sequence).serialize()

    def sweep_spk(self, channel_id: bytes) -> bytes:
        """Where Bob's penalties pay to."""
        return bytes(self.bob.party.registration(channel_id).sweep_spk)

    async def status(self, channel_id: bytes) -> str:
        """What the tower says about the channel."""
        return str((await self.client.get_channel_info(channel_id.hex())).status)

    async def until_status(self, channel_id: bytes, status: str) -> None:
        """Until the tower's view of a channel has this status."""

        async def reached() -> bool:
            return await self.status(channel_id) == status

        await self.until(f"channel {channel_id.hex()[:8]} is {status}", reached)

    async def until_height(self) -> None:
        """Until the tower has seen the node's tip."""
        height = self.node.height()

        async def seen() -> bool:
            state = await self.client.get_state()
            return state.height is not None and state.height >= height

        await self.until(f"the tower has processed block {height}", seen)


def _make_party(directory: Path, name: str, stack: ExitStack) -> Party:
    seed, passphrase = secrets.token_bytes(32), secrets.token_bytes(32)
    create_home(directory, "regtest", passphrase, seed=seed, cost=KEYSTORE_COST)
    home = stack.enter_context(open_home(directory, passphrase, PartySettings(network="regtest")))
    return Party(name, home.party, seed)
