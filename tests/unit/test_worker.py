"""The process that answers questions, seen from outside; validators and descriptors use it elsewhere."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchtower.worker import MAX_FRAME, WAITING, Worker, WorkerBusy, WorkerFailed, WorkerSlow, WorkerUnavailable

pytestmark = pytest.mark.slow

ECHO = "tests.support.answerers:echo"


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker that follows orders and may take its time."""
    made = Worker(ECHO, ("hello",), seconds=60.0)
    yield made
    made.close()


@pytest.fixture
def hasty() -> Iterator[Worker]:
    """The same with a short limit."""
    made = Worker(ECHO, ("hello",), seconds=1.5)
    yield made
    made.close()


def test_arguments_and_questions_arrive(worker: Worker) -> None:
    """The function is made with its arguments and asked with the bytes."""
    assert b"hello: question" == worker.ask(b"question")


def test_one_process_answers_many_questions_until_it_is_closed(worker: Worker) -> None:
    """Starting an interpreter per question would cost a hundred times more."""
    first, second = worker.ask(b"pid"), worker.ask(b"pid")
    worker.close()

    assert first == second
    assert first != worker.ask(b"pid")


def test_a_process_that_died_between_questions_is_replaced(worker: Worker) -> None:
    """The next question does not pay for it."""
    pid = int(worker.ask(b"pid").split()[-1])
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert b"hello: again" == worker.ask(b"again")


def test_children_of_foreign_code_end_with_it(worker: Worker) -> None:
    """A validator that started a process of its own and is closed leaves nobody behind."""
    child = int(worker.ask(b"child").split()[-1])
    worker.close()

    assert ends(child)


def test_children_of_foreign_code_end_when_it_dies(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same if the process in the middle ends by itself, during a question."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WorkerFailed, match="died"):
        worker.ask(b"child and death")

    assert ends(int((tmp_path / "pid").read_text()))


def ends(pid: int) -> bool:
    """Whether a process that is not our child ends within some seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 30.0)[0])
    finally:
        os.close(handle)


@pytest.mark.slow
def test_the_time_limit_holds_and_ends_the_process(hasty: Worker) -> None:
    """A question that takes too long fails in time; its process is gone, the next question is answered."""
    pid = int(hasty.ask(b"pid").split()[-1])
    begun = time.monotonic()

    with pytest.raises(WorkerSlow, match=r"within 1\.5 s"):
        hasty.ask(b"sleep")

    assert time.monotonic() - begun < 60
    assert b"hello: next" == hasty.ask(b"next")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_a_question_that_nobody_reads_does_not_block(hasty: Worker) -> None:
    """Sending is limited in time too: a stopped process reads nothing."""
    os.kill(int(hasty.ask(b"pid").split()[-1]), signal.SIGSTOP)

    with pytest.raises(WorkerSlow):
        hasty.ask(bytes(MAX_FRAME))


def test_two_answers_to_one_question_are_none(worker: Worker) -> None:
    """The second one would be taken for the answer to the next question."""
    with pytest.raises(WorkerFailed, match="died"):
        worker.ask(b"twice")

    assert b"hello: next" == worker.ask(b"next")


@pytest.mark.parametrize("size", [MAX_FRAME + 1, 2 * MAX_FRAME])
def test_questions_have_a_limit(worker: Worker, size: int) -> None:
    """Above the limit nothing is sent."""
    with pytest.raises(WorkerFailed, match="above the limit"):
        worker.ask(bytes(size))


def test_answers_have_a_limit(worker: Worker) -> None:
    """A process cannot fill the memory of its parent."""
    with pytest.raises(WorkerFailed, match="too long"):
        worker.ask(b"much")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("tests.support.answerers:absent", "absent"),
        ("tests.support.nowhere:echo", "nowhere"),
        ("nothing", "package.module:name"),
        ("tests.support.answerers:dies", "it ended"),
        ("tests.support.answerers:refuses", "not today"),
    ],
)
def test_a_process_that_cannot_start_says_why(target: str, words: str) -> None:
    """The reason is in the error, and the question was not looked at."""
    worker = Worker(target)

    with pytest.raises(WorkerUnavailable, match=words):
        worker.ask(b"question")

    worker.close()


def test_an_end_behind_the_limit_is_that_of_a_slow_question(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine stood still: its own alarm clock ended the process before this side could."""
    pid = int(worker.ask(b"pid").split()[-1])
    worker.seconds = 0.1

    def late(running: object, deadline: float) -> bytes:
        os.kill(pid, signal.SIGKILL)
        threading.Event().wait(2 * worker.seconds)
        raise EOFError

    with monkeypatch.context() as patch, pytest.raises(WorkerSlow):
        patch.setattr("watchtower.worker._Running.receive", late)
        worker.ask(b"sleep")

    assert b"hello: next" == worker.ask(b"next")


def test_few_questions_wait_for_a_slow_answer(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five at once: one is turned away soon, instead of holding a thread for the time of all others."""
    monkeypatch.setattr("watchtower.worker.PATIENCE", 0.05)
    pid = int(worker.ask(b"pid").split()[-1])
    errors: list[type[Exception]] = []

    def ask() -> None:
        with pytest.raises(WorkerFailed) as raised:
            worker.ask(b"sleep")
        errors.append(raised.type)

    threads = [threading.Thread(target=ask) for _ in range(WAITING)]
    for thread in threads:
        thread.start()
    while worker._places._value:
        threading.Event().wait(0.01)
    with pytest.raises(WorkerBusy):
        worker.ask(b"too many")
    early = list(errors)
    worker.seconds = 0.1
    os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join(60)

    assert [] == early
    assert errors[0] in {WorkerFailed, WorkerSlow}  # it may not have been asked yet when the process was killed
    assert [WorkerSlow] * (WAITING - 1) == errors[1:]
    worker.seconds = 60.0
    assert b"hello: again" == worker.ask(b"again")


def test_threads_get_their_own_answers(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions queue up and answers are not mixed up."""
    monkeypatch.setattr("watchtower.worker.PATIENCE", 60.0)
    answers: dict[bytes, bytes] = {}

    def ask(question: bytes) -> None:
        answers[question] = worker.ask(question)

    threads = [threading.Thread(target=ask, args=(b"%d" % number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {b"%d" % n: b"hello: %d" % n for n in range(10)} == answers


def test_a_forgotten_worker_ends_its_process() -> None:
    """No process outlives the object that asked it."""
    worker = Worker(ECHO, ("x",))
    pid = int(worker.ask(b"pid").split()[-1])

    del worker

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
