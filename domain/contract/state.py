"""States: headers with their transactions, and the four signatures that each party gives (protocol 4.4).

Every signature is made for and checked against transactions rebuilt here from the header's own amounts; a
header that names other transactions is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from domain.contract import keys
from domain.contract.commitment import build_commitment, contest_key, funding_sighash, sign_funding, verify_funding
from domain.contract.conditions import Condition, cond_root
from domain.contract.derivation import ChannelSecrets
from domain.contract.form import form_of
from domain.contract.header import (
    NO_HASH,
    PreviousState,
    StateHeader,
    onchain_state_hash,
    state_data_hash,
)
from domain.contract.params import ChannelParams
from domain.contract.settlement import (
    build_settlement,
    settle_outputs,
    settlement_sighash,
    sign_settlement,
    verify_settlement,
)
from domain.contract.state_rules import DEFAULT_STATE_POLICY, StatePolicy, check_state
from domain.errors import InvalidSignature, InvalidState, MalformedInput
from domain.transaction import Transaction
from domain.units import Side

__all__ = [
    "DEFAULT_STATE_POLICY",
    "NO_HASH",
    "PreviousState",
    "StateHeader",
    "StateMessages",
    "StatePolicy",
    "StateSignatures",
    "StateTransactions",
    "build_header",
    "check_state",
    "onchain_state_hash",
    "sign_commit_peer",
    "sign_header",
    "sign_settle",
    "sign_state",
    "state_data_hash",
    "state_messages",
    "state_transactions",
    "verify_commit_signature",
    "verify_complete_state",
    "verify_header_signature",
    "verify_settle_signature",
    "verify_state_signatures",
]

SIGNATURES_SIZE = 256

NOT_GIVEN = bytes(64)
"""Stands for a `commit_peer` whose signer published the state before it gave it; no signature has these bytes."""

Points = tuple[bytes, bytes]
"""Per-commitment points P of A and of B for one state, 33 bytes each."""


class StateSignatures(msgspec.Struct, frozen=True):
    """What one party signs for a state, 64 bytes each; `commit_peer` is on the other side's commitment."""

    state: bytes
    settle_a: bytes
    settle_b: bytes
    commit_peer: bytes

    def encode(self) -> bytes:
        """256 bytes in the order of the fields."""
        encoded = self.state + self.settle_a + self.settle_b + self.commit_peer
        if len(encoded) != SIGNATURES_SIZE:
            raise MalformedInput("every signature of a state has 64 bytes")
        return encoded

    @classmethod
    def decode(cls, raw: bytes) -> StateSignatures:
        """Read exactly 256 bytes."""
        if len(raw) != SIGNATURES_SIZE:
            raise MalformedInput(f"the signatures of a state have {SIGNATURES_SIZE} bytes, got {len(raw)}")
        return cls(raw[:64], raw[64:128], raw[128:192], raw[192:])

    def settle(self, side: Side) -> bytes:
        """The signature on the settlement that spends this side's commitment."""
        return self.settle_a if side is Side.A else self.settle_b


class StateTransactions(msgspec.Struct, frozen=True):
    """The transactions of a state without witnesses and their revocation keys R, as (A, B) pairs."""

    commits: tuple[Transaction, Transaction]
    settlements: tuple[Transaction, Transaction]
    revocation_keys: tuple[bytes, bytes]


class StateMessages(msgspec.Struct, frozen=True):
    """What the eight signatures of a state sign, 32 bytes each; pairs belong to the commitments of A and of B.

    Both parties sign `state` and both `settlements`; each signs the commitment of the other.
    """

    state: bytes
    settlements: tuple[bytes, bytes]
    commits: tuple[bytes, bytes]


def build_header(
    params: ChannelParams,
    seq: int,
    balances: tuple[int, int],
    conditions: Sequence[Condition],
    state_data: bytes,
    prev_state_hash: bytes,
    app_id: bytes,
    point_a: bytes,
    point_b: bytes,
) -> StateHeader:
    """Header of a state with the txids of its four transactions; amounts in satoshi.

    Raises `InvalidState` if no settlement can be built; the other rules are in `check_state`.
    """
    points = (point_a, point_b)
    commits = [build_commitment(params, side, seq, points[side]).txid for side in Side]
    blank = StateHeader(
        n_cond=len(conditions),
        channel_id=params.channel_id,
        seq=seq,
        balance_a=balances[0],
        balance_b=balances[1],
        cond_root=cond_root(conditions),
        state_data_hash=state_data_hash(state_data),
        commit_txid_a=commits[0],
        commit_txid_b=commits[1],
        settle_txid_a=NO_HASH,
        settle_txid_b=NO_HASH,
        prev_state_hash=prev_state_hash,
        app_id=app_id,
    )
    built = _transactions(params, blank, tuple(conditions), points)
    settle_a, settle_b = (tx.txid for tx in built.settlements)
    return msgspec.structs.replace(blank, settle_txid_a=settle_a, settle_txid_b=settle_b)


def state_transactions(
    params: ChannelParams, header: StateHeader, conditions: Sequence[Condition], points: Points
) -> StateTransactions:
    """The transactions of a state, rebuilt; `InvalidState` if the header names others."""
    built = _transactions(params, header, tuple(conditions), points)
    named = (header.commit_txid_a, header.commit_txid_b, header.settle_txid_a, header.settle_txid_b)
    rebuilt = tuple(tx.txid for tx in built.commits + built.settlements)
    labels = ("commit_txid_A", "commit_txid_B", "settle_txid_A", "settle_txid_B")
    for label, theirs, ours in zip(labels, named, rebuilt, strict=True):
        if theirs != ours:
            raise InvalidState(f"{label} of the header is not that of the rebuilt transaction")
    return built


@lru_cache(maxsize=256)
def _transactions(
    params: ChannelParams, header: StateHeader, conditions: tuple[Condition, ...], points: Points
) -> StateTransactions:
    commit_a, commit_b = (build_commitment(params, side, header.seq, points[side]) for side in Side)
    onchain = onchain_state_hash(header) if params.has_onchain_state else None
    outputs = settle_outputs(params, header.balance_a, header.balance_b, conditions, onchain)
    return StateTransactions(
        commits=(commit_a, commit_b),
        settlements=(
            build_settlement(params, commit_a.txid, outputs),
            build_settlement(params, commit_b.txid, outputs),
        ),
        revocation_keys=(contest_key(params, Side.A, points[0]), contest_key(params, Side.B, points[1])),
    )


def sign_header(header: StateHeader, auth_secret: bytes, aux: bytes) -> bytes:
    """`state_sig`: 64 bytes over the state hash."""
    return keys.sign_schnorr(auth_secret, header.state_hash, aux)


def sign_settle(
    params: ChannelParams, built: StateTransactions, of_side: Side, settle_secret: bytes, aux: bytes
) -> bytes:
    """Signature (64 bytes) on the settlement that spends the commitment of `of_side`."""
    return sign_settlement(params, *_settlement(built, of_side), settle_secret, aux)


def sign_commit_peer(
    params: ChannelParams, built: StateTransactions, side: Side, fund_secret: bytes, aux: bytes
) -> bytes:
    """Signature (64 bytes) of `side` on the other side's commitment.

    Rule U1: it must not leave before both settlement signatures of the peer are verified and stored.
    """
    return sign_funding(params, built.commits[side.other], fund_secret, aux)


def sign_state(
    params: ChannelParams,
    header: StateHeader,
    conditions: Sequence[Condition],
    side: Side,
    secrets: ChannelSecrets,
    points: Points,
    aux: bytes,
) -> StateSignatures:
    """All four signatures of one side for a state; `aux` 32 bytes of randomness."""
    built = state_transactions(params, header, conditions, points)
    return StateSignatures(
        state=sign_header(header, secrets.auth, aux),
        settle_a=sign_settle(params, built, Side.A, secrets.settle, aux),
        settle_b=sign_settle(params, built, Side.B, secrets.settle, aux),
        commit_peer=sign_commit_peer(params, built, side, secrets.fund, aux),
    )


def verify_state_signatures(
    params: ChannelParams,
    header: StateHeader,
    conditions: Sequence[Condition],
    side: Side,
    signatures: StateSignatures,
    points: Points,
) -> None:
    """Raise `InvalidSignature`, naming the one that fails, unless all four signatures of `side` are valid."""
    _verify_side(params, state_messages(params, header, conditions, points), side, signatures)


def verify_complete_state(
    params: ChannelParams,
    header: StateHeader,
    conditions: Sequence[Condition],
    signatures: tuple[StateSignatures, StateSignatures],
    points: Points,
    publisher: Side | None = None,
) -> None:
    """Raise `InvalidSignature`, naming the one that fails, unless all eight signatures (of A, of B) are valid.

    `publisher`: this side has its commitment of the state in a mempool or block; its `commit_peer` may be `NOT_GIVEN`,
    for between messages 2 and 3 of an update it can publish without having given it.
    """
    messages = state_messages(params, header, conditions, points)
    for side in Side:
        _verify_side(params, messages, side, signatures[side], may_lack_commit=side is publisher)


def state_messages(
    params: ChannelParams, header: StateHeader, conditions: Sequence[Condition], points: Points
) -> StateMessages:
    """What the signatures of a state sign, for rebuilt transactions; `InvalidState` if the header names others."""
    built = state_transactions(params, header, conditions, points)
    settle_a, settle_b = (settlement_sighash(params, *_settlement(built, side)) for side in Side)
    commit_a, commit_b = (funding_sighash(params, commit) for commit in built.commits)
    return StateMessages(header.state_hash, (settle_a, settle_b), (commit_a, commit_b))


def _verify_side(
    params: ChannelParams,
    messages: StateMessages,
    side: Side,
    signatures: StateSignatures,
    *,
    may_lack_commit: bool = False,
) -> None:
    form, block = form_of(params), params.keys(side)
    if not keys.verify_schnorr(block.auth, messages.state, signatures.state):
        raise _refusal("state", side)
    if not form.verify_settle(block.settle, messages.settlements[Side.A], signatures.settle_a):
        raise _refusal("settle_A", side)
    if not form.verify_settle(block.settle, messages.settlements[Side.B], signatures.settle_b):
        raise _refusal("settle_B", side)
    if may_lack_commit and signatures.commit_peer == NOT_GIVEN:
        return
    if not form.verify(block.fund, messages.commits[side.other], signatures.commit_peer):
        raise _refusal("commit_peer", side)


def verify_header_signature(params: ChannelParams, header: StateHeader, side: Side, signature: bytes) -> None:
    """Raise `InvalidSignature` unless this is the `state_sig` of `side`."""
    if not keys.verify_schnorr(params.keys(side).auth, header.state_hash, signature):
        raise _refusal("state", side)


def verify_settle_signature(
    params: ChannelParams, built: StateTransactions, side: Side, of_side: Side, signature: bytes
) -> None:
    """Raise `InvalidSignature` unless `side` signed the settlement of the commitment of `of_side`."""
    if not verify_settlement(params, *_settlement(built, of_side), side, signature):
        raise _refusal(f"settle_{of_side.name}", side)


def verify_commit_signature(params: ChannelParams, built: StateTransactions, side: Side, signature: bytes) -> None:
    """Raise `InvalidSignature` unless `side` signed the other side's commitment."""
    if not verify_funding(params, built.commits[side.other], side, signature):
        raise _refusal("commit_peer", side)


def _settlement(built: StateTransactions, of_side: Side) -> tuple[Transaction, bytes]:
    """A settlement and R of the commitment that it spends."""
    return built.settlements[of_side], built.revocation_keys[of_side]


def _refusal(name: str, side: Side) -> InvalidSignature:
    return InvalidSignature(
        f"signature {name} of {side.name} does not verify on the recomputed bytes; nothing was stored"
    )
