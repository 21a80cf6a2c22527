"""What an audit finds, and the exit code that follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import msgspec

LISTED = 1_000
"""Findings that a report names; more of them are counted only."""


class ExitCode(IntEnum):
    """How an audit command ends. With findings, the first of `PRECEDENCE` among their codes decides."""

    PASSED = 0
    """All requested checks passed."""
    INTERNAL = 1
    """The audit itself failed."""
    USAGE = 2
    """Wrong arguments, or other ones than those of the run that is continued."""
    UNAVAILABLE = 3
    """The log is missing, locked, or written by a newer version."""
    MALFORMED_EXPORT = 10
    """A file of an export is missing, too much, or has a wrong digest."""
    INTEGRITY = 20
    """A row, leaf or head is not what was committed."""
    ORDER = 21
    """A version, id or commit is missing, double or out of place."""
    SIGNATURE = 31
    """A signature in an event or a receipt does not verify."""
    FORK = 40
    """A head that is known from outside differs: another history was put in place."""
    ROLLBACK = 41
    """The log ends before a position that is known from outside."""
    TIME = 50
    """`recorded_at` runs back; a warning unless times are asked to be strict."""
    VIEWS = 70
    """A read model differs from what follows from the log."""
    REPLAY = 71
    """An event cannot be read or folded: unknown topic, bytes that do not fit."""
    RULE = 72
    """A rule of the domain is broken: the log is honest, the tower misbehaved."""
    INCOMPLETE = 80
    """Passed, but not everything could be looked at."""
    INTERRUPTED = 130
    """Stopped by the user; the state was saved if that was asked for."""


PRECEDENCE = (
    ExitCode.FORK,
    ExitCode.ROLLBACK,
    ExitCode.INTEGRITY,
    ExitCode.ORDER,
    ExitCode.SIGNATURE,
    ExitCode.MALFORMED_EXPORT,
    ExitCode.TIME,
    ExitCode.RULE,
    ExitCode.VIEWS,
    ExitCode.REPLAY,
    ExitCode.INCOMPLETE,
)
"""With several findings, the first of these decides."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    `position` is that of the event (None for the log as a whole), `stream` and `topic` are as stored (empty if the
    finding concerns no single event), `sentence` says what was found, for people.
    """

    code: ExitCode
    position: int | None = None
    stream: str = ""
    topic: str = ""
    sentence: str


def exit_code(findings: Iterable[Finding], *, strict_time: bool = False, allow_incomplete: bool = False) -> ExitCode:
    """The code that decides; times that run back count with `strict_time`, gaps not with `allow_incomplete`."""
    return deciding((finding.code for finding in findings), strict_time=strict_time, allow_incomplete=allow_incomplete)


def deciding(codes: Iterable[ExitCode], *, strict_time: bool = False, allow_incomplete: bool = False) -> ExitCode:
    """As `exit_code`, from codes alone."""
    found = set(codes)
    if not strict_time:
        found.discard(ExitCode.TIME)
    if allow_incomplete:
        found.discard(ExitCode.INCOMPLETE)
    return next((code for code in PRECEDENCE if code in found), ExitCode.PASSED)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: its name, how many items, what that means; `skipped` says why it was not."""

    name: str
    items: int = 0
    sentence: str
    skipped: str = ""


class LogName(msgspec.Struct, frozen=True, kw_only=True):
    """Which log a report is about; `log_id` and `head` are hexadecimal, positions are those that were looked at."""

    origin: str
    log_id: str
    segment: int
    schema: int
    first_position: int
    last_position: int
    head: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an audit command. It holds no time: the same log and arguments give the same report.

    `findings` names at most `LISTED` of them, by position; `counts` has the number of all per exit code.
    """

    command: str
    log: LogName
    events: int
    commits: int
    exit_code: ExitCode
    verdict: str
    checks: tuple[Check, ...] = ()
    findings: tuple[Finding, ...] = ()
    counts: dict[str, int] = {}


def printable(text: str) -> str:
    """A stored name as text that can be written anywhere: what is no UTF-8 in a changed row becomes a mark."""
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="replace")


def cleaned(finding: Finding) -> Finding:
    """With names that can be written anywhere."""
    return Finding(
        code=finding.code,
        position=finding.position,
        stream=printable(finding.stream),
        topic=printable(finding.topic),
        sentence=printable(finding.sentence),
    )
