"""Moves of a chain story on a node with full rights: mining, reorganizations, sending and looking up.

Hashes and txids are 32 bytes in internal byte order, transactions are serialized bytes, amounts are satoshi.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from domain.chain import BlockHash, Txid, display, from_display, outpoint_txid, outpoint_vout
from watchtower.node.transport import RpcRefused, RpcTransport


class Confirmation(msgspec.Struct, frozen=True):
    """Where a transaction stands on the active chain; `position` counts from the coinbase, which is 0."""

    height: int
    block_hash: BlockHash
    position: int


class Moves:
    """What can be done and asked through the node's RPC; the node itself is started elsewhere."""

    def __init__(self, transport: RpcTransport) -> None:
        self._transport = transport

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


def _nobody() -> str:
    """Descriptor of an output that nobody can spend; a new one each time, so that no two blocks are equal."""
    return f"raw(0020{secrets.token_hex(32)})"


def _hash(text: str) -> BlockHash:
    return BlockHash(from_display(text))
