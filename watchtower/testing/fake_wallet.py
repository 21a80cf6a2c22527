"""A wallet with as many coins as anybody wants, all of them made up."""

from __future__ import annotations

import secrets

from msgspec.structs import replace

from domain.chain import make_outpoint
from domain.transaction import Transaction, TxIn, TxOut
from watchtower.client.wallet import Prepared, WalletError
from watchtower.testing.fake_node import FakeNode

SPK = b"\x00\x14" + bytes(20)
SEQUENCE = 0xFFFFFFFD


class FakeWallet:
    """A `FundingWallet`; its coins exist at the nodes, and what it sends reaches all of them."""

    def __init__(self, *nodes: FakeNode) -> None:
        self._nodes = nodes

    def prepare(self, spk: bytes, value: int, feerate: float | None = None) -> Prepared:
        """See `FundingWallet`; one coin of exactly this value."""
        del feerate
        coin = make_outpoint(secrets.token_bytes(32), 0)
        for node in self._nodes:
            node.add_coin(coin, value, SPK)
        tx = Transaction(version=2, inputs=(TxIn(coin, SEQUENCE),), outputs=(TxOut(value, spk),), lock_time=0)
        return Prepared(tx.txid, 0, tx.serialize())

    def sign(self, prepared: Prepared) -> bytes:
        """See `FundingWallet`; the signature would convince no real node."""
        tx = Transaction.parse(prepared.unsigned)
        return replace(tx, inputs=tuple(replace(each, witness=(bytes(64),)) for each in tx.inputs)).serialize()

    def broadcast(self, raw: bytes) -> None:
        """See `FundingWallet`."""
        for node in self._nodes:
            node.broadcast(raw)

    def release(self, prepared: Prepared) -> None:
        """See `FundingWallet`; there are more coins."""

    def attach_child(self, parent: bytes, parent_fee: int, feerate: float) -> bytes:
        """Refused: fees are no subject here."""
        del parent, parent_fee, feerate
        raise WalletError("a fake wallet attaches no children")

    def broadcast_package(self, parent: bytes, child: bytes) -> None:
        """Refused, see `attach_child`."""
        del parent, child
        raise WalletError("a fake wallet sends no packages")
