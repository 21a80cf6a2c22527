"""The channel contract alone on a node: both parties' keys in one hand, no tower, no store of the program.

Transactions come from `domain.contract` with the secrets of a `Pair`; what the node thinks of them is asked with
`enter`, `weight_of` and `fee_of`. Heights are block heights, amounts satoshi, txids in internal byte order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from domain.chain import display
from domain.contract.commitment import build_commitment, complete_commitment, sign_funding
from domain.contract.conditions import Condition
from domain.contract.params import ChannelParams
from domain.contract.penalty import build_penalty, sign_penalty
from domain.contract.revocation import commitment_point, revocation_secret
from domain.contract.settlement import complete_settlement
from domain.contract.state import NO_HASH, StateHeader, build_header, sign_state, state_transactions
from domain.transaction import Transaction
from domain.units import Side
from tests.support.parties import Pair, open_pair
from watchtower.client.protocol.opening import own_script
from watchtower.devnode.regtest import RegtestNode

AUX = bytes(32)


class SignedState(msgspec.Struct, frozen=True):
    """A header and the complete commitments and settlements of A and B."""

    header: StateHeader
    commits: tuple[bytes, bytes]
    settlements: tuple[bytes, bytes]


# ── a channel ────────────────────────────────────────────────────────────────────────────────────────────


def open_channel(node: RegtestNode, **terms: object) -> Pair:
    """A pair with state 0 whose funding transaction has one confirmation; `terms` are those of `open_pair`."""
    pair = open_pair(partial(node.fund, broadcast=False), **terms)  # type: ignore[arg-type]
    node.send_raw(pair.funding.raw)
    node.mine(1)
    return pair


def sign_freely(
    pair: Pair,
    sequence: int,
    balances: tuple[int, int],
    conditions: Sequence[Condition] = (),
    params: ChannelParams | None = None,
) -> SignedState:
    """Any state signed by both sides, whether the parties' programs would agree to it or not."""
    constants = pair.params if params is None else params
    secrets = (pair.secrets(Side.A), pair.secrets(Side.B))
    points = (commitment_point(secrets[0].seed, sequence), commitment_point(secrets[1].seed, sequence))
    header = build_header(constants, sequence, balances, conditions, b"", NO_HASH, bytes(32), *points)
    by_a, by_b = (sign_state(constants, header, conditions, side, secrets[side], points, AUX) for side in Side)
    built = state_transactions(constants, header, conditions, points)
    settlements = [
        complete_settlement(
            constants, built.settlements[side], built.revocation_keys[side], by_a.settle(side), by_b.settle(side)
        )
        for side in Side
    ]
    commits = [sign_commitment(pair, side, sequence, constants) for side in Side]
    return SignedState(header, (commits[0], commits[1]), (settlements[0].serialize(), settlements[1].serialize()))


def sign_commitment(pair: Pair, side: Side, sequence: int, params: ChannelParams | None = None) -> bytes:
    """The complete commitment of a side for any state number; no state needs to exist."""
    constants = pair.params if params is None else params
    tx = build_commitment(constants, side, sequence, pair.point(side, sequence))
    by_a, by_b = (sign_funding(constants, tx, pair.secrets(signer).fund, AUX) for signer in Side)
    return complete_commitment(constants, tx, by_a, by_b).serialize()


def sweep_of(pair: Pair, side: Side) -> bytes:
    """P2TR script to which a side takes penalties."""
    return own_script(pair.secrets(side).sweep)


def build_unsigned_penalty(
    pair: Pair, side: Side, sequence: int, fee: int, sweep_spk: bytes | None = None
) -> Transaction:
    """The penalty against a commitment of `side`, without witness."""
    spk = sweep_of(pair, side.other) if sweep_spk is None else sweep_spk
    return build_penalty(pair.params, pair.commitment_txid(side, sequence), fee, spk)


def punish(pair: Pair, side: Side, sequence: int, tx: Transaction, hash_type: int | None = None) -> bytes:
    """Sign a spend of the contest output of `side` with the revocation key, as its victim does."""
    secret = revocation_secret(pair.secrets(side.other).rev, pair.secret(side, sequence))
    return sign_penalty(pair.params, tx, pair.contest_key(side, sequence), secret, AUX, hash_type).serialize()


def penalty(pair: Pair, side: Side, sequence: int, fee: int, sweep_spk: bytes | None = None) -> bytes:
    """The complete penalty against a commitment of `side`."""
    return punish(pair, side, sequence, build_unsigned_penalty(pair, side, sequence, fee, sweep_spk))


# ── the node ─────────────────────────────────────────────────────────────────────────────────────────────


def enter(node: RegtestNode, raw: bytes) -> int:
    """Through the mempool into the next block; the weight in WU that the node gives the transaction there."""
    txid = display(node.send_raw(raw))
    block = node.rpc("getblock", display(node.mine(1)[0]), 2)
    return int(next(tx["weight"] for tx in block["tx"] if tx["txid"] == txid))


def publish(node: RegtestNode, raw: bytes) -> int:
    """As `enter`, but the height of the block: h_c if this is a commitment."""
    enter(node, raw)
    return node.height()


def mine_to(node: RegtestNode, height: int) -> None:
    """Mine until the tip has this height."""
    node.mine(height - node.height())


def weight_of(node: RegtestNode, raw: bytes) -> int:
    """Weight in WU by the node's own parser."""
    return int(node.rpc("decoderawtransaction", raw.hex())["weight"])


def fee_of(node: RegtestNode, raw: bytes) -> int:
    """What the transaction pays by the node's own coins; it must be acceptable now."""
    return int(node.rpc("testmempoolaccept", [raw.hex()], 0)[0]["fees"]["base"] * 100_000_000)


def derived_spk(node: RegtestNode, descriptor: str) -> bytes:
    """Script of a descriptor without checksum, by the node's descriptor engine."""
    canonical = node.rpc("getdescriptorinfo", descriptor)["descriptor"]
    (address,) = node.rpc("deriveaddresses", canonical)
    return bytes.fromhex(node.rpc("validateaddress", address)["scriptPubKey"])
