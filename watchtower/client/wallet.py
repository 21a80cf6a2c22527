"""Where the money of a party comes from: funding transactions and fee children, from a wallet with segwit coins.

    prepared = wallet.prepare(spk, 1_000_000)      # coins are locked, nothing is signed
    raw = wallet.sign(prepared)                     # only after state 0 is complete and the towers know it
    wallet.broadcast(raw)                           # or wallet.release(prepared) if the opening was given up

The txid must be known before anything is signed, so only native segwit coins may pay. Calls are synchronous;
amounts are satoshi, feerates sat/vB, txids in internal byte order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from domain.chain import OutPoint, Txid
from domain.contract.params import is_witness_program
from domain.fees import Market
from domain.transaction import Transaction
from watchtower.client.errors import StateChannelError


class WalletError(StateChannelError):
    """The wallet could not do what was asked; the text says why and what helps."""


class FeeTooLow(WalletError):
    """Something in the mempool would have to give way and pays too much for that: a child with a higher fee may."""


class Prepared(msgspec.Struct, frozen=True):
    """A funding transaction without signatures; its coins are locked in the wallet until `release` or a restart."""

    txid: Txid
    vout: int
    unsigned: bytes

    @property
    def coins(self) -> tuple[OutPoint, ...]:
        """What it spends."""
        return tuple(each.outpoint for each in Transaction.parse(self.unsigned).inputs)


class FundingWallet(Protocol):
    """What a party needs from a wallet. Every method raises `WalletError`, or `NodeError` if nobody answers."""

    def prepare(self, spk: bytes, value: int, feerate: float | None = None) -> Prepared:
        """A transaction that pays exactly `value` to `spk`, from native segwit coins, not signed and not sent.

        Without `feerate` the node estimates.
        """

    def sign(self, prepared: Prepared) -> bytes:
        """The signed transaction; its txid is the prepared one. Nothing is sent."""

    def broadcast(self, raw: bytes) -> None:
        """Hand a transaction to the network; harmless if it is there already. Coins need no release afterwards."""

    def release(self, prepared: Prepared) -> None:
        """Give the coins back after an opening was given up. Never after `sign` has left this program."""

    def attach_child(self, parent: bytes, parent_fee: int, feerate: float) -> bytes:
        """A signed version-3 child that spends the parent's pay-to-anchor output and one confirmed coin.

        Together they pay `feerate`; the parent itself pays `parent_fee`. Calling again with a higher rate gives
        a child that replaces the first one.
        """

    def broadcast_package(self, parent: bytes, child: bytes) -> None:
        """Hand both to the network at once, for a parent that the mempool would not take alone."""


class Pooled(msgspec.Struct, frozen=True):
    """A transaction in the mempool and what spends its outputs there.

    `fee` and `vsize` are those of the transaction with all that depends on it; `children` has txid, fee and vB of each.
    """

    fee: int
    vsize: int
    children: tuple[tuple[bytes, int, int], ...] = ()


@runtime_checkable
class FeeWallet(FundingWallet, Protocol):
    """A wallet that also knows the market and the mempool: with one, fee children are made by themselves."""

    def market(self, targets: Sequence[int]) -> Market:
        """What mempools ask for, and estimates for targets in blocks; an estimate may be missing."""

    def pooled(self, txid: bytes) -> Pooled | None:
        """A transaction in the mempool of the wallet's node, None if it is not there."""

    def is_unspent(self, outpoint: bytes, *, mempool: bool) -> bool:
        """Whether a block has made an output that no block has spent, with `mempool` no unconfirmed one either.

        With `mempool` an output that only the mempool has made counts, too.
        """

    def make_child(self, anchor: bytes, fee: int, room: int, before: Transaction | None = None) -> bytes:
        """A signed version-3 child that pays `fee` from a pay-to-anchor output and one confirmed coin, which is locked.

        `before` is the child that it replaces: its coin and its change are used again as long as they are enough and
        nothing but a child of this parent spends the coin. A new coin was not locked by anybody, and has room for fees
        up to `room`, if the wallet has such a one. Nothing is sent.
        """

    def lock(self, coin: bytes) -> None:
        """Keep the coin of a child that may be sent again, for nodes forget; harmless if it is locked or spent."""

    def unlock(self, coin: bytes) -> None:
        """Give the coin of a child back that will not be sent again; harmless if it is not locked."""


def check_prepared(prepared: Prepared, spk: bytes, value: int, spent: tuple[bytes, ...]) -> Prepared:
    """Refuse a transaction that pays something else, or whose txid would change with a signature (`spent` scripts)."""
    tx = Transaction.parse(prepared.unsigned)
    paid = tx.outputs[prepared.vout] if prepared.vout < len(tx.outputs) else None
    if paid is None or (paid.value, paid.spk) != (value, spk):
        raise WalletError(f"the wallet's transaction does not pay {value} sat to the funding script")
    if tx.txid != prepared.txid:
        raise WalletError("the wallet's transaction has another txid than it said")
    if len(spent) != len(tx.inputs) or not all(is_witness_program(script) for script in spent):
        raise WalletError("only native segwit coins may fund a channel: with others the txid changes at signing")
    return prepared
