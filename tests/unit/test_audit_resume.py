"""An audit that was interrupted goes on where it was, and ends with the same report."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest

from tests.bench.bulk_log import write_rows
from tests.support.tampering import SqliteVictim, audit, content_of, flip, grown, state
from watchtower.audit.findings import ExitCode, Report
from watchtower.audit.known import KnownHead
from watchtower.audit.progress import Progress
from watchtower.audit.resume import Notebook, OtherRun
from watchtower.audit.rules import rules_for
from watchtower.audit.stopping import Interrupted
from watchtower.audit.verify import Audit, Wish

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STRETCH = 3


@pytest.fixture
def victim(tmp_path: Path) -> SqliteVictim:
    """A log of many stretches with one changed event."""
    made = SqliteVictim(tmp_path)
    with made.source() as source:
        honest = grown(source, random.Random(3), commits=30)
    made.replace(flip(honest, random.Random(4))[0])
    return made


class StopAfter(Progress):
    """Asks for the end after some results."""

    def __init__(self, results: int, stop: threading.Event) -> None:
        super().__init__("none", io.StringIO(), monotonic)
        self.results, self._stop, self._left = 0, stop, results

    def show(self, done: int) -> None:
        """Count."""
        self.results += 1
        self._left -= 1
        if self._left == 0:
            self._stop.set()


def run(victim: SqliteVictim, place: Path, results: int = -1, **wish: object) -> tuple[Report | None, int]:
    """The report of a run that is asked to stop after some results (None if it did), and how many there were."""
    stop = threading.Event()
    progress = StopAfter(results, stop)
    asked = Wish(stretch=STRETCH, rules=rules_for(signatures=True), **wish)  # type: ignore[arg-type]
    with victim.source() as source:
        try:
            report = Audit(source, asked, Notebook(place, place.parent, monotonic), progress, stop).run()
        except Interrupted:
            return None, progress.results
    return report, progress.results


@pytest.mark.parametrize("results", [1, 2, 7])
def test_an_interrupted_audit_goes_on(victim: SqliteVictim, tmp_path: Path, results: int) -> None:
    """Nothing is done twice, and the report is that of a run in one piece."""
    whole, all_results = run(victim, tmp_path / "whole")

    interrupted, before = run(victim, tmp_path / "state", results)
    report, after = run(victim, tmp_path / "state")

    assert interrupted is None
    assert whole == report
    assert all_results == before + after


def test_a_finished_audit_leaves_nothing(victim: SqliteVictim, tmp_path: Path) -> None:
    """The next audit begins anew."""
    before = {path.name for path in tmp_path.iterdir()}

    run(victim, tmp_path / "state", 2)
    run(victim, tmp_path / "state")

    assert before | {path.name for path in tmp_path.glob("log.db-*")} == {path.name for path in tmp_path.iterdir()}


def test_a_file_of_somebody_else_beside_the_parts_withholds_no_report(victim: SqliteVictim, tmp_path: Path) -> None:
    """What is left behind is only that file."""
    parts = tmp_path / "state.parts"
    parts.mkdir()
    (parts / "mine").write_text("precious")

    report, _ = run(victim, tmp_path / "state")

    assert report is not None
    assert ["mine"] == [path.name for path in parts.iterdir()]


@pytest.mark.parametrize("wish", [{"first": 2}, {"strict_time": True}, {"storage": False}])
def test_other_arguments_are_refused(victim: SqliteVictim, tmp_path: Path, wish: dict[str, object]) -> None:
    """A report must not be put together from two different audits."""
    run(victim, tmp_path / "state", 2)

    with pytest.raises(OtherRun, match="other arguments"):
        run(victim, tmp_path / "state", **wish)


@pytest.mark.parametrize("text", [b"", b"{}", b"[1, 2]", b"\xff", b"[" * 100_000])
def test_another_file_is_refused(victim: SqliteVictim, tmp_path: Path, text: bytes) -> None:
    """Whatever the file is, it is left alone."""
    (tmp_path / "state").write_bytes(text)

    with pytest.raises(OtherRun):
        run(victim, tmp_path / "state")

    assert text == (tmp_path / "state").read_bytes()


def test_a_log_that_was_replaced_meanwhile_is_a_fork(victim: SqliteVictim, tmp_path: Path) -> None:
    """The heads that the first part saw are gone."""
    run(victim, tmp_path / "state", 2)
    with victim.source() as source:
        other = grown(source, random.Random(3), commits=30, seed=9)
    victim.replace(other)

    report, _ = run(victim, tmp_path / "state")

    assert report is not None
    assert ExitCode.FORK == report.exit_code


def test_a_log_that_grew_meanwhile_is_checked_to_the_old_end(victim: SqliteVictim, tmp_path: Path) -> None:
    """The end is the one of the first run: the report is about one state of the log."""
    whole, _ = run(victim, tmp_path / "whole")
    run(victim, tmp_path / "state", 2)
    with victim.source() as source:
        longer = grown(source, random.Random(3), commits=40)
    victim.replace(flip(longer, random.Random(4))[0])

    report, _ = run(victim, tmp_path / "state")

    assert whole is not None
    assert report is not None
    assert whole.log == report.log


def test_known_heads_may_move_on_meanwhile(victim: SqliteVictim, tmp_path: Path) -> None:
    """The tower's own mark is further when the audit goes on: the same arguments all the same."""
    with victim.source() as source:
        commits = content_of(source).commits
    early, late = (
        KnownHead(log_id=bytes(16), epoch=0, position=commit.last_id, head=commit.head, source="the mark")
        for commit in (commits[3], commits[9])
    )
    whole, _ = run(victim, tmp_path / "whole", known=(late,))
    run(victim, tmp_path / "state", 2, known=(early,))

    report, _ = run(victim, tmp_path / "state", known=(late,))

    assert whole == report


def test_a_lost_part_is_done_again(victim: SqliteVictim, tmp_path: Path) -> None:
    """A file of versions that is missing or changed costs time, not truth."""
    whole, _ = run(victim, tmp_path / "whole")
    run(victim, tmp_path / "state", 4)
    parts = sorted((tmp_path / "state.parts").iterdir())
    parts[0].unlink()
    parts[1].write_bytes(b"something else")

    report, _ = run(victim, tmp_path / "state")

    assert whole == report


def test_any_number_of_processes_gives_the_same_report(victim: SqliteVictim, tmp_path: Path) -> None:
    """Stretches are the same, and findings are sorted."""
    with victim.source() as source:
        alone = audit(source, tmp_path / "one", stretch=STRETCH)
        together = audit(source, tmp_path / "two", stretch=STRETCH, jobs=2)

    assert alone == together


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that takes a second or two, with a time that runs back in it."""
    rows = ((f"c{at % 500:022d}", at // 500 + 1, "re06", state(at, 10**9 * (at % 70_000))) for at in range(150_000))
    return write_rows(tmp_path_factory.mktemp("long"), rows)


def command(log: Path, place: Path, *begin: str) -> list[str]:
    """The real command, with a line of progress for each result; `begin` is another way to start the program."""
    verify = ["audit", "verify", "--log", str(log), "--resume", str(place)]
    options = ["--json", "--progress", "json", "--jobs", "2", "--no-domain-rules"]
    return [sys.executable, *(begin or ("-m", "watchtower")), *verify, *options]


def finished(log: Path, place: Path) -> subprocess.CompletedProcess[bytes]:
    """A run that nobody interrupts."""
    return subprocess.run(command(log, place), capture_output=True, check=False, cwd=ROOT, timeout=100)


@pytest.fixture(scope="module")
def whole(long_log: Path) -> bytes:
    """What a run in one piece prints."""
    return finished(long_log, long_log.with_name("whole")).stdout


HELD = """
import sys
from watchtower.audit.progress import Progress
from watchtower.cli import main

show = Progress.show

def show_and_wait(progress, done):
    show(progress, done)
    sys.stdin.read()

Progress.show = show_and_wait
main()
"""
"""The command, which waits behind its first result until its input ends: a signal comes in the middle for certain."""


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["SIGINT", "kill -9"])
def test_the_report_after_a_signal_is_the_same(
    long_log: Path, whole: bytes, tmp_path: Path, how: signal.Signals, code: int
) -> None:
    """Interrupted or killed after its first result, the same command ends with the report of a run in one piece."""
    held = command(long_log, tmp_path / "state", "-c", HELD)
    pipe = subprocess.PIPE
    with subprocess.Popen(held, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        process.send_signal(how)
        printed, _ = process.communicate()
    second = finished(long_log, tmp_path / "state")
    resumed = json.loads(second.stderr.splitlines()[0])

    assert (code, b"") == (process.returncode, printed)
    assert (0, whole) == (second.returncode, second.stdout)
    assert first["position"] < resumed["position"]
    assert resumed["position"] > 32_768
    assert {"50": 3} == json.loads(whole)["counts"]
