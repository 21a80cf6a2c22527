"""Closing the segment of a log: when, by whom, and what a kill at any step leaves."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.exports import long_log
from tests.support.segment_logs import LATER, NEW, OLD, Killed, audit, killer, read_all, three_segments
from tests.support.stores import CHAIN_HASH, new_log, note
from watchtower.audit.findings import ExitCode
from watchtower.config import Settings
from watchtower.config.sections import StoreSettings
from watchtower.ports import StoreBusy, StoreError, StoreLocked
from watchtower.store.create import open_reader, open_store
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.places import open_log
from watchtower.store.segments.cut import close_grown_segment, close_segment
from watchtower.store.segments.names import segment_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test changes it."""
    return three_segments(tmp_path_factory.mktemp("three"))


@pytest.fixture
def log(three: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(three.parent, tmp_path / "log")
    return tmp_path / "log" / three.name


def test_a_log_of_another_network_gets_no_new_segment(log: Path) -> None:
    """Its last event could not be taken back; whoever set the wrong network is told at the start."""
    with open_reader(log) as reader:
        before = reader.last_id()

    with pytest.raises(StoreCheckFailed, match="the log follows another block chain"):
        close_grown_segment(log, 0, LATER, chain_hash=bytes(32))

    with open_reader(log) as reader:
        assert before == reader.last_id()


@pytest.mark.slow
def test_closing_needs_a_stopped_tower_and_no_reader(log: Path) -> None:
    """The lock of the tower, and any other program that has the file open, stop it; nothing is changed."""
    with open_store(log), pytest.raises(StoreLocked):
        close_segment(log, LATER)
    with open_reader(log) as reader:
        last = reader.last_id()
        with pytest.raises(StoreBusy, match="another program reads"):
            close_segment(log, LATER)
        assert not close_grown_segment(log, 0, LATER)
    with open_store(log) as store:
        assert (2, last) == (store.meta.segment, store.last_id())


@pytest.mark.slow
def test_a_reader_between_decision_and_switch_delays_only_the_switch(log: Path) -> None:
    """The tower waits for it with a sentence, and finishes afterwards."""
    with pytest.raises(Killed):
        close_segment(log, LATER, killer("segment_build:after"))
    with open_reader(log) as reader:
        reader.last_id()
        with pytest.raises(StoreBusy, match="another program reads"):
            open_store(log)
    with open_store(log) as store:
        assert 3 == store.meta.segment


def test_the_start_of_the_service_asks_for_it(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `store.segment_mb`, and not without."""
    asked = []
    monkeypatch.setattr(
        "watchtower.store.places.close_grown_segment", lambda path, limit, _, *, chain_hash: asked.append((path, limit))
    )
    for megabytes in (0, 3):
        store = StoreSettings(url=f"sqlite:{log}", segment_mb=megabytes)
        with pytest.raises(StoreCheckFailed, match="another block chain"):
            open_log(Settings(network="signet", store=store))

    assert [(log, 3 << 20)] == asked


def test_a_file_that_has_grown_is_closed_at_the_next_start(log: Path) -> None:
    """Not below the limit, and not again right afterwards."""
    size = log.stat().st_size
    with open_store(log) as store:
        store.append([note(NEW, 3)])

    assert not close_grown_segment(log, size, LATER)
    assert close_grown_segment(log, size - 1, LATER)
    assert not close_grown_segment(log, log.stat().st_size, LATER)
    assert not close_grown_segment(log.with_name("none.db"), 0, LATER)


def test_an_empty_segment_is_not_closed(tmp_path: Path) -> None:
    """A border behind a border would help nobody."""
    with pytest.raises(StoreError, match="nothing to close"):
        close_segment(new_log(tmp_path), LATER)


STEPS = [
    f"segment_{step}:{when}"
    for step in ("decide", "build", "detach", "link", "switch", "protect")
    for when in ("before", "after")
]


KILL = """
import os, signal, sys
from pathlib import Path
from watchtower.store.segments.cut import close_segment
def die(name):
    if name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
close_segment(Path(sys.argv[1]), int(sys.argv[2]), die)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_fault_P8_a_kill_at_any_step_leaves_the_old_or_the_new_state(tmp_path: Path, step: str) -> None:
    """All events are there, readers can read, and the next start has one segment or two, whole and verified."""
    path = long_log(tmp_path)
    before = read_all(path)
    killed = subprocess.run([sys.executable, "-c", KILL, str(path), str(LATER), step], check=False, timeout=60)
    between = read_all(path)
    with open_store(path, chain_hash=CHAIN_HASH) as store:
        store.append([note(OLD, store.version(OLD) + 1)])
        segments = store.meta.segment
    after = read_all(path)

    assert -signal.SIGKILL == killed.returncode
    assert before == between[: len(before)] == after[: len(before)]
    assert segments == (0 if step == "segment_decide:before" else 1)
    assert ExitCode.PASSED == audit(path, tmp_path / "scratch").exit_code
    assert not path.with_name(path.name + ".new").exists()


@pytest.mark.slow
def test_a_closing_that_was_interrupted_again_and_again_is_finished(tmp_path: Path) -> None:
    """Each opening begins the unfinished steps anew."""
    path = long_log(tmp_path)
    with pytest.raises(Killed):
        close_segment(path, LATER, killer("segment_link:after"))
    for step in ("segment_build:after", "segment_switch:before", "segment_protect:before"):
        with pytest.raises(Killed):
            open_store(path, failpoint=killer(step))
    with open_store(path) as store:
        assert 1 == store.meta.segment
    assert ExitCode.PASSED == audit(path, tmp_path / "scratch").exit_code


@pytest.mark.slow
def test_something_in_the_way_of_a_segment_is_not_overwritten(tmp_path: Path) -> None:
    """The closing says what to move, and goes on when it was moved."""
    path = long_log(tmp_path)
    segment_file(path, 0).parent.mkdir()
    segment_file(path, 0).write_text("precious")

    with pytest.raises(StoreError, match="in the way"):
        close_segment(path, LATER)
    assert "precious" == segment_file(path, 0).read_text()
    segment_file(path, 0).unlink()
    with open_store(path) as store:
        assert 1 == store.meta.segment


def test_fault_P4_a_full_disk_does_not_keep_a_tower_with_a_grown_log_from_starting(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little space for another file: nothing is decided, and the log is opened as it is."""
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=1_000))
    monkeypatch.setattr("watchtower.store.places.chain_hash", lambda _network: CHAIN_HASH)
    before = log.stat().st_size
    monkeypatch.setattr(
        "watchtower.store.places.close_grown_segment",
        lambda path, _limit, at, *, chain_hash: close_grown_segment(path, before - 1, at, chain_hash=chain_hash),
    )

    with open_log(Settings(network="regtest", store=StoreSettings(url=f"sqlite:{log}", segment_mb=1))) as store:
        last = store.last_id()
        appended = store.append([note(NEW, store.version(NEW) + 1)])

    assert (last + 1, 2) == (appended, store.meta.segment)
