"""Relay rules of the model's mempool that need no mempool: policies, minimum fees, dust, version 3.

Feerates are sat/vB, fees satoshi, sizes vB.
"""

from __future__ import annotations

from math import ceil

import msgspec

from domain.chain import OutPoint, make_outpoint
from domain.transaction import Transaction
from tests.simulation.entries import Candidate, family
from watchtower.node.answers import VERIFY_REJECTED

TRUC_VERSION = 3
TRUC_MAX_VSIZE = 10_000
TRUC_CHILD_MAX_VSIZE = 1_000
REENTRY_DEPTH = 10
"""So many blocks of one reorg give their transactions back to the mempool."""

MISSING = "bad-txns-inputs-missingorspent"
_OP_RETURN = 0x6A


class Policy(msgspec.Struct, frozen=True):
    """Relay rules: minimum and increment in sat/vB; `truc` enforces the rules of version 3.

    `dust` outputs are looked at only when the fee is known, because without a fee they may be ephemeral.
    """

    relay: float
    increment: float
    truc: bool
    dust: int = 0


CORE = Policy(relay=0.1, increment=0.1, truc=True, dust=1)
"""Bitcoin Core's rules, as the tests' node has them with -corepolicy=1."""

OLDER_CORE = Policy(relay=1.0, increment=1.0, truc=True)
"""Bitcoin Core 28."""

KNOTS = Policy(relay=1.0, increment=1.0, truc=False)
"""Knots' own rules: version 3 is nothing special."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a transaction was not taken: the JSON-RPC code, the text, and whether a package may change it."""

    code: int
    text: str
    again: bool = False


def rejected(text: str, *, again: bool = False) -> Refusal:
    """A refusal with the code of policy and consensus rules."""
    return Refusal(VERIFY_REJECTED, text, again)


def fee_at(feerate: float, vsize: int) -> int:
    """Fee of a feerate for a size, rounded up as nodes do since 2013."""
    return ceil(round(feerate * 1000) * vsize / 1000)


def dust_outputs(tx: Transaction) -> int:
    """How many of its outputs are dust."""
    return sum(output.value < dust_limit(output.spk) for output in tx.outputs)


def dust_limit(spk: bytes) -> int:
    """Value below which an output does not relay, by the constant dust feerate of 3 sat/vB."""
    if spk[:1] == bytes([_OP_RETURN]):
        return 0
    witness_program = 4 <= len(spk) <= 42 and (spk[0] == 0 or 0x51 <= spk[0] <= 0x60) and spk[1] == len(spk) - 2
    return 3 * (9 + len(spk) + (67 if witness_program else 148))


def outpoints_of(tx: Transaction) -> list[OutPoint]:
    """Its outputs as outpoints."""
    return [make_outpoint(tx.txid, vout) for vout in range(len(tx.outputs))]


def truc_refusal(candidate: Candidate, *, siblings: bool) -> Refusal | None:
    """The rules of version 3 (BIP-431). With `siblings`, one that must go is added to the conflicts."""
    tx, parents = candidate.tx, candidate.parents
    if any((parent.tx.version == TRUC_VERSION) != (tx.version == TRUC_VERSION) for parent in parents.values()):
        return rejected("TRUC-violation, version 3 and other versions cannot spend each other unconfirmed")
    if tx.version != TRUC_VERSION:
        return None
    if candidate.vsize > TRUC_MAX_VSIZE:
        return rejected("TRUC-violation, version=3 tx is too big")
    if len(parents) > 1 or any(parent.parents for parent in parents.values()):
        return rejected("TRUC-violation, tx would have too many ancestors")
    if not parents:
        return None
    if candidate.vsize > TRUC_CHILD_MAX_VSIZE:
        return rejected("TRUC-violation, version=3 child tx is too big")
    (parent,) = parents.values()
    if not parent.children or any(txid in candidate.conflicts for txid in parent.children):
        return None  # the one that goes leaves its place; a reorg may have left a second one, which stays
    sibling = next(iter(parent.children.values()))
    alone = len(parent.children) == 1 and len(family(sibling, up=True)) == 2
    if not siblings or not alone:
        return rejected("TRUC-violation, tx would exceed descendant count limit")
    candidate.conflicts[sibling.txid] = sibling
    return None
