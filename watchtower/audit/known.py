"""Heads that were kept outside the log, in high-water files, and those that the tower sealed in it.

The chain in the log proves only that the log fits itself. A cut tail or another history shows beside these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from domain.events import LOG_STREAM
from domain.log_chain import HASH_SIZE, next_head
from watchtower.audit.findings import ExitCode, Finding
from watchtower.audit.stretches import Restore, Seal
from watchtower.store.high_water import HighWaterDamaged, read_high_water
from watchtower.store.source import LogSource, commit_holding, is_sane, readable_commits


class UnreadableHeads(Exception):
    """A file that should hold known heads holds none, or those of another log; the text says which."""


class KnownHead(msgspec.Struct, frozen=True, kw_only=True):
    """At `position`, the end of a commit in this `epoch` of the log, the chain head was `head`: known from `source`."""

    log_id: bytes
    epoch: int
    position: int
    head: bytes
    source: str


def read_known(path: Path) -> list[KnownHead]:
    """The head in a high-water file, or those in all files of a directory. Raises `UnreadableHeads`."""
    if path.is_dir():
        return [head for each in sorted(path.iterdir()) if each.is_file() for head in read_known(each)]
    try:
        mark = read_high_water(path)
    except HighWaterDamaged as error:
        raise UnreadableHeads(f"{error} (receipts are given with --receipts)") from None
    if mark is None:
        raise UnreadableHeads(f"{path} does not exist")
    source = f"high-water file {path.name}"
    return [KnownHead(log_id=mark.log_id, epoch=mark.epoch, position=mark.position, head=mark.head, source=source)]


def compare(source: LogSource, known: Iterable[KnownHead], restores: Sequence[Restore] = ()) -> list[Finding]:
    """What the log lacks, or has otherwise, beside known heads. Raises `StoreError`."""
    last = source.last_commit()
    last_id = last.last_id if is_sane(last) or last.commit_no == 0 else source.last_id()
    findings = []
    for head in known:
        finding = _compare(source, head, last_id)
        if finding is not None and finding.code != ExitCode.INCOMPLETE and _is_there(source, head.position, head.head):
            finding = None  # a number beside the head was changed, which the walk over the chain names
        gone_back = next((each for each in restores if each.epoch > head.epoch and each.position < head.position), None)
        if finding is not None and gone_back is not None:
            words = (
                f"{head.source}: position {head.position} was reached in epoch {head.epoch}; the log went on from an "
                f"older copy behind position {gone_back.position} (epoch {gone_back.epoch}) and does not hold it"
            )
            finding = Finding(code=ExitCode.ROLLBACK, position=head.position, sentence=words)
        if finding is not None:
            findings.append(finding)
    return findings


def check_seals(source: LogSource, seals: Iterable[Seal]) -> list[Finding]:
    """Whether the log has the heads that its own `HeadSealed` events name. Raises `StoreError`."""
    return [
        _own_fork(seal.id, "lg03", f"event {seal.id} seals another head for position {seal.position} than the log has")
        for seal in seals
        if not _has_own(source, seal)
    ]


def check_restores(source: LogSource, restores: Iterable[Restore]) -> tuple[list[Restore], list[Finding]]:
    """The `StoreRestored` events whose head the log has where they say it, and findings for the others.

    Only the former can excuse that a known head is not in the log. Raises `StoreError`.
    """
    fitting, findings = [], []
    for each in restores:
        if _has_own(source, each):
            fitting.append(each)
            continue
        words = (
            f"event {each.id} says that the log went on behind position {each.position}, with another head than it has"
        )
        findings.append(_own_fork(each.id, "lg06", words))
    return fitting, findings


def _own_fork(position: int, topic: str, words: str) -> Finding:
    return Finding(code=ExitCode.FORK, position=position, stream=LOG_STREAM, topic=topic, sentence=words)


def _has_own(source: LogSource, said: Seal | Restore) -> bool:
    """Whether the log has a head that an event of its own names; true also if it begins behind that position."""
    start = source.meta.start()
    if said.position < start.last_id:  # the log begins later here; what was said is about an earlier part
        return True
    commit = start if said.position == start.last_id else commit_holding(source, said.position)
    fits = commit is not None and commit.head == said.head
    return said.position < said.id and (fits or _is_there(source, said.position, said.head))


def _compare(source: LogSource, known: KnownHead, last_id: int) -> Finding | None:
    if known.position > last_id:
        words = f"{known.source} knows position {known.position}, the log ends at {last_id}: later events are gone"
        return Finding(code=ExitCode.ROLLBACK, position=known.position, sentence=words)
    start = source.meta.start()
    if known.position < start.last_id:
        words = f"{known.source} knows position {known.position}, which lies before the first one here"
        return Finding(code=ExitCode.INCOMPLETE, position=known.position, sentence=words)
    commit = start if known.position == start.last_id else commit_holding(source, known.position)
    fits = commit is not None and (commit.last_id, commit.head) == (known.position, known.head)
    if fits:
        return None
    words = f"{known.source} knows another head at position {known.position}: another history stands in the log"
    return Finding(code=ExitCode.FORK, position=known.position, sentence=words)


def _is_there(source: LogSource, position: int, head: bytes) -> bool:
    """Whether some commit has this head, and had it at this position: its own numbers may have been changed."""
    meta = source.meta
    borders = {border.first_id: border for border in meta.borders}
    before = meta.start().head
    for commit in readable_commits(source):
        count = len(commit.leaves) // HASH_SIZE
        first_id = position - count + 1
        if commit.head == head and first_id > 0:
            border = borders.get(first_id)
            behind = before if border is None else meta.begin(border, before)
            return next_head(behind, first_id - meta.first_id + meta.first_leaf, first_id, commit.leaves) == head
        before = commit.head
    return False
