"""A wallet of bitcoind as `FeeWallet`.

The wallet needs the methods of `WALLET_METHODS`, which a tower's RPC user must not have: give it a user of its
own, and the wallet's own address, `http://127.0.0.1:8332/wallet/<name>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domain.chain import OutPoint
from domain.contract.params import is_witness_program
from domain.transaction import Transaction, TxIn, TxOut
from watchtower.client.bitcoind_calls import SEQUENCE, place_of, said
from watchtower.client.bitcoind_children import BitcoindChildren
from watchtower.client.wallet import Prepared, WalletError, check_prepared

WALLET_METHODS = (
    "fundrawtransaction",
    "signrawtransactionwithwallet",
    "lockunspent",
    "listunspent",
    "gettxout",
    "getrawchangeaddress",
    "getaddressinfo",
    "sendrawtransaction",
    "submitpackage",
    "getmempoolinfo",
    "getmempoolentry",
    "gettxspendingprevout",
    "estimatesmartfee",
)
"""What an `rpcwhitelist` for the wallet's user has to contain."""


class BitcoindWallet(BitcoindChildren):
    """A wallet of bitcoind as `FeeWallet`; safe to use from several threads."""

    # ── funding ──────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, spk: bytes, value: int, feerate: float | None = None) -> Prepared:
        """See `FundingWallet.prepare`. Coins with one confirmation at least; the change comes second."""
        output = TxOut(value, spk)
        prepared = self._fill(output, feerate)
        scripts = self._scripts(prepared.coins)
        if not all(is_witness_program(script) for script in scripts):
            self.release(prepared)
            prepared = self._fill_by_hand(output, feerate)
            scripts = self._scripts(prepared.coins)
        try:
            return check_prepared(prepared, spk, value, scripts)
        except WalletError:
            self.release(prepared)
            raise

    def sign(self, prepared: Prepared) -> bytes:
        """See `FundingWallet.sign`."""
        raw = self._sign(prepared.unsigned)
        if Transaction.parse(raw).txid != prepared.txid:
            raise WalletError("the txid changed with the signature; the channel must not be funded with it")
        return raw

    def release(self, prepared: Prepared) -> None:
        """See `FundingWallet.release`."""
        self._lock(prepared.coins, unlock=True)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _fill(self, output: TxOut, feerate: float | None, inputs: Sequence[OutPoint] = ()) -> Prepared:
        """Let the wallet add coins and change; with `inputs` the change only."""
        options: dict[str, Any] = {"changePosition": 1, "lockUnspents": True, "minconf": 1}
        if feerate is not None:
            options["fee_rate"] = feerate
        if inputs:
            options["add_inputs"] = False
        with said("fundrawtransaction"):
            filled = self._call("fundrawtransaction", _bare(output, inputs), options, False)
        unsigned = bytes.fromhex(filled["hex"])
        return Prepared(Transaction.parse(unsigned).txid, 0, unsigned)

    def _fill_by_hand(self, output: TxOut, feerate: float | None) -> Prepared:
        """From native segwit coins only, the largest first: the wallet mixes kinds and has no option against it."""
        chosen: list[OutPoint] = []
        total, refusal = 0, WalletError("the wallet has no native segwit coin")
        for coin, worth in self._native_coins():
            chosen.append(coin)
            total += worth
            if total <= output.value:
                continue
            try:
                return self._fill(output, feerate, chosen)
            except WalletError as error:
                refusal = error  # not enough for the fee: one coin more
        raise WalletError(
            f"native segwit coins of {total} sat do not pay for {output.value} sat and the fee: {refusal}; send enough "
            "to an address of `getnewaddress '' bech32` of this wallet"
        )

    def _scripts(self, coins: Sequence[OutPoint]) -> tuple[bytes, ...]:
        """Scripts of coins that the wallet has locked; `listunspent` leaves those out, the node does not."""
        found = []
        for coin in coins:
            place = place_of(coin)
            reply = self._call("gettxout", place["txid"], place["vout"], True)
            if reply is None:
                raise WalletError("a coin of the wallet was spent in the meantime; try again")
            found.append(bytes.fromhex(reply["scriptPubKey"]["hex"]))
        return tuple(found)


def _bare(output: TxOut, inputs: Sequence[OutPoint]) -> str:
    """A transaction without witnesses and perhaps without inputs, in the form that the wallet reads."""
    tx = Transaction(2, tuple(TxIn(each, SEQUENCE) for each in inputs), (output,), 0)
    return tx.serialize(witness=False).hex()
