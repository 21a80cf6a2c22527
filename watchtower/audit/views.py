"""Comparing the read models of a tower with what follows from its log."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from domain.errors import LogCorrupt
from watchtower.audit.findings import Check, ExitCode, Finding
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.reader import LogReader
from watchtower.store.rebuild import replay_log

NAME = "views"
SENTENCE = "events replayed into read models, compared with those of the tower"


def not_compared(reason: str) -> tuple[Check, list[Finding]]:
    """What the report says if there is nothing to compare with."""
    return Check(name=NAME, sentence=SENTENCE, skipped=reason), []


def compare_views(open_log: Callable[[], LogReader], views: Path, *, required: bool) -> tuple[Check, list[Finding]]:
    """Fold the log anew and compare at the position of the read models. Raises `StoreError`.

    Read models of another log or version cannot be compared, nor any if the log lacks a segment or the user of the
    database may not read all that a fold needs; if they are `required`, the audit is incomplete.
    """
    try:
        with open_log() as log, tempfile.TemporaryDirectory() as scratch:
            report = replay_log(log, views, Path(scratch) / "views.db")
    except LogCorrupt as error:
        finding = Finding(code=ExitCode.REPLAY, sentence=f"the log cannot be replayed: {error}")
        return Check(name=NAME, sentence=SENTENCE, skipped="the replay failed"), [finding]
    except StoreCheckFailed as error:
        return _left_out(str(error), required=required)
    findings = [
        Finding(
            code=ExitCode.VIEWS,
            sentence=f"the read model {name} at position {report.position} differs from a replay of the log",
        )
        for name in report.differing
    ]
    findings += [
        Finding(
            code=ExitCode.REPLAY,
            position=stuck.id,
            stream=stuck.stream,
            sentence=f"event {stuck.id} cannot be folded ({stuck.error}); its stream is skipped from there on",
        )
        for stuck in report.stuck
    ]
    if report.compared:
        return Check(name=NAME, items=report.events, sentence=SENTENCE), findings
    check, gap = _left_out("they are missing, or were made by another version or from another log", required=required)
    return check, findings + gap


def _left_out(reason: str, *, required: bool) -> tuple[Check, list[Finding]]:
    """What the report says if they could not be compared; a finding only if somebody asked for it."""
    sentence = f"the read models were not compared: {reason}"
    gap = [Finding(code=ExitCode.INCOMPLETE, sentence=sentence)] if required else []
    return Check(name=NAME, sentence=SENTENCE, skipped=reason), gap
