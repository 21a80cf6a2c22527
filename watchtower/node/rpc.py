"""bitcoind as the core's `Node` port: typed questions over JSON-RPC, blocks over REST where it is on.

Replies are decoded by `replies`. Only the methods of `ports.ALLOWED_METHODS` are called, so the node's user can be
restricted to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from domain.chain import (
    BlockHash,
    OutPoint,
    Txid,
    display,
    double_sha256,
    from_display,
    outpoint_txid,
    outpoint_vout,
)
from domain.fees import Market
from watchtower.node import answers
from watchtower.node.replies import (
    block_hash_of,
    decoded_transaction,
    decoding,
    market_of,
    market_questions,
    network_name,
    satoshi,
    utxo_of,
    whole_number,
)
from watchtower.node.transport import CALL_SECONDS, FIRST_SHARE, IN_FLIGHT, Observer, RpcRefused, RpcTransport
from watchtower.ports import (
    Answer,
    BlockNotAvailable,
    ChainInfo,
    DecodedBlock,
    HeaderInfo,
    MempoolEntry,
    NodeError,
    Utxo,
)

BLOCK_SECONDS = 60.0
PEERS_ASKED = 3
"""Peers that are asked for a missing block; each sends it in full."""

BATCH = 1000
"""Questions per request: about 0.1 MB each way, and 20 ms of the node's time."""

AHEAD = 2
"""Requests under way at once where one answer needs several: fewer than the connections that we may have."""

INVALID_ADDRESS_OR_KEY = -5
INVALID_PARAMETER = -8
_MISC = -1


class ZmqNotification(msgspec.Struct, frozen=True):
    """A notification that the node publishes: `pubsequence` … at an address, with its high-water mark."""

    type: str
    address: str
    hwm: int


class NodeVersion(msgspec.Struct, frozen=True):
    """`number` is 290402 for 29.4.2; `subversion` names the implementation; peers by direction."""

    number: int
    subversion: str
    inbound: int
    outbound: int


class BitcoindNode:
    """The `Node` port over one bitcoind. Usable from any thread; every method raises `NodeError`."""

    def __init__(
        self,
        url: str,
        user: str | None = None,
        password: str | None = None,
        cookie_path: Path | None = None,
        rest_url: str | None = None,
        observe: Observer | None = None,
        *,
        seconds: float = CALL_SECONDS,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """`url` as `http://host:port`; credentials as in `RpcTransport`; `rest_url` as `http://host:port/rest`.

        At most `in_flight` calls are under way at once, of all threads together.
        """
        self._transport = RpcTransport(url, user, password, cookie_path, observe, in_flight)
        self._rest_url = rest_url
        self._seconds = seconds

    def __repr__(self) -> str:
        return f"BitcoindNode({self._transport!r})"

    def close(self) -> None:
        """Close this thread's connections."""
        self._transport.close()

    # --- the chain ----------------------------------------------------------------------------------------------

    def chain_info(self) -> ChainInfo:
        """See the port."""
        reply = self._call("getblockchaininfo")
        with decoding("getblockchaininfo"):
            return ChainInfo(
                network=network_name(reply["chain"]),
                blocks=whole_number(reply["blocks"]),
                headers=whole_number(reply["headers"]),
                best_hash=block_hash_of(reply["bestblockhash"]),
                initial_block_download=bool(reply["initialblockdownload"]),
                pruned_height=whole_number(reply.get("pruneheight", 0)) if reply["pruned"] else 0,
                tip_time=whole_number(reply.get("time", 0)),  # for metrics only: nothing rests on it
            )

    def best_hash(self) -> BlockHash:
        """See the port."""
        reply = self._call("getbestblockhash")
        with decoding("getbestblockhash"):
            return block_hash_of(reply)

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        """See the port. One request; both forms of the header are about the same block, because the hash names it."""
        name = display(block_hash)
        calls = [("getblockheader", (name, True)), ("getblockheader", (name, False))]
        known, raw = self._transport.batch(calls, self._seconds)
        for reply in (known, raw):
            if isinstance(reply, RpcRefused):
                if reply.code == INVALID_ADDRESS_OR_KEY:
                    return None
                raise reply
        with decoding("getblockheader"):
            header = bytes.fromhex(raw)
            if known["hash"] != name or double_sha256(header) != block_hash:
                raise ValueError("an answer about another block")
            return HeaderInfo(
                hash=block_hash_of(known["hash"]),
                prev=block_hash_of(known.get("previousblockhash", "00" * 32)),  # absent for the genesis block
                height=whole_number(known["height"]),
                chainwork=int(known["chainwork"], 16),
                confirmations=whole_number(known["confirmations"]),
                raw=header,
            )

    def hash_at(self, height: int) -> BlockHash | None:
        """See the port."""
        try:
            reply = self._call("getblockhash", height)
        except RpcRefused as error:
            if error.code == INVALID_PARAMETER:
                return None
            raise
        with decoding("getblockhash"):
            return block_hash_of(reply)

    def block(self, block_hash: bytes) -> bytes:
        """See the port. REST first where it is configured (6 times cheaper), else `getblock` as text."""
        name = display(block_hash)
        if (raw := self._over_rest(name)) is not None:
            return raw
        with _block_errors(name):
            text = self._transport.call_text("getblock", name, 0, seconds=BLOCK_SECONDS)
        with decoding("getblock"):
            return bytes.fromhex(text.decode("ascii"))

    def decoded_block(self, block_hash: bytes) -> DecodedBlock:
        """See the port."""
        name = display(block_hash)
        with _block_errors(name):
            header = self._transport.call("getblockheader", name, False, seconds=self._seconds)
            reply = self._transport.call("getblock", name, 2, seconds=BLOCK_SECONDS)
        with decoding("getblock"):
            return DecodedBlock(bytes.fromhex(header), tuple(decoded_transaction(tx) for tx in reply["tx"]))

    def fetch_from_peers(self, block_hash: bytes) -> None:
        """See the port. A peer that cannot be asked is passed over; what counts is whether the block arrives."""
        peers = self._call("getpeerinfo")
        with decoding("getpeerinfo"):
            numbers = [whole_number(peer["id"]) for peer in peers]
        for number in numbers[:PEERS_ASKED]:
            with suppress(RpcRefused):
                self._call("getblockfrompeer", display(block_hash), number)

    def _over_rest(self, name: str) -> bytes | None:
        """The quick way to a block. Whatever is wrong with it, `getblock` decides and gets all the time it needs.

        So a request that hangs costs the time of one call, and a node with a slow disk is still waited for.
        """
        if self._rest_url is None:
            return None
        try:
            return self._transport.get(
                self._rest_url, f"/block/{name}.bin", "getblock", BLOCK_SECONDS, silence=self._seconds * FIRST_SHARE
            )
        except NodeError:
            return None

    # --- outputs and the mempool --------------------------------------------------------------------------------

    def utxos(self, outpoints: Sequence[OutPoint], include_mempool: bool) -> list[Utxo | None]:
        """See the port."""
        found: list[Utxo | None] = []
        chunks = (
            [("gettxout", (*_place(outpoint), include_mempool)) for outpoint in chunk] for chunk in _chunks(outpoints)
        )
        for replies in self._batches(list(chunks)):
            for reply in replies:
                if isinstance(reply, NodeError):
                    raise reply
            with decoding("gettxout"):
                found += [None if reply is None else utxo_of(reply) for reply in replies]
        return found

    def _batches(self, batches: Sequence[Sequence[tuple[str, Sequence[object]]]]) -> Iterator[list[Any]]:
        """Replies of many batches, in order; the node works on the next ones while these are read."""

        def ask(calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
            try:
                return self._transport.batch(calls, self._seconds)
            finally:
                self._transport.close()  # of this thread, which ends with the question

        if len(batches) < 2:
            yield from (self._transport.batch(calls, self._seconds) for calls in batches)
            return
        pool = ThreadPoolExecutor(AHEAD, "node")
        try:
            yield from pool.map(ask, batches)
        finally:
            pool.shutdown(cancel_futures=True)

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, Txid]:
        """See the port. Answers that name a confirmed spender (Core 31 with -txospenderindex) are left out."""
        spenders: dict[OutPoint, Txid] = {}
        for chunk in _chunks(outpoints):
            places = [dict(zip(("txid", "vout"), _place(outpoint), strict=True)) for outpoint in chunk]
            replies = self._call("gettxspendingprevout", places)
            with decoding("gettxspendingprevout"):
                for outpoint, place, reply in zip(chunk, places, replies, strict=True):
                    if (reply["txid"], reply["vout"]) != (place["txid"], place["vout"]):
                        raise ValueError("an answer about another outpoint")
                    if "spendingtxid" in reply and "blockhash" not in reply:
                        spenders[outpoint] = Txid(from_display(reply["spendingtxid"]))
        return spenders

    def mempool_transaction(self, txid: bytes) -> bytes | None:
        """See the port. A node with -txindex also knows confirmed ones; those are not in the mempool."""
        try:
            reply = self._call("getrawtransaction", display(txid), True)
        except RpcRefused as error:
            if error.code == INVALID_ADDRESS_OR_KEY:
                return None
            raise
        with decoding("getrawtransaction"):
            return None if "blockhash" in reply else bytes.fromhex(reply["hex"])

    def transaction(self, txid: bytes) -> bytes | None:
        """See the port."""
        try:
            reply = self._call("getrawtransaction", display(txid), False)
        except RpcRefused as error:
            if error.code == INVALID_ADDRESS_OR_KEY:
                return None
            raise
        with decoding("getrawtransaction"):
            return bytes.fromhex(reply)

    def test_accept(self, raw: bytes) -> Answer:
        """See the port."""
        try:
            replies = self._call("testmempoolaccept", [raw.hex()], 0)
        except RpcRefused as error:
            return answers.refused(error.code, error.text)
        with decoding("testmempoolaccept"):
            (reply,) = replies
            return answers.accepted() if reply["allowed"] else answers.rejected_by_test(str(reply["reject-reason"]))

    def mempool_entry(self, txid: bytes) -> MempoolEntry | None:
        """See the port."""
        try:
            reply = self._call("getmempoolentry", display(txid))
        except RpcRefused as error:
            if error.code == INVALID_ADDRESS_OR_KEY:
                return None
            raise
        with decoding("getmempoolentry"):
            parents = tuple(Txid(from_display(parent)) for parent in reply["depends"])
            return MempoolEntry(satoshi(reply["fees"]["base"]), whole_number(reply["vsize"]), parents)

    # --- fees and broadcasts ------------------------------------------------------------------------------------

    def fee_market(self, targets: Sequence[int]) -> Market:
        """See the port. One request: a penalty waits for it."""
        return market_of(targets, self._transport.batch(market_questions(targets), self._seconds))

    def broadcast(self, raw: bytes) -> Answer:
        """See the port. `maxfeerate` 0: the default guard would refuse late bids of large channels."""
        try:
            reply = self._call("sendrawtransaction", raw.hex(), 0)
        except RpcRefused as error:
            reply = error
        return _broadcast_answer(reply)

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """See the port. The node works through a batch in order and goes on behind a refusal."""
        calls = [("sendrawtransaction", (raw.hex(), 0)) for raw in raws]
        return tuple(_broadcast_answer(reply) for reply in self._transport.batch(calls, self._seconds))

    def submit_package(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """See the port."""
        try:
            result = self._call("submitpackage", [raw.hex() for raw in raws], 0)
        except RpcRefused as error:
            return answers.package_refused(error.code, error.text, len(raws))
        return answers.package_answers(raws, result)

    # --- for `check` and for the metrics ------------------------------------------------------------------------

    def zmq_notifications(self) -> tuple[ZmqNotification, ...]:
        """What the node publishes and where."""
        reply = self._call("getzmqnotifications")
        with decoding("getzmqnotifications"):
            return tuple(
                ZmqNotification(str(each["type"]), str(each["address"]), whole_number(each["hwm"])) for each in reply
            )

    def version(self) -> NodeVersion:
        """Version and number of peers."""
        reply = self._call("getnetworkinfo")
        with decoding("getnetworkinfo"):
            return NodeVersion(
                number=whole_number(reply["version"]),
                subversion=str(reply["subversion"]),
                inbound=whole_number(reply["connections_in"]),
                outbound=whole_number(reply["connections_out"]),
            )

    def _call(self, method: str, *params: object) -> Any:
        return self._transport.call(method, *params, seconds=self._seconds)


@contextmanager
def _block_errors(name: str) -> Iterator[None]:
    """Name what a node says about a block that it knows and cannot hand over: pruned, not downloaded, not on disk."""
    try:
        yield
    except RpcRefused as error:
        if error.code == _MISC:
            raise BlockNotAvailable(f"block {name}: {error.text}") from error
        raise


def _chunks(outpoints: Sequence[OutPoint]) -> Iterator[Sequence[OutPoint]]:
    for start in range(0, len(outpoints), BATCH):
        yield outpoints[start : start + BATCH]


def _place(outpoint: OutPoint) -> tuple[str, int]:
    return display(outpoint_txid(outpoint)), outpoint_vout(outpoint)


def _broadcast_answer(reply: Any) -> Answer:
    if isinstance(reply, RpcRefused):
        return answers.refused(reply.code, reply.text)
    with decoding("sendrawtransaction"):
        from_display(reply)  # anything else than a txid is no acceptance
    return answers.accepted()
