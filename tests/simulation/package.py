"""Packages of one parent and one child in the model's mempool, as `submitpackage` judges them.

First every member is tried alone (only there a sibling may be evicted); what failed for its fee or for a missing
parent is then judged together, by the feerate of the whole, and may replace other packages. The result has the
node's own form, so that the service's reader of such results is in the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec

from domain.chain import OutPoint, Txid, display, double_sha256, make_outpoint, outpoint_txid
from domain.transaction import Transaction
from tests.simulation.blocks import serialized
from tests.simulation.entries import Candidate, Entry, family
from tests.simulation.ledger import MEMPOOL_HEIGHT, ChainCoin
from tests.simulation.policy import Mempool, Refusal
from tests.simulation.rules import TRUC_CHILD_MAX_VSIZE, TRUC_VERSION

SUCCESS = "success"
FAILED = "transaction failed"
NOT_VALIDATED = "package-not-validated"
_NOT_ALL_PARENTS = "package-not-child-with-unconfirmed-parents"


class Chunk(msgspec.Struct, frozen=True):
    """Transactions that a miner takes together."""

    fee: int
    vsize: int

    @property
    def feerate(self) -> Fraction:
        """Exact feerate."""
        return Fraction(self.fee, self.vsize)


def submit_package(pool: Mempool, members: Sequence[Transaction]) -> dict[str, Any]:
    """The result of `submitpackage` in the node's form; the child is the last member."""
    if not _brings_its_parents(pool, members):
        return _reply(members, _NOT_ALL_PARENTS, {})
    fates: dict[Txid, str] = {}
    rest: list[Transaction] = []
    message = SUCCESS
    for tx in members:
        if tx.txid in pool.entries:
            fates[tx.txid] = "known"
            continue
        found = pool.judge(tx)
        if isinstance(found, Candidate):
            pool.enter(found)
            fates[tx.txid] = "new"
            continue
        fates[tx.txid] = found.text
        if found.again:
            rest.append(tx)
        else:
            message = FAILED
    if message == SUCCESS and rest:
        message = _together(pool, rest, fates)
    return _reply(members, message, fates)


def _brings_its_parents(pool: Mempool, members: Sequence[Transaction]) -> bool:
    parents = {tx.txid for tx in members[:-1]}
    inputs = [txin.outpoint for txin in members[-1].inputs]
    return all(outpoint_txid(each) in parents or pool.ledger.coin(each) is not None for each in inputs)


def _together(pool: Mempool, rest: Sequence[Transaction], fates: dict[Txid, str]) -> str:
    """Judge the members that failed alone; returns the package's message and changes `fates`."""
    if len(rest) == 1:
        found = pool.judge(rest[0])
        if isinstance(found, Refusal):
            fates[rest[0].txid] = found.text
            return FAILED
        pool.enter(found)
        fates[rest[0].txid] = "new"
        return SUCCESS
    candidates: list[Candidate] = []
    outputs = {make_outpoint(tx.txid, v): out for tx in rest for v, out in enumerate(tx.outputs)}

    def inside(outpoint: OutPoint) -> ChainCoin | None:
        out = outputs.get(outpoint)
        return None if out is None else ChainCoin(out.value, out.spk, MEMPOOL_HEIGHT)

    for tx in rest:
        found = pool.examine(tx, alone=False, siblings=False, package=inside)
        if isinstance(found, Refusal):
            fates[tx.txid] = found.text
            return FAILED
        candidates.append(found)
    refusal = pool.too_cheap(sum(c.fee for c in candidates), sum(c.vsize for c in candidates))
    if pool.policy.truc and (reason := _truc_reason(candidates)):
        return reason
    if refusal is not None:
        fates[rest[-1].txid] = refusal.text
        return FAILED
    if reason := _replacement_reason(pool, candidates):
        return f"package RBF failed: {reason}"
    for candidate in candidates:
        pool.enter(candidate)
        fates[candidate.tx.txid] = "new"
    return SUCCESS


def _truc_reason(candidates: Sequence[Candidate]) -> str:
    """Version-3 rules between the members: the child is small, of the same version, and has one parent."""
    *parents, child = candidates
    versions = {candidate.tx.version == TRUC_VERSION for candidate in candidates}
    if versions == {False}:
        return ""
    crowded = len(parents) > 1 or child.parents or any(parent.parents for parent in parents)
    return "TRUC-violation" if len(versions) > 1 or crowded or child.vsize > TRUC_CHILD_MAX_VSIZE else ""


def _replacement_reason(pool: Mempool, candidates: Sequence[Candidate]) -> str:
    """Why the package may not replace what it conflicts with; empty if it may, or if nothing conflicts."""
    direct = {txid: entry for candidate in candidates for txid, entry in candidate.conflicts.items()}
    if not direct:
        return ""
    if len(candidates) != 2:
        return "package must be 1-parent-1-child"
    if any(candidate.parents for candidate in candidates):
        return "new transaction cannot have mempool ancestors"
    gone = pool.with_descendants(direct.values())
    new = Chunk(sum(c.fee for c in candidates), sum(c.vsize for c in candidates))
    if not pool.pays(new.fee, new.vsize, gone.values()):
        return "insufficient anti-DoS fees"
    if new.feerate <= Chunk(candidates[0].fee, candidates[0].vsize).feerate:
        return "package feerate is less than or equal to parent feerate"
    if any(not _is_pair(entry) for entry in direct.values()):
        return "a conflict is part of a larger family"
    before, after = _chunks_before(direct, gone), [new, *_chunks_kept(direct, gone)]
    return "" if _improves(after, before) else "insufficient feerate: does not improve feerate diagram"


def _is_pair(entry: Entry) -> bool:
    """True if the entry is alone, or one of exactly one parent and one child."""
    relatives = [*entry.parents.values(), *entry.children.values()]
    return len(relatives) <= 1 and all(len(each.parents) + len(each.children) == 1 for each in relatives)


def _chunks_before(direct: dict[Txid, Entry], gone: dict[Txid, Entry]) -> list[Chunk]:
    """What stands in the mempool now of the conflicts and their relatives."""
    chunks: list[Chunk] = []
    done: set[Txid] = set()
    for entry in direct.values():
        members = list(family(next(iter(entry.parents.values()), entry), up=False).values())
        if members[0].txid in done:
            continue
        done.add(members[0].txid)
        first, *others = (Chunk(each.fee, each.vsize) for each in members)
        if others and others[0].feerate > first.feerate:
            chunks.append(Chunk(first.fee + others[0].fee, first.vsize + others[0].vsize))
        else:
            chunks += [first, *others]
    return chunks


def _chunks_kept(direct: dict[Txid, Entry], gone: dict[Txid, Entry]) -> list[Chunk]:
    """The parents of conflicts that stay."""
    kept = {txid: parent for entry in direct.values() for txid, parent in entry.parents.items() if txid not in gone}
    return [Chunk(parent.fee, parent.vsize) for parent in kept.values()]


def _improves(after: Iterable[Chunk], before: Iterable[Chunk]) -> bool:
    """True if the new feerate diagram is nowhere below the old one and somewhere above it."""
    new, old = _diagram(after), _diagram(before)
    sizes = sorted({size for size, _ in [*new, *old]})
    gains = [_fee_at_size(new, size) - _fee_at_size(old, size) for size in sizes]
    return min(gains) >= 0 and max(gains) > 0


def _diagram(chunks: Iterable[Chunk]) -> list[tuple[int, int]]:
    points = [(0, 0)]
    for chunk in sorted(chunks, key=lambda each: each.feerate, reverse=True):
        points.append((points[-1][0] + chunk.vsize, points[-1][1] + chunk.fee))
    return points


def _fee_at_size(points: Sequence[tuple[int, int]], size: int) -> Fraction:
    for (left, low), (right, high) in pairwise(points):
        if size <= right:
            return low + Fraction((high - low) * (size - left), right - left)
    return Fraction(points[-1][1])


def _reply(members: Sequence[Transaction], message: str, fates: dict[Txid, str]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for tx in members:
        fate = fates.get(tx.txid, NOT_VALIDATED)
        entry: dict[str, Any] = {"txid": display(tx.txid)}
        if fate == "new":
            entry["fees"] = {"effective-feerate": 0}
        elif fate == "known":
            entry["fees"] = {}
        else:
            entry["error"] = fate
        results[display(double_sha256(serialized(tx)))] = entry
    return {"package_msg": message, "tx-results": results}
