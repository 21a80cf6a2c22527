"""What every part of a bitcoind wallet calls: signing, locks, coins, and the meaning of refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from domain.chain import OutPoint, display, from_display, make_outpoint, outpoint_txid, outpoint_vout
from domain.contract.params import is_witness_program
from domain.errors import MalformedInput
from domain.events import BroadcastOutcome
from watchtower.client.wallet import FeeTooLow, WalletError
from watchtower.node.answers import refused
from watchtower.node.replies import satoshi
from watchtower.node.transport import RpcRefused, RpcTransport
from watchtower.ports import Answer

SECONDS = 60.0
"""A large wallet selects and signs slowly."""

SEQUENCE = 0xFFFFFFFD
INVALID_PARAMETER = -8
"""RPC_INVALID_PARAMETER: among others, a coin that is locked already, or is not locked."""

KNOWN = (BroadcastOutcome.ACCEPTED, BroadcastOutcome.ALREADY_KNOWN)


class WalletCalls:
    """One wallet of a node; safe to use from several threads."""

    def __init__(self, transport: RpcTransport) -> None:
        """`transport` is `watchtower.node.transport.RpcTransport(url, user, password)` or `(url, cookie_path=Path(…))`.

        `url` is that of the wallet itself: `http://127.0.0.1:8332/wallet/<name>`.
        """
        self._transport = transport

    def __repr__(self) -> str:
        return f"<BitcoindWallet at {self._transport!r}>"

    def broadcast(self, raw: bytes) -> None:
        """See `FundingWallet.broadcast`."""
        try:
            self._call("sendrawtransaction", raw.hex())
        except RpcRefused as error:
            taken("the transaction", refused(error.code, error.text))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _native_coins(self) -> list[tuple[OutPoint, int]]:
        """Confirmed, unlocked coins of the wallet, the largest first."""
        unspent = self._call("listunspent", 1, 9_999_999, [], False)
        coins = [
            (make_outpoint(from_display(each["txid"]), each["vout"]), satoshi(each["amount"]))
            for each in unspent
            if each["spendable"] and is_witness_program(bytes.fromhex(each["scriptPubKey"]))
        ]
        return sorted(coins, key=lambda coin: coin[1], reverse=True)

    def _change_spk(self) -> bytes:
        address = self._call("getrawchangeaddress", "bech32")
        return bytes.fromhex(self._call("getaddressinfo", address)["scriptPubKey"])

    def _sign(self, unsigned: bytes, *previous: dict[str, Any]) -> bytes:
        with said("signrawtransactionwithwallet"):
            result = self._call("signrawtransactionwithwallet", unsigned.hex(), list(previous))
        if not result["complete"]:
            raise WalletError("the wallet could not sign all inputs")
        return bytes.fromhex(result["hex"])

    def _lock(self, coins: Sequence[OutPoint], *, unlock: bool) -> None:
        with said("lockunspent"):
            self._call("lockunspent", unlock, [place_of(each) for each in coins])

    def _call(self, method: str, *params: object) -> Any:
        return self._transport.call(method, *params, seconds=SECONDS)


@contextmanager
def said(method: str) -> Iterator[None]:
    """The node's refusal in the wallet's own error."""
    try:
        yield
    except RpcRefused as error:
        raise WalletError(f"{method}: the node answered {error.code}: {error.text}") from None
    except MalformedInput as error:
        raise WalletError(f"{method}: the node's transaction cannot be read: {error}") from None


def taken(what: str, answer: Answer) -> None:
    """Raise what a refusal means: `FeeTooLow`, or another `WalletError`."""
    if answer.outcome is BroadcastOutcome.INSUFFICIENT_FEE:
        raise FeeTooLow(f"the node does not take {what}: {answer.text}")
    if answer.outcome not in KNOWN:
        raise WalletError(f"the node does not take {what}: {answer.text}")


def place_of(outpoint: bytes) -> dict[str, Any]:
    """An output as the node names it."""
    return {"txid": display(outpoint_txid(outpoint)), "vout": outpoint_vout(outpoint)}


def btc(amount: int) -> str:
    """Satoshi as the node wants amounts."""
    return f"{amount // 100_000_000}.{amount % 100_000_000:08d}"
