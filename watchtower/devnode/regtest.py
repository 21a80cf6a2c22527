"""A private regtest bitcoind for the demo and the tests, with the few moves that a chain story needs.

Hashes and txids are 32 bytes in internal byte order, transactions are serialized bytes, amounts are satoshi;
only `rpc` speaks bitcoind's own forms. The node is seen here with its own wallet and full rights: this is the
side of the story that makes blocks and cheats, never the tower.
"""

from __future__ import annotations

import inspect
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import zmq

from domain.chain import BlockHash, OutPoint, Txid, display, from_display, make_outpoint, outpoint_txid, outpoint_vout
from domain.transaction import Transaction, TxIn, TxOut, compact_size
from watchtower.devnode.launch import Process, free_ports
from watchtower.devnode.provision import Found, find
from watchtower.node.transport import RpcRefused, RpcTransport

Value = TypeVar("Value")

ZMQ_TOPICS = ("sequence", "rawtx", "hashblock")
ANCHOR_SPK = bytes.fromhex("51024e73")
ANCHOR_SAT = 240
COIN_SAT = 200_000_000
"""Size of the wallet's prepared coins; `PREPARED_COINS` of them are confirmed and mature."""

PREPARED_COINS = 150
_FEERATE = 5  # sat/vB of what the wallet itself sends
_RESCAN_SECONDS = 0.25  # `wait_until` looks again after this time even if no message came


class Funding(msgspec.Struct, frozen=True):
    """A wallet transaction that pays `amount` to a script in output `vout` (always 0)."""

    txid: Txid
    vout: int
    raw: bytes

    @property
    def outpoint(self) -> OutPoint:
        """The funded outpoint."""
        return make_outpoint(self.txid, self.vout)


class Coin(msgspec.Struct, frozen=True):
    """A confirmed segwit coin of the wallet, locked against other use."""

    outpoint: OutPoint
    value: int
    spk: bytes


class Confirmation(msgspec.Struct, frozen=True):
    """Where a transaction stands on the active chain; `position` counts from the coinbase, which is 0."""

    height: int
    block_hash: BlockHash
    position: int


class RegtestNode:
    """One regtest bitcoind. Made by `start`; a context manager that kills it and keeps the data directory."""

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
        self._transport = RpcTransport(self.rpc_url, cookie_path=self.cookie_path)
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
        node = cls(
            datadir,
            binary=binary,
            extra_args=extra_args,
            knots_default_policy=knots_default_policy,
            rest=rest,
            listen=listen,
            zmq_topics=zmq_topics,
        )
        fresh = not (datadir / "regtest").exists()
        if fresh and prepared is not None:
            shutil.copytree(prepared, datadir, dirs_exist_ok=True)
        node.launch()
        if fresh and prepared is None:
            node.prepare_chain()
        return node

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

    def rpc(self, method: str, *params: object, seconds: float = 60.0) -> Any:
        """Any call, with bitcoind's own JSON (display order, BTC as Decimal). Raises `RpcRefused`, `NodeError`."""
        return self._transport.call(method, *params, seconds=seconds)

    # --- blocks -------------------------------------------------------------------------------------------------

    def height(self) -> int:
        """Height of the active tip."""
        return int(self.rpc("getblockcount"))

    def tip(self) -> BlockHash:
        """Hash of the active tip."""
        return _hash(self.rpc("getbestblockhash"))

    def hash_at(self, height: int) -> BlockHash:
        """Hash on the active chain at a height; raises `RpcRefused` (-8) above the tip."""
        return _hash(self.rpc("getblockhash", height))

    def block(self, block_hash: bytes) -> bytes:
        """A serialized block."""
        return bytes.fromhex(self.rpc("getblock", display(block_hash), 0))

    def mine(self, count: int = 1, address: str | None = None) -> list[BlockHash]:
        """Mine blocks with what the mempool holds; the subsidy goes to nobody, or to `address`."""
        if address is not None:
            return [_hash(text) for text in self.rpc("generatetoaddress", count, address)]
        return [_hash(text) for text in self.rpc("generatetodescriptor", count, _nobody())]

    def generate_block(self, raws: Sequence[bytes] = (), address: str | None = None) -> BlockHash:
        """Mine one block with exactly these transactions, in this order; the mempool need not know them.

        Raises `RpcRefused` (-25) if the block would be invalid, for example when a lock time is not reached.
        """
        return _hash(self.rpc("generateblock", address or _nobody(), [raw.hex() for raw in raws])["hash"])

    def invalidate(self, block_hash: bytes) -> None:
        """Take a block and all after it off the active chain; their transactions may return to the mempool."""
        self.rpc("invalidateblock", display(block_hash))

    def reconsider(self, block_hash: bytes) -> None:
        """Undo `invalidate`; the chain with more work becomes active."""
        self.rpc("reconsiderblock", display(block_hash))

    def reorg(self, depth: int, blocks: Sequence[Sequence[bytes]] | None = None) -> list[BlockHash]:
        """Replace the last `depth` blocks by others; returns the new hashes in chain order.

        `blocks` gives the transactions of each new block; default is `depth + 1` empty blocks. At no moment does
        the node announce a tip of the new branch before the old blocks are disconnected.
        """
        replacement = [()] * (depth + 1) if blocks is None else blocks
        self.invalidate(self.hash_at(self.height() - depth + 1))
        return [self.generate_block(raws) for raws in replacement]

    # --- transactions -------------------------------------------------------------------------------------------

    def send_raw(self, raw: bytes) -> Txid:
        """Put a transaction into the mempool at any feerate; raises `RpcRefused` with the node's words."""
        return Txid(_hash(self.rpc("sendrawtransaction", raw.hex(), 0)))

    def submit_package(self, raws: Sequence[bytes]) -> dict[str, Any]:
        """`submitpackage` at any feerate; raises `ValueError` unless the node says `success`."""
        result: dict[str, Any] = self.rpc("submitpackage", [raw.hex() for raw in raws], 0)
        if result["package_msg"] != "success":
            errors = [each.get("error", "") for each in result["tx-results"].values()]
            raise ValueError(f"package refused: {result['package_msg']} {errors}")
        return result

    def test_accept(self, raw: bytes) -> str:
        """Empty if the mempool would take the transaction now, else its reject reason."""
        answer = self.rpc("testmempoolaccept", [raw.hex()], 0)[0]
        return "" if answer["allowed"] else str(answer["reject-reason"])

    def mempool(self) -> set[Txid]:
        """Txids in the mempool."""
        return {Txid(_hash(text)) for text in self.rpc("getrawmempool")}

    def transaction(self, txid: bytes) -> bytes | None:
        """A transaction from the mempool or from the active chain, or None."""
        try:
            return bytes.fromhex(self.rpc("getrawtransaction", display(txid)))
        except RpcRefused:
            place = self.confirmation(txid)
        if place is None:
            return None
        return bytes.fromhex(self.rpc("getrawtransaction", display(txid), 0, display(place.block_hash)))

    def confirmation(self, txid: bytes) -> Confirmation | None:
        """Where the transaction is on the active chain; looks through the blocks from the tip down."""
        wanted = display(txid)
        text = self.rpc("getbestblockhash")
        while text is not None:
            block = self.rpc("getblock", text, 1)
            if wanted in block["tx"]:
                return Confirmation(block["height"], _hash(text), block["tx"].index(wanted))
            text = block.get("previousblockhash")
        return None

    def spender(self, outpoint: bytes) -> Txid | None:
        """Who spends an outpoint, in the mempool or on the active chain; None if nobody does."""
        vout = outpoint_vout(outpoint)
        place = {"txid": display(outpoint_txid(outpoint)), "vout": vout}
        if "spendingtxid" in (found := self.rpc("gettxspendingprevout", [place])[0]):
            return Txid(_hash(found["spendingtxid"]))
        if self.is_unspent(outpoint):
            return None
        text = self.rpc("getbestblockhash")
        while text is not None:
            block = self.rpc("getblock", text, 2)
            for tx in block["tx"]:
                if any(vin.get("txid") == place["txid"] and vin["vout"] == vout for vin in tx["vin"]):
                    return Txid(_hash(tx["txid"]))
            text = block.get("previousblockhash")
        return None

    def is_unspent(self, outpoint: bytes, include_mempool: bool = False) -> bool:
        """True if the output exists and is unspent on the active chain (and in the mempool)."""
        answer = self.rpc("gettxout", display(outpoint_txid(outpoint)), outpoint_vout(outpoint), include_mempool)
        return answer is not None

    # --- the wallet ---------------------------------------------------------------------------------------------

    def prepare_chain(self) -> None:
        """Make the wallet, mine it mature coins and split them into `PREPARED_COINS` confirmed ones."""
        self.rpc("createwallet", "purse", False, False, "", False, True, True)
        self.mine(PREPARED_COINS // 20, self.wallet_address())
        self.mine(100)
        for _ in range(3):
            share = {self.wallet_address(): _btc(COIN_SAT) for _ in range(PREPARED_COINS // 3)}
            self.rpc("sendmany", "", share)
        self.mine(1)

    def wallet_address(self) -> str:
        """A new P2WPKH address of the wallet."""
        return str(self.rpc("getnewaddress", "", "bech32"))

    def wallet_spk(self) -> bytes:
        """The output script of a new wallet address."""
        return bytes.fromhex(self.rpc("getaddressinfo", self.wallet_address())["scriptPubKey"])

    def fund(self, spk: bytes, amount: int, *, broadcast: bool = True, feerate: int = _FEERATE) -> Funding:
        """A signed wallet transaction that pays `amount` to `spk` in output 0, from confirmed segwit coins.

        Without `broadcast` nothing is sent; the coins stay locked, so later calls do not use them. Mining is up
        to the caller.
        """
        return self.fund_many([TxOut(amount, spk)], broadcast=broadcast, feerate=feerate)

    def fund_many(self, outputs: Sequence[TxOut], *, broadcast: bool = True, feerate: int = _FEERATE) -> Funding:
        """As `fund` for many outputs of one transaction: output i is `outputs[i]`, the change comes last."""
        paid = compact_size(len(outputs)) + b"".join(output.serialize() for output in outputs)
        bare = (2).to_bytes(4, "little") + b"\0" + paid + bytes(4)  # the wallet adds the inputs
        options = {"changePosition": len(outputs), "lockUnspents": True, "minconf": 1, "fee_rate": feerate}
        filled = self.rpc("fundrawtransaction", bare.hex(), options, False)["hex"]
        raw = bytes.fromhex(self.rpc("signrawtransactionwithwallet", filled)["hex"])
        if broadcast:
            self.send_raw(raw)
        return Funding(Transaction.parse(raw).txid, 0, raw)

    def wallet_coin(self, at_least: int = COIN_SAT // 2) -> Coin:
        """A confirmed wallet coin, locked from now on; raises `LookupError` when the purse is empty."""
        unspent = self.rpc("listunspent", 1, 9999999, [], False, {"minimumAmount": _btc(at_least)})
        for each in sorted(unspent, key=lambda coin: coin["amount"]):
            outpoint = make_outpoint(from_display(each["txid"]), each["vout"])
            self.rpc("lockunspent", False, [{"txid": each["txid"], "vout": each["vout"]}])
            return Coin(outpoint, _sat(each["amount"]), bytes.fromhex(each["scriptPubKey"]))
        raise LookupError(f"the test wallet has no confirmed coin of {at_least} sat left")

    def sign(self, tx: Transaction, spent: Sequence[Coin] = ()) -> bytes:
        """Serialize a transaction with the wallet's signatures; `spent` describes inputs that the node cannot see."""
        previous = [
            {
                "txid": display(outpoint_txid(coin.outpoint)),
                "vout": outpoint_vout(coin.outpoint),
                "scriptPubKey": coin.spk.hex(),
                "amount": _btc(coin.value),
            }
            for coin in spent
        ]
        return bytes.fromhex(self.rpc("signrawtransactionwithwallet", tx.serialize().hex(), previous)["hex"])

    def anchor_child(self, parent_txid: bytes, vout: int = 1, fee: int = 5_000, value: int = ANCHOR_SAT) -> bytes:
        """A signed version-3 child that spends the parent's P2A anchor and a wallet coin, with `fee` in total.

        The parent need not be known to the node: send both with `submit_package([parent, child])`.
        """
        coin = self.wallet_coin()
        anchor = Coin(make_outpoint(parent_txid, vout), value, ANCHOR_SPK)
        inputs = (TxIn(anchor.outpoint, 0xFFFFFFFD), TxIn(coin.outpoint, 0xFFFFFFFD))
        change = TxOut(coin.value + value - fee, self.wallet_spk())
        return self.sign(Transaction(3, inputs, (change,), 0), [anchor])

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

    def sync_to(self, other: RegtestNode, seconds: float = 20.0) -> None:
        """Wait until the tip is the other node's; raises `TimeoutError`."""
        wanted = other.rpc("getbestblockhash")
        reached = self.rpc("waitforblock", wanted, int(seconds * 1000), seconds=seconds + 5)
        if reached["hash"] != wanted:
            raise TimeoutError(f"the node stays at height {reached['height']}, the other is at {other.height()}")

    # --- waiting ------------------------------------------------------------------------------------------------

    def wait_until(self, predicate: Callable[[], Value | None], seconds: float = 10.0) -> Value:
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

    def wait_in_mempool(self, txid: bytes, seconds: float = 10.0) -> None:
        """Wait until the transaction is in the mempool."""
        self.wait_until(lambda: txid in self.mempool(), seconds)

    def wait_spender(self, outpoint: bytes, seconds: float = 10.0) -> Txid:
        """Wait until somebody spends the outpoint, in the mempool or in a block; the spender's txid."""
        return self.wait_until(lambda: self.spender(outpoint), seconds)

    def _listen(self) -> zmq.Socket[bytes]:
        if self._bell is None:
            self._bell = zmq.Context.instance().socket(zmq.SUB)
            self._bell.setsockopt(zmq.RCVHWM, 1000)
            self._bell.setsockopt(zmq.SUBSCRIBE, b"")
            self._bell.connect(self.zmq_endpoint)
        return self._bell


def _nobody() -> str:
    """Descriptor of an output that nobody can spend; a new one each time, so that no two blocks are equal."""
    return f"raw(0020{secrets.token_hex(32)})"


def _hash(text: str) -> BlockHash:
    return BlockHash(from_display(text))


def _btc(satoshi: int) -> str:
    return f"{Decimal(satoshi) / 100_000_000:.8f}"


def _sat(amount: Decimal) -> int:
    return int(amount * 100_000_000)


def _source(predicate: Callable[[], object]) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except OSError:
        return repr(predicate)
