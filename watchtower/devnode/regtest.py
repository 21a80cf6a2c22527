"""A private regtest bitcoind for the demo and the tests, with the few moves that a chain story needs.

Hashes and txids are 32 bytes in internal byte order, transactions are serialized bytes, amounts are satoshi;
only `rpc` speaks bitcoind's own forms. The node is seen here with its own wallet and full rights: this is the
side of the story that makes blocks and cheats, never the tower.
"""

from __future__ import annotations

import inspect
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import zmq

from domain.chain import Txid
from watchtower.devnode.launch import NodeDied, Process, free_ports
from watchtower.devnode.moves import Confirmation
from watchtower.devnode.provision import Found, find
from watchtower.devnode.purse import ANCHOR_SAT, ANCHOR_SPK, Coin, Funding, Purse
from watchtower.node.transport import RpcRefused, RpcTransport

__all__ = ["ANCHOR_SAT", "ANCHOR_SPK", "Coin", "Confirmation", "Funding", "RegtestNode", "RpcRefused"]

Value = TypeVar("Value")

ZMQ_TOPICS = ("sequence", "rawtx", "hashblock")
START_ATTEMPTS = 3
PORT_TAKEN = ("Unable to bind", "in use", "Unable to start HTTP server", "ZMQ")
"""What bitcoind says when another program took a port between our choice and its start."""

_RESCAN_SECONDS = 0.25  # `wait_until` looks again after this time even if no message came
_PATIENCE = 30.0  # seconds; what is waited for comes in a moment, but a machine may be busy with other things


class RegtestNode(Purse):
    """One regtest bitcoind with all of `Moves` and `Purse`. Made by `start`.

    As a context manager it kills the process at the end and keeps the data directory.
    """

    def __init__(
        self,
        datadir: Path,
        *,
        binary: Found | None = None,
        extra_args: Sequence[str] = (),
        knots_default_policy: bool = False,
        rest: bool = True,
        listen: bool = False,
        zmq_topics: Sequence[str] = ZMQ_TOPICS,
    ) -> None:
        """Settle ports and command line; nothing runs yet (see `start`, `launch`)."""
        self.binary = binary or find()
        self.datadir = datadir
        self.rpc_port, self.zmq_port, self.p2p_port = free_ports(3)
        self.listens = listen
        arguments = self._arguments(knots_default_policy, rest, listen, zmq_topics)
        self._process = Process(self.binary.path, datadir, [*arguments, *extra_args])
        super().__init__(RpcTransport(self.rpc_url, cookie_path=self.cookie_path))
        self._bell: zmq.Socket[bytes] | None = None

    @classmethod
    def start(
        cls,
        datadir: Path,
        *,
        prepared: Path | None = None,
        binary: Found | None = None,
        extra_args: Sequence[str] = (),
        knots_default_policy: bool = False,
        rest: bool = True,
        listen: bool = False,
        zmq_topics: Sequence[str] = ZMQ_TOPICS,
    ) -> Self:
        """A running node with a funded wallet.

        `datadir` is made if absent. `prepared` is a directory from `make_prepared`; it is copied, which makes the
        start take about 0.3 s. Without it a new chain is mined here (about 1 s). `knots_default_policy` leaves
        Knots' own relay policy in place; otherwise `-corepolicy=1` makes Knots relay as Bitcoin Core does.
        `listen` accepts connections from other nodes. Raises `NodeNotFound`, `NodeDied`.
        """
        fresh = not (datadir / "regtest").exists()
        if fresh and prepared is not None:
            shutil.copytree(prepared, datadir, dirs_exist_ok=True)
        for attempt in range(1, START_ATTEMPTS + 1):
            node = cls(
                datadir,
                binary=binary,
                extra_args=extra_args,
                knots_default_policy=knots_default_policy,
                rest=rest,
                listen=listen,
                zmq_topics=zmq_topics,
            )
            try:
                node.begin(with_wallet=fresh and prepared is None)
            except NodeDied as died:
                if attempt == START_ATTEMPTS or not any(text in str(died) for text in PORT_TAKEN):
                    raise
            else:
                return node
        raise AssertionError("the loop returns or raises")

    def begin(self, *, with_wallet: bool) -> None:
        """First start; `with_wallet` makes a chain and a funded wallet. Ends the process again if it fails."""
        try:
            self.launch()
            if with_wallet:
                self.prepare_chain()
        except BaseException:
            self.close()
            raise

    @classmethod
    def make_prepared(cls, target: Path, binary: Found | None = None) -> Path:
        """Make a stopped data directory with a funded wallet, for `start(prepared=…)`; once per test session."""
        node = cls.start(target, binary=binary, knots_default_policy=True)
        node.stop()
        (target / "regtest" / "debug.log").unlink(missing_ok=True)
        return target

    def _arguments(self, knots_default_policy: bool, rest: bool, listen: bool, zmq_topics: Sequence[str]) -> list[str]:
        zmq_address = f"tcp://127.0.0.1:{self.zmq_port}"
        arguments = [
            "-server",
            "-printtoconsole=0",
            "-discover=0",
            "-dnsseed=0",
            "-fixedseeds=0",
            "-natpmp=0",
            "-fallbackfee=0.0001",
            "-keypool=30",
            "-addresstype=bech32",
            "-changetype=bech32",  # only segwit coins: what spends them has a txid before it is signed
            "-dbcache=16",
            "-maxtipage=315360000",  # a prepared chain may be old; it must not look like an initial download
            f"-rpcport={self.rpc_port}",
            "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1",
            *(f"-zmqpub{topic}={zmq_address}" for topic in zmq_topics),
            f"-rest={int(rest)}",
            f"-listen={int(listen)}",
        ]
        if listen:
            arguments += [f"-bind=127.0.0.1:{self.p2p_port}", "-listenonion=0"]
        if self.is_knots and not knots_default_policy:
            arguments.append("-corepolicy=1")
        return arguments

    # --- facts for those who connect ---------------------------------------------------------------------------

    @property
    def is_knots(self) -> bool:
        """True if the binary is Bitcoin Knots."""
        return "Knots" in self.binary.version

    @property
    def rpc_url(self) -> str:
        """`http://127.0.0.1:port`, without credentials."""
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def rest_url(self) -> str:
        """Base address of the REST interface."""
        return f"{self.rpc_url}/rest"

    @property
    def zmq_endpoint(self) -> str:
        """The one address on which all ZMQ topics are published."""
        return f"tcp://127.0.0.1:{self.zmq_port}"

    @property
    def cookie_path(self) -> Path:
        """The RPC cookie; it exists while the node runs."""
        return self.datadir / "regtest" / ".cookie"

    @property
    def pid(self) -> int | None:
        """Process id, None while the node is down."""
        return self._process.pid

    # --- life ---------------------------------------------------------------------------------------------------

    def launch(self, extra_args: Sequence[str] = ()) -> None:
        """Start the process (again) on the same ports and data; returns when RPC is ready."""
        self._process.start(extra_args)

    def stop(self) -> None:
        """Stop by RPC, kill after 20 s. Does nothing if it is down."""
        if self.pid is None:
            return
        self.rpc("stop")
        self._transport.close()
        if not self._process.wait():
            self._process.kill()

    def kill(self) -> None:
        """SIGKILL, as a power cut. Does nothing if it is down."""
        self._transport.close()
        self._process.kill()

    def restart(self, extra_args: Sequence[str] = ()) -> None:
        """`stop` and `launch`; `extra_args` hold for this start only."""
        self.stop()
        self.launch(extra_args)

    def close(self) -> None:
        """Kill the process and free the sockets; the data directory stays."""
        self.kill()
        if self._bell is not None:
            self._bell.close(linger=0)
            self._bell = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- peers --------------------------------------------------------------------------------------------------

    def connect(self, other: RegtestNode) -> None:
        """Connect to a node that was started with `listen=True`, and wait for the handshake."""
        self.rpc("addnode", f"127.0.0.1:{other.p2p_port}", "onetry")
        self.wait_until(lambda: any(peer["version"] for peer in self.rpc("getpeerinfo")))
        other.wait_until(lambda: any(peer["version"] for peer in other.rpc("getpeerinfo")))

    def disconnect(self) -> None:
        """Drop all peers."""
        for peer in self.rpc("getpeerinfo"):
            self.rpc("disconnectnode", "", peer["id"])
        self.wait_until(lambda: not self.rpc("getpeerinfo"))

    def sync_to(self, other: RegtestNode, seconds: float = 60.0) -> None:
        """Wait until the tip is the other node's; raises `TimeoutError`."""
        wanted = other.rpc("getbestblockhash")
        reached = self.rpc("waitforblock", wanted, int(seconds * 1000), seconds=seconds + 5)
        if reached["hash"] != wanted:
            raise TimeoutError(f"the node stays at height {reached['height']}, the other is at {other.height()}")

    # --- waiting ------------------------------------------------------------------------------------------------

    def wait_until(self, predicate: Callable[[], Value | None], seconds: float = _PATIENCE) -> Value:
        """The first true value of `predicate`, asked again after each message of the node; `TimeoutError`."""
        bell, deadline = self._listen(), time.monotonic() + seconds
        while True:
            if value := predicate():
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"not within {seconds:g} s: {_source(predicate)}\n{self._process.log_tail(5)}")
            if bell.poll(int(min(left, _RESCAN_SECONDS) * 1000)):
                bell.recv_multipart()

    def wait_in_mempool(self, txid: bytes, seconds: float = _PATIENCE) -> None:
        """Wait until the transaction is in the mempool."""
        self.wait_until(lambda: txid in self.mempool(), seconds)

    def wait_spender(self, outpoint: bytes, seconds: float = _PATIENCE) -> Txid:
        """Wait until somebody spends the outpoint, in the mempool or in a block; the spender's txid."""
        return self.wait_until(lambda: self.spender(outpoint), seconds)

    def _listen(self) -> zmq.Socket[bytes]:
        if self._bell is None:
            self._bell = zmq.Context.instance().socket(zmq.SUB)
            self._bell.setsockopt(zmq.RCVHWM, 1000)
            self._bell.setsockopt(zmq.SUBSCRIBE, b"")
            self._bell.connect(self.zmq_endpoint)
        return self._bell


def _source(predicate: Callable[[], object]) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except OSError:
        return repr(predicate)
