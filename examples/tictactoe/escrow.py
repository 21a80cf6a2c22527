"""The pot: an output that any two of the two players and a referee can spend.

The keys are ordinary wallet keys, not those of the channel. A wallet that reads descriptors signs; here it is the
node, which gets one private key at a time, as the wallets of three people would have one each.
"""

from __future__ import annotations

import secrets
from decimal import Decimal
from hashlib import sha256
from typing import Any, Protocol

from domain.chain import display
from domain.contract.conditions import Condition
from domain.transaction import Transaction
from watchtower.client.protocol.contents import descriptor_condition
from watchtower.descriptors import resolve

POT_ID = 0
FEE = 1_000
"""Satoshi for the transaction that pays out a disputed pot: about 150 vB at more than 6 sat/vB."""
SATOSHIS = Decimal(100_000_000)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_REGTEST_KEY = b"\xef"


class Wallet(Protocol):
    """The calls of a node that are needed here."""

    def rpc(self, method: str, *params: object) -> Any:
        """One call, answered with bitcoind's own JSON."""


class Signer:
    """Somebody with one key of the escrow. `public` is the key that the descriptor names."""

    def __init__(self, wallet: Wallet) -> None:
        self._private = _private_key_text(secrets.token_bytes(32))
        described = wallet.rpc("getdescriptorinfo", f"wpkh({self._private})")["descriptor"]
        self.public = str(described).removeprefix("wpkh(").partition(")")[0]

    def __repr__(self) -> str:
        return f"<Signer {self.public[:8]}>"

    def sign(self, wallet: Wallet, psbt: str, escrow: str) -> dict[str, Any]:
        """Add this signature; the answer has `psbt`, and `hex` once `complete`."""
        own = escrow.replace(self.public, self._private)
        checksum = wallet.rpc("getdescriptorinfo", own)["checksum"]
        answer: dict[str, Any] = wallet.rpc("descriptorprocesspsbt", psbt, [f"{own}#{checksum}"])
        return answer


def escrow_of(*signers: Signer) -> str:
    """The descriptor of the pot: any two of them."""
    return f"wsh(sortedmulti(2,{','.join(signer.public for signer in signers)}))"


def pot_of(escrow: str, amount: int) -> Condition:
    """The pot as a conditional output of a state; `amount` in satoshi."""
    return descriptor_condition(POT_ID, amount, escrow)


def draw_up(wallet: Wallet, settlement: bytes, escrow: str, address: str) -> str:
    """A transaction (PSBT) that pays the pot of a settlement to an address, unsigned."""
    tx = Transaction.parse(settlement)
    script = resolve(escrow)
    place, pot = next((n, output.value) for n, output in enumerate(tx.outputs) if output.spk == script)
    payout = {address: str(Decimal(pot - FEE) / SATOSHIS)}
    return str(wallet.rpc("createpsbt", [{"txid": display(tx.txid), "vout": place}], [payout]))


def _private_key_text(secret: bytes) -> str:
    """Base58check of a private key for a compressed public key, as wallets of test networks read it."""
    payload = _REGTEST_KEY + secret + b"\x01"
    number = int.from_bytes(payload + sha256(sha256(payload).digest()).digest()[:4])
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return digits
