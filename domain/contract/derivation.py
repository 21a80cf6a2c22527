"""Keys of a channel from one seed: BIP-32, hardened levels only (protocol 2.1).

`m / 5456724' / coin_type' / channel_index' / role'`. A channel index must never be used twice, also not after
an opening that was given up.
"""

from __future__ import annotations

import hmac

import msgspec

from domain.contract import keys
from domain.contract.params import KeyBlock
from domain.errors import MalformedInput

PURPOSE = 5_456_724
HARDENED = 0x80000000
ROLES = ("fund", "rev", "settle", "htlc", "auth", "seed", "payout", "sweep")


class ExtendedSecret(msgspec.Struct, frozen=True):
    """A BIP-32 private key and its chain code, 32 bytes each; not shown in a repr."""

    secret: bytes
    chain_code: bytes

    def __repr__(self) -> str:
        return "<ExtendedSecret>"


class ChannelSecrets(msgspec.Struct, frozen=True):
    """The secrets of one party in one channel, 32 bytes each; not shown in a repr."""

    fund: bytes
    rev: bytes
    settle: bytes
    htlc: bytes
    auth: bytes
    seed: bytes
    payout: bytes
    sweep: bytes

    def __repr__(self) -> str:
        return "<ChannelSecrets>"

    def key_block(self, payout_spk: bytes) -> KeyBlock:
        """The public side of these secrets with a payout script."""
        return KeyBlock(
            fund=keys.public_key(self.fund),
            rev=keys.public_key(self.rev),
            settle=keys.public_key(self.settle)[1:],
            htlc=keys.public_key(self.htlc),
            auth=keys.public_key(self.auth)[1:],
            payout=payout_spk,
        )


def master(seed: bytes) -> ExtendedSecret:
    """Root of the tree for a seed of 16 to 64 bytes."""
    if not 16 <= len(seed) <= 64:
        raise MalformedInput(f"a wallet seed has 16 to 64 bytes, got {len(seed)}")
    digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
    if not keys.secret_in_range(digest[:32]):
        raise MalformedInput("this seed gives no valid key; use another one")
    return ExtendedSecret(digest[:32], digest[32:])


def hardened_child(parent: ExtendedSecret, index: int) -> ExtendedSecret:
    """Child `index`' (0 … 2^31-1, the hardened bit is added here)."""
    if not 0 <= index < HARDENED:
        raise MalformedInput(f"a hardened index lies between 0 and 2^31-1, got {index}")
    message = b"\x00" + parent.secret + (HARDENED | index).to_bytes(4, "big")
    digest = hmac.digest(parent.chain_code, message, "sha512")
    return ExtendedSecret(keys.add_secrets(digest[:32], parent.secret), digest[32:])


def derive(seed: bytes, path: tuple[int, ...]) -> ExtendedSecret:
    """Key at a path of hardened indexes."""
    node = master(seed)
    for index in path:
        node = hardened_child(node, index)
    return node


def channel_keys(seed: bytes, coin_type: int, channel_index: int) -> ChannelSecrets:
    """All secrets of one channel; `coin_type` is 0 on mainnet and 1 elsewhere (SLIP-44)."""
    channel = derive(seed, (PURPOSE, coin_type, channel_index))
    return ChannelSecrets(*(hardened_child(channel, role).secret for role in range(len(ROLES))))
