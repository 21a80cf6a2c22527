"""`audit verify`: everything that can be said about a log from its own bytes and from heads kept outside it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from domain.errors import LogCorrupt
from domain.events import LOG_STREAM, LogOpened, decode_payload
from watchtower.audit import domain_rules
from watchtower.audit.domain_rules import COUNTED, DomainRules, RulesTask, check_share
from watchtower.audit.findings import LISTED, Check, ExitCode, Finding, LogName, Report, deciding
from watchtower.audit.known import KnownHead, check_restores, check_seals, compare
from watchtower.audit.plan import STRETCH, Plan, plan
from watchtower.audit.progress import Progress
from watchtower.audit.receipts import Kept
from watchtower.audit.receipts import check as check_receipts
from watchtower.audit.resume import DoneSoFar, Notebook, still_fits
from watchtower.audit.segments import check_segments
from watchtower.audit.stopping import Interrupted
from watchtower.audit.stretches import StretchTask, as_finding, check_stretch, count, place
from watchtower.audit.times import steps_back
from watchtower.audit.versions import RunFile, join, shares_for
from watchtower.audit.workers import Stop, Workers
from watchtower.store.exports.source import ExportSource
from watchtower.store.source import LogSource, RawRow
from watchtower.store.verify import uncovered

COMMAND = "audit verify"

SMALL = 1_000_000
"""Events up to which a database is asked to check itself if nobody said: it holds up checkpoints meanwhile."""

NO_DATABASE = "an export is no database"
"""Why some checks are left out for an export."""

ViewsCheck = Callable[[], tuple[Check, list[Finding]]]
"""Compares the read models with a replay of the log."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What to check. `first` is a position, `tail` a number of events; without either the whole log.

    `known` are heads from outside, `receipts` what clients hold, all of `tower_id` if that is named; `is_current` if
    the log is as it stands now. `storage` asks for the engine's own check of its files; without an answer it is made
    for at most `SMALL` events. `stretch` is the number of events that are checked at a time.
    """

    first: int | None = None
    tail: int | None = None
    known: tuple[KnownHead, ...] = ()
    receipts: tuple[Kept, ...] = ()
    tower_id: bytes | None = None
    is_current: bool = True
    rules: tuple[DomainRules, ...] = ()
    storage: bool | None = None
    strict_time: bool = False
    allow_incomplete: bool = False
    jobs: int = 1
    stretch: int = STRETCH

    def fingerprint(self) -> str:
        """SHA-256 (hex) over what was asked for. What stands in the files of known heads may move on meanwhile."""
        rules = [each.name for each in self.rules]
        receipts = [each.name for each in self.receipts]
        outside = ([each.source for each in self.known], receipts, self.tower_id, self.is_current)
        parts = (self.first, self.tail, outside, rules, self.storage, self.strict_time, self.allow_incomplete)
        return sha256(msgspec.msgpack.encode((*parts, self.stretch))).hexdigest()


class _Versions(msgspec.Struct, frozen=True):
    """One share of the streams whose versions are joined over all stretches."""

    scratch: str
    runs: tuple[RunFile, ...]
    share: int
    begins: bool


class Audit:
    """One run of `audit verify` over a source."""

    def __init__(
        self,
        source: LogSource,
        wish: Wish,
        notebook: Notebook,
        progress: Progress,
        stop: threading.Event,
        views: ViewsCheck | None = None,
    ) -> None:
        self._source, self._wish, self._notebook = source, wish, notebook
        self._progress, self._stop, self._views = progress, stop, views
        self._findings: list[Finding] = []
        self._counts: Counter[int] = Counter()
        self._checks: list[Check] = []

    def run(self) -> Report:
        """Check everything; raises `Interrupted` (what was done is saved), `OtherRun`, `StoreError` and `OSError`."""
        fingerprint, log_id = self._wish.fingerprint(), self._source.meta.log_id
        state = self._notebook.open(COMMAND, fingerprint, log_id)
        if state is None:
            made = plan(self._source, self._wish.first, self._wish.tail, self._wish.stretch)
            state = DoneSoFar(command=COMMAND, arguments=fingerprint, log_id=log_id, plan=made)
        elif not still_fits(self._source, state):
            words = "the log no longer has the heads that the interrupted audit saw: it was replaced meanwhile"
            self._take([Finding(code=ExitCode.FORK, sentence=words)])
            return self._report(state)
        workers = Workers(self._source, min(self._wish.jobs, _pieces(state.plan, self._wish)), self._stop)
        try:
            self._look(workers, state)
        except Interrupted:
            self._notebook.save(state, now=True)
            raise
        finally:
            workers.close()
            self._progress.end()
        report = self._report(state)
        self._notebook.discard()
        return report

    def _look(self, workers: Workers, state: DoneSoFar) -> None:
        wanted = state.plan.last_id <= SMALL if self._wish.storage is None else self._wish.storage
        faults = workers.begin(_storage_faults, None) if wanted else None  # one process is busy with it meanwhile
        self._check_stretches(workers, state)
        self._join_versions(workers, state)
        self._check_whole(state)
        self._check_storage(faults)
        self._check_heads(state)
        self._check_rules(workers, state)
        if self._views is not None:
            check, findings = self._views()
            self._checks.append(check)
            self._take(findings)

    def _check_stretches(self, workers: Workers, state: DoneSoFar) -> None:
        shares = shares_for(state.plan.events)
        done = {each.stretch.number for each in state.stretches}
        events = sum(each.events for each in state.stretches)
        self._progress.begin("verify", state.plan.events, events)
        tasks = [
            StretchTask(stretch, str(self._notebook.scratch), shares)
            for stretch in state.plan.stretches
            if stretch.number not in done
        ]
        for result in workers.run(check_stretch, tasks):
            state.stretches.append(result)
            events += result.events
            self._notebook.save(state)
            self._progress.show(events)
        state.stretches.sort(key=lambda result: result.stretch.number)
        for result in state.stretches:
            self._take(result.findings, result.counts)
        self._note("events", events, "events compared byte for byte with what was committed, and decoded")
        self._note("times", events, "recorded times compared with earlier ones")
        commits = sum(each.commits for each in state.stretches)
        self._note("commits", commits, "commits compared with the one before")

    def _join_versions(self, workers: Workers, state: DoneSoFar) -> None:
        runs = tuple(result.versions for result in state.stretches)
        begins = state.plan.is_whole and self._source.meta.start().last_id == 0
        shares = shares_for(state.plan.events)
        tasks = [_Versions(str(self._notebook.scratch), runs, share, begins) for share in range(shares)]
        streams = 0
        for number, findings in workers.run(_join_share, tasks):
            streams += number
            self._take(findings)
        words = "streams whose versions were followed" + ("" if begins else " within this range")
        self._note("versions", streams, words)

    def _check_whole(self, state: DoneSoFar) -> None:
        """What no stretch can see: both ends, the first event, times between stretches, tables and triggers."""
        made = state.plan
        self._take([as_finding(flaw) for flaw in uncovered(self._source, made.last_id, made.stored)])
        self._take(check_segments(self._source))
        if made.is_whole and self._source.meta.start().commit_no == 0:
            self._take(_check_opened(self._source))
        self._take(steps_back(each.times for each in state.stretches))
        words = "set of tables, triggers and rights compared with the shipped one"
        if isinstance(self._source, ExportSource):
            self._checks.append(Check(name="tables", sentence=words, skipped=NO_DATABASE))
            return
        self._take(_check_objects(self._source))
        self._note("tables", 1, words)

    def _check_storage(self, faults: Callable[[], list[str]] | None) -> None:
        words = "check by the database of its own pages and indexes"
        if faults is None:
            reason = NO_DATABASE if isinstance(self._source, ExportSource) else "not asked for"
            self._checks.append(Check(name="storage", sentence=words, skipped=reason))
            return
        self._take(
            [Finding(code=ExitCode.INTEGRITY, sentence=f"the database's own check: {each}") for each in faults()]
        )
        self._note("storage", 1, words)

    def _check_heads(self, state: DoneSoFar) -> None:
        seals = [seal for each in state.stretches for seal in each.seals]
        restores, lying = check_restores(self._source, [each for done in state.stretches for each in done.restores])
        self._take(lying)
        self._take(check_seals(self._source, seals))
        self._note("sealed heads", len(seals), "sealed heads in the log compared with its chain")
        wish = self._wish
        self._take(compare(self._source, wish.known, restores))
        self._take(check_receipts(self._source, wish.receipts, wish.tower_id, is_current=wish.is_current))
        if self._wish.receipts:
            self._note(
                "receipts", len(self._wish.receipts), "receipts of clients whose events and uploads were looked up"
            )
        if self._wish.known:
            self._note("known heads", len(self._wish.known), "heads from outside compared with the chain")
        elif not self._wish.receipts:
            words = "heads from outside: high-water files (--known), receipts of clients (--receipts)"
            reason = "none were given: a cut tail or another history cannot be noticed"
            self._checks.append(Check(name="known heads", sentence=words, skipped=reason))

    def _check_rules(self, workers: Workers, state: DoneSoFar) -> None:
        if not self._wish.rules:
            words = "rules of the domain: signatures, secrets, transactions"
            self._checks.append(Check(name="rules", sentence=words, skipped="not asked for"))
            return
        first_id, last_id = self._source.meta.start().last_id + 1, state.plan.last_id
        shares = domain_rules.shares_for(last_id - first_id + 1)
        done = {each.share for each in state.rules}
        tasks = [
            RulesTask(self._wish.rules, share, shares, first_id, last_id)
            for share in range(shares)
            if share not in done
        ]
        looked = sum(each.events for each in state.rules)
        self._progress.begin("rules", last_id - first_id + 1, looked)
        for result in workers.run(check_share, tasks):
            state.rules.append(result)
            looked += result.events
            self._notebook.save(state, now=True)
            self._progress.show(looked)
        for found in sorted(state.rules, key=lambda each: each.share):
            self._take(found.findings, found.counts)
        for rules in self._wish.rules:
            self._note(rules.name, looked, f"events looked at: {rules.name}")
        for name, (sentence, why_none) in COUNTED.items():
            number = sum(each.counted.get(name, 0) for each in state.rules)
            self._checks.append(Check(name=name, items=number, sentence=sentence, skipped="" if number else why_none))

    def _note(self, name: str, items: int, sentence: str) -> None:
        self._checks.append(Check(name=name, items=items, sentence=sentence))

    def _take(self, findings: Sequence[Finding], counts: dict[int, int] | None = None) -> None:
        self._findings += findings
        self._counts.update(count(findings) if counts is None else counts)

    def _report(self, state: DoneSoFar) -> Report:
        wish, meta = self._wish, self._source.meta
        codes = [ExitCode(code) for code in self._counts]
        code = deciding(codes, strict_time=wish.strict_time, allow_incomplete=wish.allow_incomplete)
        return Report(
            command=COMMAND,
            log=LogName(
                origin=meta.origin,
                log_id=meta.log_id.hex(),
                segment=meta.segment,
                schema=meta.schema,
                first_position=state.plan.first_id,
                last_position=state.plan.last_id,
                head=state.plan.head.hex(),
            ),
            events=sum(each.events for each in state.stretches),
            commits=sum(each.commits for each in state.stretches),
            exit_code=code,
            verdict=verdict(code),
            checks=tuple(self._checks),
            findings=tuple(sorted(self._findings, key=place)[:LISTED]),
            counts={str(code): number for code, number in sorted(self._counts.items())},
        )


def verdict(code: ExitCode) -> str:
    """The result in a sentence."""
    return _VERDICTS[code]


_VERDICTS = {
    ExitCode.PASSED: "all requested checks passed",
    ExitCode.FORK: "another history stands in the place of one that is known from outside",
    ExitCode.ROLLBACK: "the log lacks events that are known from outside",
    ExitCode.INTEGRITY: "the log was changed after it was written",
    ExitCode.ORDER: "events are missing, double or out of place",
    ExitCode.SIGNATURE: "a signature does not verify",
    ExitCode.MALFORMED_EXPORT: "the export is not what was written",
    ExitCode.TIME: "recorded times run back",
    ExitCode.RULE: "no hash contradicts the log, but what it records breaks a rule",
    ExitCode.VIEWS: "the read models do not follow from the log",
    ExitCode.REPLAY: "events cannot be read",
    ExitCode.INCOMPLETE: "nothing wrong was found, but not everything could be looked at",
}


def _storage_faults(source: LogSource, _stop: Stop, _piece: None) -> list[str]:
    return source.storage_faults()


def _join_share(_source: LogSource, _stop: Stop, task: _Versions) -> tuple[int, list[Finding]]:
    return join(Path(task.scratch), task.runs, task.share, task.begins)


def _pieces(made: Plan, wish: Wish) -> int:
    """Pieces that can be done at the same time at most: a small log needs no processes."""
    if not wish.rules:
        return len(made.stretches)
    return max(len(made.stretches), domain_rules.shares_for(made.last_id))


def _check_opened(source: LogSource) -> list[Finding]:
    """The first event says which log this is, as the row `log_meta` does."""
    meta = source.meta
    row = next(iter(source.rows(meta.first_id, meta.first_id)), None)
    try:
        opened = decode_payload(row[3], row[4]) if row is not None and _opens(row, meta.segment) else None
    except (LogCorrupt, TypeError):
        opened = None
    said = (meta.log_id, meta.origin, meta.segment, meta.prev_head, meta.schema)
    if isinstance(opened, LogOpened):
        if said == (opened.log_id, opened.origin, opened.segment, opened.prev_head, opened.schema):
            return []
        words = "the row log_meta names another log than the first event does"
    else:
        words = "the first event is not LogOpened"
    return [Finding(code=ExitCode.INTEGRITY, position=meta.first_id, stream=LOG_STREAM, sentence=words)]


def _opens(row: RawRow, segment: int) -> bool:
    """Whether an event can be the first of a segment: the stream of the log begins only once."""
    return row[1] == LOG_STREAM and (segment > 0 or row[2] == 1)


def _check_objects(source: LogSource) -> list[Finding]:
    return [
        Finding(code=ExitCode.INTEGRITY, sentence=f"{name} is not as shipped: the guard of the log was changed")
        for name in source.differing_objects()
    ]
