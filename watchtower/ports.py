"""What the core needs from the world outside: one small protocol per need.

Fakes and real adapters implement the same protocols and pass the same contract tests. All calls are
synchronous; amounts are satoshi, hashes are in internal byte order, feerates are sat/vB.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import ClassVar, Protocol

import msgspec

from domain.chain import BlockHash, OutPoint, Txid
from domain.events import BroadcastOutcome, Envelope, Recorded
from domain.fees import Market
from domain.transaction import TxOut

ALLOWED_METHODS = (
    "getbestblockhash",
    "getblockchaininfo",
    "getnetworkinfo",
    "getpeerinfo",
    "getzmqnotifications",
    "getblockhash",
    "getblockheader",
    "getblock",
    "getblockfrompeer",
    "getrawmempool",
    "getmempoolinfo",
    "getmempoolentry",
    "gettxspendingprevout",
    "getrawtransaction",
    "gettxout",
    "testmempoolaccept",
    "sendrawtransaction",
    "submitpackage",
    "estimatesmartfee",
)
"""What an `rpcwhitelist` for this service has to contain, in the order of the documentation."""


class WatchtowerError(Exception):
    """Base of the service's own errors: the world outside did not do what was needed; try again or repair."""

    slug: ClassVar[str] = "internal"


class NodeError(WatchtowerError):
    """The node gave no usable answer. Nothing may be concluded from it; try again."""

    slug: ClassVar[str] = "node-error"


class NodeUnavailable(NodeError):
    """Connection refused, time-out, 401, 403, 503: the node cannot be asked now."""

    slug: ClassVar[str] = "node-unavailable"


class NodeAuthError(NodeUnavailable):
    """The node refused the credentials (401) or the method (403, rpcwhitelist)."""

    slug: ClassVar[str] = "node-auth"


class NodeWarmingUp(NodeUnavailable):
    """The node answers -28: it is still loading."""

    slug: ClassVar[str] = "node-warming-up"


class BlockNotAvailable(NodeError):
    """The node knows the block but cannot hand it over (pruned, damaged)."""

    slug: ClassVar[str] = "block-unavailable"


class WrongChain(WatchtowerError):
    """The node follows another chain than the store."""

    slug: ClassVar[str] = "wrong-chain"


class StoreError(WatchtowerError):
    """The event store refused or could not do an operation; nothing was half written."""

    slug: ClassVar[str] = "store-error"


class StoreConflict(StoreError):
    """Another writer was faster on this stream: reload, decide again."""

    slug: ClassVar[str] = "conflict"

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream} is at version {actual}, not {expected}")
        self.stream, self.expected, self.actual = stream, expected, actual


class StoreBusy(StoreError):
    """Queue full or database locked: try again shortly (503)."""

    slug: ClassVar[str] = "store-busy"


class StoreAway(StoreBusy):
    """The database server cannot be reached; whether a job is stored is not known: send the same bytes again (503)."""

    slug: ClassVar[str] = "store-away"


class StandingBy(StoreBusy):
    """Another tower leads the log; this one follows it and takes over when the other one ends (503)."""

    slug: ClassVar[str] = "standing-by"


class StoreFull(StoreError):
    """No space left (507); the store works again once there is space."""

    slug: ClassVar[str] = "store-full"


class StoreBroken(StoreError):
    """I/O error or failed fsync: the process must end and start again."""

    slug: ClassVar[str] = "store-broken"


class StoreLocked(StoreError):
    """Another instance holds the store (exit 3)."""

    slug: ClassVar[str] = "store-locked"


class ChainInfo(msgspec.Struct, frozen=True):
    """`network` is ours (mainnet, testnet …); `pruned_height` 0 when not pruned.

    `tip_time` is the Unix time in the header of the node's tip, by its miner's clock; 0 where nobody asked for it.
    """

    network: str
    blocks: int
    headers: int
    best_hash: BlockHash
    initial_block_download: bool
    pruned_height: int
    tip_time: int = 0


class HeaderInfo(msgspec.Struct, frozen=True):
    """What the node knows about a block. `confirmations` -1 means: not on its active chain."""

    hash: BlockHash
    prev: BlockHash
    height: int
    chainwork: int
    confirmations: int
    raw: bytes


class DecodedTransaction(msgspec.Struct, frozen=True):
    """A transaction of a block as the node reads it: outpoints that it spends, its outputs, its bytes."""

    txid: Txid
    spends: tuple[OutPoint, ...]
    outputs: tuple[TxOut, ...]
    raw: bytes


class DecodedBlock(msgspec.Struct, frozen=True):
    """A block as the node reads it: 80 bytes of header, and the transactions in order."""

    header: bytes
    transactions: tuple[DecodedTransaction, ...]


class Utxo(msgspec.Struct, frozen=True):
    """An unspent output; `confirmations` 0 = in the mempool. `best_block` is the tip the answer is about."""

    value: int
    spk: bytes
    confirmations: int
    best_block: BlockHash


class MempoolEntry(msgspec.Struct, frozen=True):
    """Fee in satoshi, size in vB, parents in the mempool."""

    fee: int
    vsize: int
    depends: tuple[Txid, ...]


class Answer(msgspec.Struct, frozen=True):
    """The node's answer to a broadcast, classified in one place (watchtower/node/answers.py)."""

    outcome: BroadcastOutcome
    code: int = 0
    text: str = ""

    @property
    def in_mempool(self) -> bool:
        """True if the transaction is where it should be."""
        return self.outcome in (BroadcastOutcome.ACCEPTED, BroadcastOutcome.ALREADY_KNOWN)


class Node(Protocol):
    """bitcoind, seen by the core. Every method raises `NodeError` when there is no usable answer."""

    def chain_info(self) -> ChainInfo:
        """Network, tip, sync state."""

    def best_hash(self) -> BlockHash:
        """Hash of the active tip."""

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        """Header facts, or None if the node does not know the block (-5)."""

    def hash_at(self, height: int) -> BlockHash | None:
        """Hash on the active chain at a height, or None above the tip (-8)."""

    def block(self, block_hash: bytes) -> bytes:
        """Serialized block; raises `BlockNotAvailable`."""

    def decoded_block(self, block_hash: bytes) -> DecodedBlock:
        """The same block read by the node (`getblock` 2), a second way to it; raises `BlockNotAvailable`."""

    def fetch_from_peers(self, block_hash: bytes) -> None:
        """Let the node ask some of its peers for a block that it has no longer; it arrives later, or never."""

    def utxos(self, outpoints: Sequence[OutPoint], include_mempool: bool) -> list[Utxo | None]:
        """One answer per outpoint, batched."""

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, Txid]:
        """Spenders in the mempool; outpoints without one are absent."""

    def mempool_transaction(self, txid: bytes) -> bytes | None:
        """Raw transaction from the mempool, or None."""

    def transaction(self, txid: bytes) -> bytes | None:
        """Raw transaction wherever the node finds it: the mempool, and blocks if it keeps an index of them; or None."""

    def test_accept(self, raw: bytes) -> Answer:
        """`testmempoolaccept` with maxfeerate 0: what the node would answer to a broadcast now. Changes nothing."""

    def mempool_entry(self, txid: bytes) -> MempoolEntry | None:
        """Fee and size of a mempool transaction, or None."""

    def fee_market(self, targets: Sequence[int]) -> Market:
        """Feerates that decide whether a transaction relays, and `estimatesmartfee` economical for each target.

        A target without data, or that the node refuses to estimate (as with -blocksonly), is left out.
        """

    def broadcast(self, raw: bytes) -> Answer:
        """`sendrawtransaction` with maxfeerate 0. A refusal is an answer, not an error."""

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """`broadcast` of each, in order and in one request; an error says nothing about any of them."""

    def submit_package(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """`submitpackage` with maxfeerate 0; one answer per transaction."""


class Place(msgspec.Struct, frozen=True):
    """Where an event stands: `position` counts from 1, `leaf` is its leaf hash, `head` the head after its commit."""

    position: int
    leaf: bytes
    head: bytes


class Places(Protocol):
    """What a receipt says about an event. Both calls are cheap: the newest commits are remembered."""

    def event_id(self, stream: str, version: int) -> int | None:
        """Notification id of a stored event, None if there is none."""

    def place(self, event_id: int) -> Place:
        """Position, leaf and head of a stored event; raises `StoreError` if the log has no such event."""


class EventStore(Places, Protocol):
    """Append-only log. A job (one `append`) is atomic; it is durable when the call returns."""

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """Store all envelopes or none; returns the last notification id.

        Raises `StoreConflict` if a first version is not the stream's next one, `StoreBusy`, `StoreFull`,
        `StoreBroken`. `chain=True` overtakes queued client writes.
        """

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """Envelopes of a stream with version > `after`, in order."""

    def version(self, stream: str) -> int:
        """Last committed version of a stream, 0 if it has no event; cheap, it is asked at every load of a channel."""

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log in order of notification id, behind `after_id`."""

    def last_id(self) -> int:
        """Highest committed notification id, 0 for an empty log."""

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Wait until the log has an event behind `after_id`; False after `timeout` seconds."""

    def stream_id(self, category: str, natural_key: bytes) -> str:
        """Deterministic, unlinkable stream name: category letter and 22 characters (HMAC with `stream_key`)."""


class Clock(Protocol):
    """Wall time for `recorded_at` and display, monotonic time for timers. No decision reads the wall."""

    def wall_microseconds(self) -> int:
        """Unix time in microseconds."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""


class Keystore(Protocol):
    """Encrypted secrets of the service: one revocation basepoint secret per channel."""

    def put(self, proposal_id: bytes, revocation_secret: bytes) -> None:
        """Store durably; same key and value again is a no-op, another value raises."""

    def get(self, proposal_id: bytes) -> bytes | None:
        """The secret, or None."""

    def erase(self, names: Iterable[bytes]) -> None:
        """Forget these secrets durably; unknown names change nothing."""


class Alarm(Protocol):
    """Readiness reasons and counters that must be seen from outside."""

    def set(self, reason: str) -> None:
        """A readiness reason begins to hold."""

    def clear(self, reason: str) -> None:
        """It no longer holds."""


class Failpoint(Protocol):
    """Named points where tests make the process fail; in production a call does nothing."""

    def __call__(self, name: str) -> None:
        """Pass the point `name`."""


class PendingFunding(msgspec.Struct, frozen=True):
    """A channel whose funding output is not confirmed, or void: what to look for in blocks and mempool."""

    stream: str
    outpoint: OutPoint
    spk: bytes
    seen: bool
    void: bool = False


class ReadModels(Protocol):
    """What the chain task and the responder ask the projections. `catch_up` brings them to the end of the log."""

    def catch_up(self) -> None:
        """Apply all committed events."""

    def take_changed(self) -> frozenset[str]:
        """Channel streams that changed since the last call."""

    def take_resolved(self) -> frozenset[tuple[str, bytes]]:
        """Stream and proposal id of channels that are or became resolved since the last call (first: all)."""

    def streams_of(self, outpoint: bytes) -> tuple[str, ...]:
        """The channels that watch this outpoint (several, where one transaction funds many)."""

    @property
    def watched(self) -> Container[bytes]:
        """All watched outpoints, for the block scanner and (from another thread) the door-bell."""

    @property
    def sieve(self) -> bytes | bytearray:
        """Marks that let every watched outpoint pass and few others; see `scan_block`."""

    def funding_outpoints(self, after: bytes, limit: int) -> list[OutPoint]:
        """Funding outpoints of live channels in byte order behind `after`, for the mempool sweep."""

    def streams_in_block(self, block_hash: bytes) -> list[str]:
        """Channels with a fact in this block, for its disconnect."""

    def pending_funding(self) -> list[PendingFunding]:
        """Channels whose funding is not confirmed now, or void."""

    def young_funding(self) -> list[str]:
        """Channels whose funding is younger than 100 blocks or not there yet."""

    def preimage(self, payment_hash: bytes) -> bytes | None:
        """The preimage of a payment hash, learned in any channel."""

    def contested(self) -> list[str]:
        """Channels with a known spend of the funding outpoint that are not resolved, most urgent first."""


class Rng(Protocol):
    """Random bytes for signatures."""

    def __call__(self, size: int) -> bytes:
        """`size` fresh random bytes."""
