"""Checking one stretch of the log: hashes and chain, every state readable, versions, times, sealed heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from domain.errors import LogCorrupt
from domain.events import LOG_STREAM, HeadSealed, StoreRestored, decode_payload
from watchtower.audit.findings import LISTED, ExitCode, Finding, cleaned
from watchtower.audit.plan import Stretch
from watchtower.audit.times import Times
from watchtower.audit.versions import RunFile, VersionRun
from watchtower.audit.workers import Stop
from watchtower.store.chain_walk import Flaw
from watchtower.store.source import LogSource, RawRow
from watchtower.store.verify import CommitCheck

_CODES = {
    "leaf": ExitCode.INTEGRITY,
    "chain_link": ExitCode.INTEGRITY,
    "chain_tail": ExitCode.INTEGRITY,
    "unreadable": ExitCode.INTEGRITY,
    "row_missing": ExitCode.ORDER,
    "chain_number": ExitCode.ORDER,
}
"""Which exit code a failed check of the store stands for."""


class Seal(msgspec.Struct, frozen=True):
    """A `HeadSealed` event at `id`: at `position` the head was `head`."""

    id: int
    position: int
    head: bytes


class Restore(msgspec.Struct, frozen=True):
    """A `StoreRestored` event at `id`: behind `position`, where the head was `head`, the log went on as `epoch`."""

    id: int
    epoch: int
    position: int
    head: bytes


class StretchTask(msgspec.Struct, frozen=True):
    """A stretch, the directory for its file of versions, and the number of shares in that."""

    stretch: Stretch
    scratch: str
    shares: int


class StretchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a stretch. `counts` has all findings by exit code, of which `findings` names the first ones."""

    stretch: Stretch
    events: int
    commits: int
    end: int
    head: bytes
    findings: tuple[Finding, ...]
    counts: dict[int, int]
    times: Times
    seals: tuple[Seal, ...]
    restores: tuple[Restore, ...]
    versions: RunFile


def check_stretch(source: LogSource, _stop: Stop, task: StretchTask) -> StretchResult:
    """Check everything that can be checked without the rest of the log. Raises `StoreError` and `OSError`."""
    events = _Events()
    check = CommitCheck(source, events)
    check.run(task.stretch.first_no, task.stretch.last_no)
    name = f"versions-{task.stretch.number:06d}"
    versions = events.versions.write(Path(task.scratch), name, task.shares)
    findings = [*map(as_finding, check.flaws), *events.findings, *events.versions.findings]
    return StretchResult(
        stretch=task.stretch,
        events=check.events,
        commits=check.commits,
        end=check.walk.end,
        head=check.walk.head,
        findings=tuple(map(cleaned, sorted(findings, key=place)[:LISTED])),
        counts=count(findings),
        times=events.times,
        seals=tuple(events.seals),
        restores=tuple(events.restores),
        versions=versions,
    )


def as_finding(flaw: Flaw) -> Finding:
    """A flaw of the store as a finding of the audit."""
    return Finding(
        code=_CODES[flaw.check], position=flaw.id, stream=flaw.stream, topic=flaw.topic, sentence=flaw.sentence
    )


def place(finding: Finding) -> tuple[int, int, str]:
    """Order of findings in a report: by position, those about the log as a whole first."""
    return (-1 if finding.position is None else finding.position, finding.code, finding.sentence)


def count(findings: Iterable[Finding]) -> dict[int, int]:
    """Number of findings per exit code."""
    return dict(Counter(int(finding.code) for finding in findings))


class _Events:
    """Is shown the rows of a stretch: reads each state, follows versions and times, notes sealed heads."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.seals: list[Seal] = []
        self.restores: list[Restore] = []
        self.versions = VersionRun()
        self.times = Times()

    def __call__(self, rows: Sequence[RawRow], intact: bool) -> None:
        if not intact:
            self.versions.note([row for row in rows if _is_named(row)])
            return
        self.versions.note(rows)
        try:
            recorded_at = [decode_payload(topic, state).recorded_at for _, _, _, topic, state in rows]
        except LogCorrupt:
            rows, recorded_at = self._readable(rows)
        if recorded_at:
            self.times = self.times.after(recorded_at, rows)
        for row in [row for row in rows if row[1] == LOG_STREAM]:
            self._note_head(row)

    def _note_head(self, row: RawRow) -> None:
        payload = decode_payload(row[3], row[4])
        if isinstance(payload, HeadSealed):
            self.seals.append(Seal(row[0], payload.position, payload.head))
        elif isinstance(payload, StoreRestored):
            self.restores.append(Restore(row[0], payload.epoch, payload.position, payload.head))

    def _readable(self, rows: Sequence[RawRow]) -> tuple[Sequence[RawRow], list[int]]:
        kept, recorded_at = [], []
        for row in rows:
            event_id, stream, _, topic, state = row
            try:
                recorded_at.append(decode_payload(topic, state).recorded_at)
            except LogCorrupt as error:
                words = f"event {event_id}: {error}"
                self.findings.append(
                    Finding(code=ExitCode.REPLAY, position=event_id, stream=stream, topic=topic, sentence=words)
                )
            else:
                kept.append(row)
        return kept, recorded_at


def _is_named(row: tuple[object, ...]) -> bool:
    """True if stream and version of a changed row are of the right types."""
    return isinstance(row[1], str) and isinstance(row[2], int)
