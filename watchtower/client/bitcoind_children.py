"""Fee children of a bitcoind wallet: the market, the mempool, and children on pay-to-anchor outputs."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from domain.chain import OutPoint, display, from_display, make_outpoint
from domain.contract.params import ANCHOR_SAT, P2A_SPK
from domain.fees import Market
from domain.transaction import Transaction, TxIn, TxOut
from watchtower.client.bitcoind_calls import INVALID_PARAMETER, SEQUENCE, WalletCalls, btc, place_of, said, taken
from watchtower.client.wallet import Pooled, WalletError
from watchtower.node.answers import package_answers
from watchtower.node.replies import decoding, market_of, market_questions, satoshi, whole_number
from watchtower.node.transport import RpcRefused

CHILD_LIMIT = 1_000
"""vB of a version-3 child (BIP 431)."""

CHANGE_LEAST = 330
"""Satoshi; nodes relay no smaller output of any segwit kind."""

INVALID_ADDRESS_OR_KEY = -5
"""RPC_INVALID_ADDRESS_OR_KEY: the mempool has no such transaction."""


class BitcoindChildren(WalletCalls):
    """The part of `BitcoindWallet` that pays for parents."""

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
        with said("submitpackage"):
            result = self._call("submitpackage", [parent.hex(), child.hex()], 0)
        for answer in package_answers((parent, child), result):
            taken("the package", answer)

    def make_child(self, anchor: bytes, fee: int, room: int, before: Transaction | None = None) -> bytes:
        """See `FeeWallet.make_child`."""
        coin, worth, spk = self._payer(OutPoint(anchor), fee, room, before)
        child = self._child(OutPoint(anchor), ANCHOR_SAT, coin, TxOut(worth + ANCHOR_SAT - fee, spk))
        if Transaction.parse(child).vsize > CHILD_LIMIT:
            raise WalletError(f"a child with this wallet's coin would be larger than {CHILD_LIMIT} vB")
        if before is not None and coin == before.inputs[1].outpoint:
            self.lock(coin)
        else:
            self._lock((coin,), unlock=False)  # fails if an opening has taken it since it was chosen
        return child

    def lock(self, coin: bytes) -> None:
        """See `FeeWallet.lock`."""
        self._lock_again(OutPoint(coin), unlock=False)

    def unlock(self, coin: bytes) -> None:
        """See `FeeWallet.unlock`."""
        self._lock_again(OutPoint(coin), unlock=True)

    def market(self, targets: Sequence[int]) -> Market:
        """See `FeeWallet.market`. One request."""
        return market_of(targets, self._transport.batch(market_questions(targets)))

    def pooled(self, txid: bytes) -> Pooled | None:
        """See `FeeWallet.pooled`."""
        reply = self._entry(display(txid))
        if reply is None:
            return None
        with decoding("getmempoolentry"):
            entries = [(child, self._entry(child)) for child in reply["spentby"]]
            children = tuple(
                (from_display(child), satoshi(entry["fees"]["base"]), whole_number(entry["vsize"]))
                for child, entry in entries
                if entry is not None
            )
            return Pooled(satoshi(reply["fees"]["descendant"]), whole_number(reply["descendantsize"]), children)

    def is_unspent(self, outpoint: bytes, *, mempool: bool) -> bool:
        """See `FeeWallet.is_unspent`."""
        place = place_of(outpoint)
        return self._call("gettxout", place["txid"], place["vout"], mempool) is not None

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _entry(self, txid: str) -> Any:
        try:
            return self._call("getmempoolentry", txid)
        except RpcRefused as error:
            if error.code == INVALID_ADDRESS_OR_KEY:
                return None
            raise

    def _payer(self, anchor: OutPoint, fee: int, room: int, before: Transaction | None) -> tuple[OutPoint, int, bytes]:
        """A coin, what it is worth, and where its change goes."""
        if before is not None and not self._is_spent_elsewhere(coin := before.inputs[1].outpoint, anchor):
            place = place_of(coin)
            reply = self._call("gettxout", place["txid"], place["vout"], False)  # our own child may spend it
            if reply is not None and satoshi(reply["value"]) + ANCHOR_SAT >= fee + CHANGE_LEAST:
                return coin, satoshi(reply["value"]), before.outputs[0].spk
        coins = self._native_coins()
        enough = [each for each in coins if each[1] + ANCHOR_SAT >= fee + CHANGE_LEAST]
        if not enough:
            least = fee + CHANGE_LEAST - ANCHOR_SAT
            raise WalletError(f"the wallet has no confirmed segwit coin of {least} sat or more to pay for the child")
        roomy = [each for each in enough if each[1] >= room + CHANGE_LEAST]
        coin, worth = roomy[-1] if roomy else enough[0]
        return coin, worth, self._change_spk()

    def _is_spent_elsewhere(self, coin: OutPoint, anchor: OutPoint) -> bool:
        """Whether something else than a child of this anchor spends a coin in the mempool.

        A restarted node has forgotten the lock, so that the coin may fund a channel now. A child would replace that.
        """
        replies = self._call("gettxspendingprevout", [place_of(coin), place_of(anchor)])
        with decoding("gettxspendingprevout"):
            by_coin, by_anchor = (reply.get("spendingtxid") for reply in replies)
        return by_coin is not None and by_coin != by_anchor

    def _coin(self, at_least: int) -> tuple[OutPoint, int]:
        """The smallest native coin that pays for a child and leaves change."""
        enough = [coin for coin in self._native_coins() if coin[1] > at_least]
        if not enough:
            raise WalletError(f"a confirmed segwit coin of more than {at_least} sat is needed to pay for the child")
        return enough[-1]

    def _child(self, anchor: OutPoint, value: int, coin: OutPoint, change: TxOut) -> bytes:
        tx = Transaction(3, (TxIn(anchor, SEQUENCE), TxIn(coin, SEQUENCE)), (change,), 0)
        known = {**place_of(anchor), "scriptPubKey": P2A_SPK.hex(), "amount": btc(value)}
        raw = self._sign(tx.serialize(), known)
        if Transaction.parse(raw).txid != tx.txid:
            raise WalletError("the wallet signed another transaction than the child that it was asked to sign")
        return raw

    def _lock_again(self, coin: OutPoint, *, unlock: bool) -> None:
        """Locks live in the node's memory: a restart has lost them, and a lock that is there is fine."""
        try:
            self._call("lockunspent", unlock, [place_of(coin)])
        except RpcRefused as error:
            if error.code != INVALID_PARAMETER:
                raise
