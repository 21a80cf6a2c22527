"""`audit verify-export`: everything that can be said about a log from an export alone, without the tower.

First the directory (files, digests, signature), because nothing in damaged files can be believed. Then what the files
say about each other, then the log in them exactly as `audit verify` checks one, and last the read models folded from
it, compared with the digests that the tower wrote down.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic

import msgspec

from domain.errors import LogCorrupt
from projections.catalog import PROJECTIONS
from watchtower.audit.export_files import check_files
from watchtower.audit.findings import LISTED, Check, ExitCode, Finding, LogName, Report, deciding
from watchtower.audit.known import KnownHead, compare
from watchtower.audit.progress import Progress
from watchtower.audit.receipts import check as check_receipts
from watchtower.audit.resume import Notebook
from watchtower.audit.stretches import as_finding, place
from watchtower.audit.verify import Audit, Wish, verdict
from watchtower.audit.versions import VersionRun, join
from watchtower.store.chain_walk import ChainWalk, Span
from watchtower.store.exports.manifest import Manifest, encode_manifest, read_manifest
from watchtower.store.exports.records import ExportMalformed
from watchtower.store.exports.replay import fold_digests
from watchtower.store.exports.rows import entry_leaf, read_entry
from watchtower.store.exports.signature import read_signature
from watchtower.store.exports.source import ExportSource
from watchtower.store.source import Unreadable

COMMAND = "audit verify-export"
CHAIN_PAGE = 500
"""Chain rows that are read at a time."""


class ExportAudit:
    """One run over the directory of an export. `scratch` is an empty directory for what the audit needs on the way."""

    def __init__(
        self, directory: Path, wish: Wish, progress: Progress, stop: threading.Event, scratch: Path, *, replay: bool
    ) -> None:
        """`replay`: fold the read models and compare them with the digests in the manifest."""
        self._directory, self._wish, self._progress, self._stop = directory, wish, progress, stop
        self._scratch, self._replay = scratch, replay

    def run(self) -> Report:
        """Check everything; raises `Interrupted`, `StoreError` and `OSError`."""
        try:
            manifest = read_manifest(self._directory)
            findings = check_files(self._directory, manifest)
            signed, found = _check_signature(self._directory, manifest, self._wish.tower_id)
        except ExportMalformed as error:
            return self._merged(_nothing(), [], [_malformed(str(error))])
        files = len(manifest.listed())
        checks = [Check(name="files", items=files, sentence="files with the digests that the manifest lists"), signed]
        if findings:
            return self._merged(_named(manifest), checks, findings + found)
        foreign = _foreign(manifest, self._wish.known)
        if foreign:
            return self._merged(_named(manifest), checks, found + foreign)
        with ExportSource(self._directory) as source:
            return self._look(source, checks, found + _check_claims(source) + _scope(manifest))

    def _look(self, source: ExportSource, checks: list[Check], findings: list[Finding]) -> Report:
        if source.manifest.entries_only:
            return self._look_at_entries(source, checks, findings)
        views = partial(self._compare_read_models, source)
        notebook = Notebook(None, self._scratch, monotonic)
        report = Audit(source, self._wish, notebook, self._progress, self._stop, views).run()
        return self._merged(report, checks, findings)

    def _look_at_entries(self, source: ExportSource, checks: list[Check], findings: list[Finding]) -> Report:
        entries = _Entries(source, self._scratch)
        self._progress.begin("entries", source.manifest.last_position, source.manifest.first_position - 1)
        for position in entries.check():
            self._progress.show(position)
        findings += entries.findings + entries.join_versions() + compare(source, self._wish.known)
        findings += check_receipts(source, self._wish.receipts, self._wish.tower_id, is_current=False)
        return self._merged(_named(source.manifest), [*checks, entries.summary()], findings)

    def _compare_read_models(self, source: ExportSource) -> tuple[Check, list[Finding]]:
        """Fold the events anew and compare digests with those of the manifest."""
        words = "events folded into read models, compared with the digests that the tower wrote down"
        said = source.manifest.digests
        if not self._replay or said is None or not source.manifest.is_whole:
            why = "the export names no digests" if said is None else "the export does not begin with the log"
            reason = why if self._replay else "not asked for"
            return Check(name="read models", sentence=words, skipped=reason), []
        if said.versions != {projection.name: projection.version for projection in PROJECTIONS}:
            reason = "this program folds other versions of them than the one that made the export"
            gap = Finding(code=ExitCode.INCOMPLETE, sentence=f"the read models were not compared: {reason}")
            return Check(name="read models", sentence=words, skipped=reason), [gap]
        self._progress.begin("read models", said.position)
        try:
            made, stuck = fold_digests(source, said.position, self._scratch / "views.db", self._progress.show)
        except (LogCorrupt, Unreadable) as error:
            failed = Finding(code=ExitCode.REPLAY, sentence=f"the events cannot be folded: {error}")
            return Check(name="read models", sentence=words, skipped="the replay failed"), [failed]
        findings = [
            Finding(code=ExitCode.VIEWS, sentence=f"the read model {name} is not what the manifest says of it")
            for name in sorted(made.tables.keys() | said.tables.keys())
            if made.tables.get(name) != said.tables.get(name)
        ]
        findings += [
            Finding(code=ExitCode.REPLAY, stream=stream, sentence=f"an event of stream {stream} cannot be folded")
            for stream in stuck
        ]
        return Check(name="read models", items=said.position, sentence=words), findings

    def _merged(self, report: Report, checks: Sequence[Check], findings: Sequence[Finding]) -> Report:
        """A report with further checks and findings."""
        counts = Counter({int(code): number for code, number in report.counts.items()})
        counts.update(int(finding.code) for finding in findings)
        codes = [ExitCode(code) for code in counts]
        code = deciding(codes, strict_time=self._wish.strict_time, allow_incomplete=self._wish.allow_incomplete)
        return msgspec.structs.replace(
            report,
            command=COMMAND,
            exit_code=code,
            verdict=verdict(code),
            checks=(*checks, *report.checks),
            findings=tuple(sorted((*findings, *report.findings), key=place)[:LISTED]),
            counts={str(each): number for each, number in sorted(counts.items())},
        )


class _Entries:
    """Whether the entries are those that were committed, in order: all that an export without payloads can show.

    Where there are payloads, the source compares each with its entry, and the audit of the log sees both.
    """

    def __init__(self, source: ExportSource, scratch: Path) -> None:
        self._source, self._scratch = source, scratch
        self._walk = ChainWalk(source.meta)
        self._versions = VersionRun()
        self.findings: list[Finding] = []
        self.events = 0

    def check(self) -> Iterator[int]:
        """Look at all entries; yields positions on the way. Raises `StoreError`."""
        number, last = self._source.manifest.first_commit, self._source.manifest.last_commit
        while number <= last:
            page = self._source.commits(number, CHAIN_PAGE)
            for commit in page:
                span, flaws = self._walk.step(commit)
                self.findings += map(as_finding, flaws)
                if span is not None:
                    self._check_span(span)
            number += len(page)
            yield self._walk.end

    def join_versions(self) -> list[Finding]:
        """What is wrong with the order of versions in the streams."""
        self._scratch.mkdir(exist_ok=True)
        run = self._versions.write(self._scratch, "versions", 1)
        begins = self._source.meta.start().last_id == 0
        return self._versions.findings + join(self._scratch, [run], 0, begins)[1]

    def summary(self) -> Check:
        """What was looked at."""
        return Check(name="entries", items=self.events, sentence="entries that hash to the leaves that were committed")

    def _check_span(self, span: Span) -> None:
        self.findings += [as_finding(span.flaw)] if span.flaw is not None else []
        last = min(span.last_id, self._source.last_id())
        entries = self._source.entries(span.first_id, last) if span.first_id <= last else []
        self.events += len(entries)
        rows = []
        for position, raw in enumerate(entries, span.first_id):
            try:
                stream, version, topic, _, _ = read_entry(raw)
            except ExportMalformed as error:
                self._note(position, f"entry {position}: {error}")
                continue
            rows.append((position, stream, version, topic, b""))
            if entry_leaf(raw) != span.leaf_of(position):
                self._note(
                    position, f"entry {position} (stream {stream}, version {version}) was changed", stream, topic
                )
        self._versions.note(rows)

    def _note(self, position: int, words: str, stream: str = "", topic: str = "") -> None:
        self.findings.append(
            Finding(code=ExitCode.INTEGRITY, position=position, stream=stream, topic=topic, sentence=words)
        )


def _check_signature(directory: Path, manifest: Manifest, tower_id: bytes | None) -> tuple[Check, list[Finding]]:
    """Who signed the manifest; raises `ExportMalformed` if the file holds no signature."""
    found = read_signature(directory, encode_manifest(manifest))
    if found is None:
        return Check(name="signature", sentence="a tower's signature over the manifest", skipped="there is none"), []
    tower, is_valid = found
    check = Check(name="signature", items=1, sentence=f"signature over the manifest, by tower {tower}")
    if not is_valid:
        return check, [Finding(code=ExitCode.SIGNATURE, sentence=f"the manifest was not signed by tower {tower}")]
    if tower_id is not None and tower_id.hex() != tower.lower():
        words = f"the manifest is signed by tower {tower}, not by {tower_id.hex()}"
        return check, [Finding(code=ExitCode.SIGNATURE, sentence=words)]
    return check, []


def _foreign(manifest: Manifest, known: Sequence[KnownHead]) -> list[Finding]:
    """Heads from outside that are about another log: then this is the export of another tower."""
    return [
        _malformed(f"{head.source} is about log {head.log_id.hex()}, this export about log {manifest.log_id}")
        for head in known
        if head.log_id.hex() != manifest.log_id
    ]


def _malformed(sentence: str) -> Finding:
    return Finding(code=ExitCode.MALFORMED_EXPORT, sentence=sentence)


def _check_claims(source: ExportSource) -> list[Finding]:
    """Bounds and heads of the manifest beside the commits that the export holds. Raises `StoreError`."""
    said, start = source.manifest, source.meta.start()
    first, last = source.commits(said.first_commit, 1)[0], source.last_commit()
    claims = {
        "first_position": (said.first_position, first.first_id),
        "last_position": (said.last_position, last.last_id),
        "head": (said.head, last.head.hex()),
        "start_head": (said.start_head, start.head.hex()),
        "digests.position": (said.digests.position if said.digests else said.last_position, said.last_position),
    }
    return [
        _malformed(f"the manifest says {name} {claim}, the commits say {fact}")
        for name, (claim, fact) in claims.items()
        if claim != fact
    ]


def _scope(manifest: Manifest) -> list[Finding]:
    """What an export cannot show because it does not hold it."""
    missing = []
    if manifest.entries_only:
        missing.append("the export holds entries only: payloads were not looked at")
    if not manifest.is_whole:
        missing.append(f"the export begins at position {manifest.first_position}: the events before were not looked at")
    return [Finding(code=ExitCode.INCOMPLETE, sentence=sentence) for sentence in missing]


def _named(manifest: Manifest) -> Report:
    """An empty report about the log of the manifest."""
    events, commits = manifest.last_position - manifest.first_position + 1, manifest.last_commit - manifest.first_commit
    name = LogName(
        origin=manifest.origin,
        log_id=manifest.log_id,
        segment=manifest.segments[0].segment,
        schema=manifest.schema,
        first_position=manifest.first_position,
        last_position=manifest.last_position,
        head=manifest.head,
    )
    return msgspec.structs.replace(_nothing(), log=name, events=events, commits=commits + 1)


def _nothing() -> Report:
    """A report about no log."""
    name = LogName(origin="", log_id="", segment=0, schema=0, first_position=0, last_position=0, head="")
    return Report(command=COMMAND, log=name, events=0, commits=0, exit_code=ExitCode.PASSED, verdict="")
