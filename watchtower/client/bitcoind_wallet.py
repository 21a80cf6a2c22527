"""A wallet of bitcoind as `FundingWallet`.

The wallet needs the methods of `WALLET_METHODS`, which a tower's RPC user must not have: give it a user of its
own, and the wallet's own address, `http://127.0.0.1:8332/wallet/<name>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

from domain.chain import OutPoint, display, from_display, make_outpoint, outpoint_txid, outpoint_vout
from domain.contract.params import P2A_SPK, is_witness_program
from domain.errors import MalformedInput
from domain.events import BroadcastOutcome
from domain.transaction import Transaction, TxIn, TxOut
from watchtower.client.wallet import Prepared, WalletError, check_prepared
from watchtower.node.answers import package_answers, refused
from watchtower.node.replies import satoshi
from watchtower.node.transport import RpcRefused, RpcTransport

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
)
"""What an `rpcwhitelist` for the wallet's user has to contain."""

SECONDS = 60.0
"""A large wallet selects and signs slowly."""

SEQUENCE = 0xFFFFFFFD
CHILD_LIMIT = 1_000
"""vB of a version-3 child (BIP 431)."""

KNOWN = (BroadcastOutcome.ACCEPTED, BroadcastOutcome.ALREADY_KNOWN)


class BitcoindWallet:
    """A wallet of bitcoind as `FundingWallet`; safe to use from several threads."""

    def __init__(self, transport: RpcTransport) -> None:
        """`transport` is `watchtower.node.transport.RpcTransport(url, user, password)` or `(url, cookie_path=Path(…))`.

        `url` is that of the wallet itself: `http://127.0.0.1:8332/wallet/<name>`.
        """
        self._transport = transport

    def __repr__(self) -> str:
        return f"<BitcoindWallet at {self._transport!r}>"

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

    def broadcast(self, raw: bytes) -> None:
        """See `FundingWallet.broadcast`."""
        try:
            self._call("sendrawtransaction", raw.hex())
        except RpcRefused as error:
            answer = refused(error.code, error.text)
            if answer.outcome not in KNOWN:
                raise WalletError(f"the node does not take the transaction: {error.text}") from None

    def release(self, prepared: Prepared) -> None:
        """See `FundingWallet.release`."""
        self._lock(prepared.coins, unlock=True)

    # ── fee children ─────────────────────────────────────────────────────────────────────────────────────

    def attach_child(self, parent: bytes, parent_fee: int, feerate: float) -> bytes:
        """See `FundingWallet.attach_child`. Signed twice: once to measure, once to pay."""
        tx = Transaction.parse(parent)
        vout = next((number for number, each in enumerate(tx.outputs) if each.spk == P2A_SPK), None)
        if vout is None:
            raise WalletError("the parent has no pay-to-anchor output; nothing can be attached")
        anchor, spk = make_outpoint(tx.txid, vout), self._change_spk()
        value = tx.outputs[vout].value
        coin, worth = self._coin(ceil(feerate * (tx.vsize + CHILD_LIMIT)))
        size = Transaction.parse(self._child(anchor, value, coin, TxOut(worth + value, spk))).vsize
        fee = max(ceil(feerate * (tx.vsize + size)) - parent_fee, size)
        child = self._child(anchor, value, coin, TxOut(worth + value - fee, spk))
        self._lock((coin,), unlock=False)
        return child

    def broadcast_package(self, parent: bytes, child: bytes) -> None:
        """See `FundingWallet.broadcast_package`."""
        with _said("submitpackage"):
            result = self._call("submitpackage", [parent.hex(), child.hex()], 0)
        answers = package_answers((parent, child), result)
        bad = [answer for answer in answers if answer.outcome not in KNOWN]
        if bad:
            raise WalletError(f"the node does not take the package: {bad[0].text}")

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _fill(self, output: TxOut, feerate: float | None, inputs: Sequence[OutPoint] = ()) -> Prepared:
        """Let the wallet add coins and change; with `inputs` the change only."""
        options: dict[str, Any] = {"changePosition": 1, "lockUnspents": True, "minconf": 1}
        if feerate is not None:
            options["fee_rate"] = feerate
        if inputs:
            options["add_inputs"] = False
        with _said("fundrawtransaction"):
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

    def _native_coins(self) -> list[tuple[OutPoint, int]]:
        """Confirmed, unlocked coins of the wallet, the largest first."""
        unspent = self._call("listunspent", 1, 9_999_999, [], False)
        coins = [
            (make_outpoint(from_display(each["txid"]), each["vout"]), satoshi(each["amount"]))
            for each in unspent
            if each["spendable"] and is_witness_program(bytes.fromhex(each["scriptPubKey"]))
        ]
        return sorted(coins, key=lambda coin: coin[1], reverse=True)

    def _coin(self, at_least: int) -> tuple[OutPoint, int]:
        """The smallest native coin that pays for a child and leaves change."""
        enough = [coin for coin in self._native_coins() if coin[1] > at_least]
        if not enough:
            raise WalletError(f"a confirmed segwit coin of more than {at_least} sat is needed to pay for the child")
        return enough[-1]

    def _scripts(self, coins: Sequence[OutPoint]) -> tuple[bytes, ...]:
        """Scripts of coins that the wallet has locked; `listunspent` leaves those out, the node does not."""
        found = []
        for coin in coins:
            place = _place(coin)
            reply = self._call("gettxout", place["txid"], place["vout"], True)
            if reply is None:
                raise WalletError("a coin of the wallet was spent in the meantime; try again")
            found.append(bytes.fromhex(reply["scriptPubKey"]["hex"]))
        return tuple(found)

    def _change_spk(self) -> bytes:
        address = self._call("getrawchangeaddress", "bech32")
        return bytes.fromhex(self._call("getaddressinfo", address)["scriptPubKey"])

    def _child(self, anchor: OutPoint, value: int, coin: OutPoint, change: TxOut) -> bytes:
        tx = Transaction(3, (TxIn(anchor, SEQUENCE), TxIn(coin, SEQUENCE)), (change,), 0)
        known = {**_place(anchor), "scriptPubKey": P2A_SPK.hex(), "amount": _btc(value)}
        return self._sign(tx.serialize(), known)

    def _sign(self, unsigned: bytes, *previous: dict[str, Any]) -> bytes:
        with _said("signrawtransactionwithwallet"):
            result = self._call("signrawtransactionwithwallet", unsigned.hex(), list(previous))
        if not result["complete"]:
            raise WalletError("the wallet could not sign all inputs")
        return bytes.fromhex(result["hex"])

    def _lock(self, coins: Sequence[OutPoint], *, unlock: bool) -> None:
        with _said("lockunspent"):
            self._call("lockunspent", unlock, [_place(each) for each in coins])

    def _call(self, method: str, *params: object) -> Any:
        return self._transport.call(method, *params, seconds=SECONDS)


@contextmanager
def _said(method: str) -> Iterator[None]:
    """The node's refusal in the wallet's own error."""
    try:
        yield
    except RpcRefused as error:
        raise WalletError(f"{method}: the node answered {error.code}: {error.text}") from None
    except MalformedInput as error:
        raise WalletError(f"{method}: the node's transaction cannot be read: {error}") from None


def _bare(output: TxOut, inputs: Sequence[OutPoint]) -> str:
    """A transaction without witnesses and perhaps without inputs, in the form that the wallet reads."""
    tx = Transaction(2, tuple(TxIn(each, SEQUENCE) for each in inputs), (output,), 0)
    return tx.serialize(witness=False).hex()


def _place(outpoint: OutPoint) -> dict[str, Any]:
    return {"txid": display(outpoint_txid(outpoint)), "vout": outpoint_vout(outpoint)}


def _btc(amount: int) -> str:
    return f"{amount // 100_000_000}.{amount % 100_000_000:08d}"
