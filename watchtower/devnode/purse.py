"""The wallet of a regtest node: pays for channels, fees and cheating, always from confirmed segwit coins."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from domain.chain import OutPoint, Txid, display, from_display, make_outpoint, outpoint_txid, outpoint_vout
from domain.transaction import Transaction, TxIn, TxOut, compact_size
from watchtower.devnode.moves import Moves

ANCHOR_SPK = bytes.fromhex("51024e73")
ANCHOR_SAT = 240
COIN_SAT = 200_000_000
"""Size of the wallet's prepared coins; `PREPARED_COINS` of them are confirmed and mature."""

PREPARED_COINS = 150
_FEERATE = 5  # sat/vB of what the wallet itself sends


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


class Purse(Moves):
    """The moves that need the wallet's coins or keys."""

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


def _btc(satoshi: int) -> str:
    return f"{Decimal(satoshi) / 100_000_000:.8f}"


def _sat(amount: Decimal) -> int:
    return int(amount * 100_000_000)
