"""The report of an audit: one JSON document for programs, a page of text for people."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from watchtower.audit.findings import Check, ExitCode, Finding, LogName, Report

SHOWN = 20
"""Findings that the text names; the JSON document has more."""

_WORDS = {
    ExitCode.FORK: "fork",
    ExitCode.ROLLBACK: "rollback",
    ExitCode.INTEGRITY: "integrity",
    ExitCode.ORDER: "order",
    ExitCode.SIGNATURE: "signature",
    ExitCode.MALFORMED_EXPORT: "export",
    ExitCode.TIME: "time",
    ExitCode.RULE: "rule",
    ExitCode.VIEWS: "views",
    ExitCode.REPLAY: "replay",
    ExitCode.INCOMPLETE: "incomplete",
}


def as_json(report: Report) -> bytes:
    """The document for programs, indented; the same report gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def as_text(report: Report) -> str:
    """The page for people; ends with a line end."""
    return "\n".join(_lines(report)) + "\n"


def broken(command: str, sentence: str) -> Report:
    """The report on a log that cannot even be opened because it is damaged."""
    name = LogName(origin="", log_id="", segment=0, schema=0, first_position=0, last_position=0, head="")
    finding = Finding(code=ExitCode.INTEGRITY, sentence=sentence)
    return Report(
        command=command,
        log=name,
        events=0,
        commits=0,
        exit_code=ExitCode.INTEGRITY,
        verdict="the log cannot be read",
        findings=(finding,),
        counts={str(int(ExitCode.INTEGRITY)): 1},
    )


def _lines(report: Report) -> Iterator[str]:
    log = report.log
    if log.log_id:
        yield f"Log       {log.origin} (log id {log.log_id}, schema {log.schema}, segment {log.segment})"
        yield f"Looked at positions {log.first_position:,} to {log.last_position:,}, {report.commits:,} commits"
        yield f"Head      {log.head}"
        yield ""
    checked = [check for check in report.checks if not check.skipped]
    width = max((len(f"{check.items:,}") for check in checked), default=0)
    yield from (f"checked  {check.items:>{width},}  {check.sentence}" for check in checked)
    yield from (_skipped(check) for check in report.checks if check.skipped)
    yield from _found(report)
    yield ""
    yield f"Verdict: {report.verdict} (exit code {int(report.exit_code)})"


def _skipped(check: Check) -> str:
    return f"not checked: {check.sentence} ({check.skipped})"


def _found(report: Report) -> Iterator[str]:
    total = sum(report.counts.values())
    if not total:
        return
    yield ""
    yield "Findings  " + ", ".join(f"{number:,} {_word(int(code))}" for code, number in report.counts.items())
    for finding in report.findings[:SHOWN]:
        yield f"  {int(finding.code)} {_word(finding.code):<10} {_printable(finding)}"
    if total > SHOWN:
        yield f"  … and {total - SHOWN:,} more; the JSON document names up to {len(report.findings):,}"


def _word(code: int) -> str:
    return _WORDS.get(ExitCode(code), "other")


def _printable(finding: Finding) -> str:
    """The sentence without what could steer a terminal: names of a tampered log are not to be trusted."""
    text = finding.sentence + (f" [{finding.topic}]" if finding.topic else "")
    return "".join(letter if letter.isprintable() else "?" for letter in text)
