"""From a node's replies to values: amounts to exact satoshi, hashes to internal byte order.

Replies are decoded here and nowhere else. One of another shape is a `NodeError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from domain.chain import BlockHash, Txid, from_display, make_outpoint
from domain.errors import MalformedInput
from domain.fees import Market
from domain.transaction import TxOut
from domain.units import MAX_MONEY
from watchtower.ports import DecodedTransaction, NodeError, Utxo

_NETWORKS = {"main": "mainnet", "test": "testnet"}
_SAT_PER_BTC = 100_000_000


def network_name(chain: str) -> str:
    """Our name of a network that bitcoind calls `chain`."""
    return _NETWORKS.get(chain, chain)


@contextmanager
def decoding(method: str) -> Iterator[None]:
    """Turn every surprise in the shape of a reply into one `NodeError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MalformedInput) as error:
        raise NodeError(f"{method}: the node's reply has another shape than expected: {error!r}") from error


def satoshi(amount: object) -> int:
    """Exact satoshi of an amount in BTC; raises `TypeError` or `ValueError` if it is none."""
    if isinstance(amount, bool) or not isinstance(amount, (Decimal, int)):
        raise TypeError("an amount was expected")
    scaled = Decimal(amount) * _SAT_PER_BTC
    if not 0 <= scaled <= MAX_MONEY or scaled != scaled.to_integral_value():
        raise ValueError("an amount out of range, or with a part of a satoshi")
    return int(scaled)


def block_hash_of(text: Any) -> BlockHash:
    """A hash as the node shows it."""
    return BlockHash(from_display(text))


def whole_number(value: Any) -> int:
    """A whole number; raises `TypeError` if it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a number was expected, not {type(value).__name__}")
    return value


def feerate(btc_per_kvb: Any) -> float:
    """sat/vB of a feerate in BTC per 1000 vB."""
    if isinstance(btc_per_kvb, bool) or not isinstance(btc_per_kvb, (Decimal, int)):
        raise TypeError("a feerate was expected")
    return float(btc_per_kvb * 100_000)


def market_of(targets: Sequence[int], replies: Sequence[Any]) -> Market:
    """The answers to `getmempoolinfo` and to one `estimatesmartfee` per target; an estimate may be missing."""
    policy, *estimates = replies
    if isinstance(policy, NodeError):
        raise policy
    with decoding("getmempoolinfo"):
        return Market(
            minimum=feerate(policy["mempoolminfee"]),
            relay=feerate(policy["minrelaytxfee"]),
            increment=feerate(policy["incrementalrelayfee"]),
            estimates=tuple(
                (target, feerate(reply["feerate"]))
                for target, reply in zip(targets, estimates, strict=True)
                if not isinstance(reply, NodeError) and "feerate" in reply
            ),
        )


def market_questions(targets: Sequence[int]) -> list[tuple[str, Sequence[object]]]:
    """What `market_of` reads the answers to, as one batch."""
    return [("getmempoolinfo", ()), *(("estimatesmartfee", (target, "economical")) for target in targets)]


def utxo_of(reply: Any) -> Utxo:
    """An entry of the node's unspent outputs."""
    return Utxo(
        value=satoshi(reply["value"]),
        spk=bytes.fromhex(reply["scriptPubKey"]["hex"]),
        confirmations=whole_number(reply["confirmations"]),
        best_block=block_hash_of(reply["bestblock"]),
    )


def decoded_transaction(tx: Any) -> DecodedTransaction:
    """A transaction of a block that the node has read itself."""
    spends = [source for source in tx["vin"] if "txid" in source]  # a coinbase spends nothing
    return DecodedTransaction(
        txid=Txid(from_display(tx["txid"])),
        spends=tuple(make_outpoint(from_display(source["txid"]), whole_number(source["vout"])) for source in spends),
        outputs=tuple(
            TxOut(satoshi(output["value"]), bytes.fromhex(output["scriptPubKey"]["hex"])) for output in tx["vout"]
        ),
        raw=bytes.fromhex(tx["hex"]),
    )
