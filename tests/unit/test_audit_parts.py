"""Parts of the audit: progress, processes, shares of streams, plans of damaged chains."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.tampering import SqliteVictim, audit, chained, content_of, drop_commit, grown, row, state
from watchtower.audit import domain_rules, versions
from watchtower.audit.findings import ExitCode, Finding, cleaned
from watchtower.audit.plan import plan
from watchtower.audit.progress import Progress, style_for
from watchtower.audit.rules import rules_for
from watchtower.audit.workers import Stop, WorkerLost, Workers
from watchtower.store.source import LogSource


@pytest.fixture
def victim(tmp_path: Path) -> SqliteVictim:
    """A log of 41 commits."""
    made = SqliteVictim(tmp_path)
    with made.source() as source:
        honest = grown(source, random.Random(5), commits=40)
    made.replace(honest)
    return made


class Seconds:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


def shown(style: str, *steps: tuple[float, int]) -> str:
    """What stands on stderr after these moments and numbers of 1,000 items."""
    clock, stream = Seconds(), io.StringIO()
    progress = Progress(style, stream, clock)  # type: ignore[arg-type]
    progress.begin("verify", 1_000)
    for clock.now, done in steps:
        progress.show(done)
    progress.end()
    return stream.getvalue()


def test_lines_come_every_ten_seconds() -> None:
    """Not more often, and none at the end: the report follows."""
    text = shown("plain", (1, 100), (10, 500), (19, 900), (21, 950), (22, 1_000))

    assert (
        "progress stage=verify position=500 of=1000 rate=50\nprogress stage=verify position=950 of=1000 rate=45\n"
        == text
    )


def test_programs_get_every_step() -> None:
    """One document per line."""
    lines = shown("json", (1, 100), (2, 1_000)).splitlines()

    assert [100, 1_000] == [json.loads(line)["position"] for line in lines]


def test_the_bar_tells_what_is_left() -> None:
    """One line that is drawn again, closed at the end."""
    text = shown("bar", (5, 500), (5.01, 501), (10, 1_000))

    assert ["[############............]", "100/s", "5 s left"] == [
        part for part in ("[############............]", "100/s", "5 s left") if part in text
    ]
    assert "501" not in text
    assert text.endswith("\n")


def test_nothing_is_said_if_nobody_asked() -> None:
    """Not even at the end."""
    assert "" == shown("none", (100, 1_000))


def test_the_style_follows_the_terminal() -> None:
    """Lines where no terminal is, and what was asked for in any case."""
    assert ["plain", "json"] == [style_for(None, io.StringIO()), style_for("json", io.StringIO())]


def test_a_resumed_stage_counts_only_its_own_speed() -> None:
    """What an earlier run has done took no time of this one."""
    clock, stream = Seconds(), io.StringIO()
    progress = Progress("json", stream, clock)
    progress.begin("verify", 1_000, 900)
    clock.now = 10.0
    progress.show(1_000)

    assert 10 == json.loads(stream.getvalue())["rate"]


def test_names_that_are_no_text_can_be_written() -> None:
    """Every report can be encoded."""
    finding = cleaned(Finding(code=ExitCode.ORDER, stream="c\udcff", topic="ok", sentence="stream c\udcff"))

    assert ("c\ufffd", "ok") == (finding.stream, finding.topic)


@pytest.mark.parametrize("events", [1, 20])
def test_shares_of_streams_find_the_same(
    victim: SqliteVictim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    """With one share or many, for versions and for rules: one report."""
    with victim.source() as source:
        rows = [*source.rows(1, 1), *(row(at, f"c{at % 7}", 2 * (at // 7) + 1, state(at)) for at in range(2, 90))]
        tampered = chained(source.meta, rows, [1] * len(rows))
    victim.replace(tampered)
    with victim.source() as source:
        whole = audit(source, tmp_path / "one", rules=rules_for(signatures=False), stretch=10)
        monkeypatch.setattr(versions, "SHARE_EVENTS", events)
        monkeypatch.setattr(domain_rules, "SHARE_EVENTS", events)
        shared = audit(source, tmp_path / "two", rules=rules_for(signatures=False), stretch=10)

    assert whole == shared
    assert whole.counts["21"] > 7


def test_a_plan_covers_every_commit_of_a_damaged_chain(victim: SqliteVictim) -> None:
    """Wherever a commit is missing, stretches follow each other without a hole."""
    with victim.source() as source:
        honest = content_of(source)
    for seed in range(10):
        victim.replace(drop_commit(honest, random.Random(seed))[0])
        with victim.source() as source:
            stretches = plan(source, size=3).stretches

        borders = [(before.last_no, behind.first_no) for before, behind in pairwise(stretches)]
        assert len(stretches) > 10
        assert all(first_no == last_no + 1 for last_no, first_no in borders)
        assert honest.commits[-1].commit_no == stretches[-1].last_no


def end_at_once(_source: LogSource, _stop: Stop, _piece: int) -> None:
    """A piece on which the system ends the process."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_lost_process_is_told(victim: SqliteVictim) -> None:
    """The audit does not hang, and does not pass."""
    with victim.source() as source:
        workers = Workers(source, 2, threading.Event())
        with pytest.raises(WorkerLost, match="fewer --jobs"):
            list(workers.run(end_at_once, [1, 2, 3]))
        workers.close()
