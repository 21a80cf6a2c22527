"""States that other processes verify: only their yes is believed, and nobody waits for one that is not there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.contract.state import NOT_GIVEN
from domain.errors import InvalidSignature
from domain.opening import StateContent
from domain.units import Side
from tests.support.new_towers import create
from tests.support.parties import Pair, htlc, make_party, open_pair
from tests.support.towers import Bench
from watchtower.bootstrap import api
from watchtower.bootstrap.parts import open_parts
from watchtower.channels.accept_state import accept_state
from watchtower.channels.context import Context
from watchtower.channels.lanes import lanes
from watchtower.channels.reading import content_of
from watchtower.channels.register import register
from watchtower.config import load
from watchtower.http.services import Services, bind
from watchtower.telemetry.metrics import Metrics
from watchtower.verification import processes
from watchtower.verification.processes import EACH, FAILURES, VerifyingProcesses
from watchtower.verification.question import NO, TARGET, Question, answer, encode_question, yes_to
from watchtower.wire.api import UpdateRequest
from watchtower.wire.hexes import Hex64
from watchtower.worker import Worker, WorkerFailed, WorkerUnavailable

OWNER = Side.B
SECONDS = 30
"""How long a thread may take on a busy machine."""

SIGNATURES = [(side, name) for side in ("a", "b") for name in ("state", "settle_a", "settle_b", "commit_peer")]


class Scripted(Worker):
    """Stands for a process: `reply` answers questions, `begin` may refuse to start."""

    def __init__(self, reply: Callable[[bytes], bytes], begin: Callable[[], None] = lambda: None) -> None:
        super().__init__("nothing:starts")
        self.reply, self.begin = reply, begin
        self.started = self.closed = self.asked = 0

    def start(self) -> None:
        """As told."""
        self.started += 1
        self.begin()

    def ask(self, question: bytes) -> bytes:
        """As told."""
        self.asked += 1
        return self.reply(question)

    def close(self) -> None:
        """Counted."""
        self.closed += 1


class Here:
    """Stands for `verify_content` in this process; its first caller stays inside until `leave`."""

    def __init__(self) -> None:
        self.entered, self.left = threading.Event(), threading.Event()
        self.seen: list[int] = []
        self.verdict: Callable[[], None] = lambda: None

    def verify(self, _params: object, _side: object, state: StateContent, _point: object, _publisher: object) -> None:
        """Notes the number of the state."""
        self.seen.append(state.header.seq)
        if len(self.seen) == 1:
            self.entered.set()
            assert self.left.wait(SECONDS)
            return
        self.verdict()


class Scene:
    """Processes as scripted, beside a caller who is being served here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *workers: Scripted) -> None:
        self.here, self.pair, self.workers = Here(), open_pair(), workers
        self.pair.updates(2)
        self.made = iter(workers)
        monkeypatch.setattr(processes, "verify_content", self.here.verify)
        self.processes = VerifyingProcesses(len(workers), lambda: next(self.made))
        self.callers = ThreadPoolExecutor(4)

    def ask(self, sequence: int = 2) -> None:
        """One state of the pair."""
        self.processes.verify(*arguments(self.pair, sequence))

    def busy(self) -> Future[None]:
        """A first caller who is inside."""
        first = self.callers.submit(self.ask, 1)
        assert self.here.entered.wait(SECONDS)
        return first

    def settle(self) -> None:
        """Wait until no process starts any more."""
        while starting := [thread for thread in threading.enumerate() if thread.name == "verifier-start"]:
            starting[0].join(SECONDS)

    def ready(self) -> None:
        """A first caller who stays, and a second one for whom the processes were started."""
        self.busy()
        self.ask()
        self.settle()
        self.here.seen[1:] = []

    def end(self) -> None:
        """Nobody is left inside."""
        self.here.left.set()
        self.callers.shutdown()
        self.processes.close()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    """Makes one scene and ends it."""
    made: list[Scene] = []

    def make(*workers: Scripted) -> Scene:
        made.append(Scene(monkeypatch, *workers))
        return made[-1]

    yield make
    made[0].end()


def arguments(pair: Pair, sequence: int) -> tuple[object, ...]:
    """What `verify_content` is asked about a state of the pair."""
    content = content_of(pair.update_request(OWNER, sequence).state)
    return pair.params, OWNER, content, pair.point(OWNER.other, sequence)


def question(pair: Pair, content: StateContent) -> bytes:
    """A state as it is sent to a process."""
    point = pair.point(OWNER.other, content.header.seq)
    return encode_question(Question(pair.params.encode(), OWNER, content, point, None))


def fails(_question: bytes = b"") -> bytes:
    """A process that dies."""
    raise WorkerFailed("the process died before it answered")


def unavailable() -> None:
    """A process that does not start."""
    raise WorkerUnavailable("no memory")


def no_processes_left() -> None:
    """The system refuses another process."""
    raise OSError("Resource temporarily unavailable")


def test_a_caller_who_is_alone_needs_no_process(scene: Callable[..., Scene]) -> None:
    """A tower with one client at a time starts nothing."""
    worker = Scripted(yes_to)
    quiet = scene(worker)
    quiet.here.left.set()

    quiet.ask(1)
    quiet.ask(2)

    assert [1, 2] == quiet.here.seen
    assert 0 == worker.started


def test_nobody_waits_for_a_process_that_starts(scene: Callable[..., Scene]) -> None:
    """The one for whom it is started is served here."""
    gate = threading.Event()
    slow = scene(Scripted(yes_to, lambda: assert_set(gate)))
    slow.busy()

    slow.ask(2)
    gate.set()

    assert [1, 2] == slow.here.seen


def assert_set(gate: threading.Event) -> None:
    """Wait for it."""
    assert gate.wait(SECONDS)


def test_the_yes_of_a_process_is_enough(scene: Callable[..., Scene]) -> None:
    """The state is not verified a second time."""
    worker = Scripted(yes_to)
    served = scene(worker)
    served.ready()

    served.ask(2)

    assert 1 == worker.asked
    assert [1] == served.here.seen


@pytest.mark.parametrize("said", [NO, b"yes", yes_to(b"another question"), bytes(32)])
def test_whatever_else_a_process_says_is_found_out_here(said: bytes, scene: Callable[..., Scene]) -> None:
    """The error is the one that verification here raises, and the process stays in use."""

    def refuse() -> None:
        raise InvalidSignature("found here")

    worker = Scripted(lambda _question: said)
    served = scene(worker)
    served.ready()
    served.here.verdict = refuse

    for _ in range(2):
        with pytest.raises(InvalidSignature, match="found here"):
            served.ask(2)

    assert 2 == worker.asked


def test_a_wrong_no_costs_time_only(scene: Callable[..., Scene]) -> None:
    """What is valid here is accepted."""
    served = scene(Scripted(lambda _question: NO))
    served.ready()

    served.ask(2)

    assert [1, 2] == served.here.seen


def test_a_process_that_fails_is_replaced_and_its_state_verified_here(scene: Callable[..., Scene]) -> None:
    """The next question goes to the new one."""
    worker = Scripted(fails)
    served = scene(worker)
    served.ready()
    served.ask(2)
    served.settle()
    worker.reply = yes_to

    served.ask(2)

    assert [1, 2] == served.here.seen
    assert (2, 2, 1) == (worker.started, worker.asked, worker.closed)


def test_processes_that_fail_again_and_again_are_given_up(scene: Callable[..., Scene]) -> None:
    """All states are verified here then, and nobody waits."""
    worker = Scripted(fails)
    served = scene(worker)
    served.ready()
    for _ in range(FAILURES + 2):
        served.ask(2)
        served.settle()

    assert FAILURES == worker.asked
    assert FAILURES == worker.closed
    assert [1] + [2] * (FAILURES + 2) == served.here.seen


@pytest.mark.parametrize("reason", [unavailable, no_processes_left])
def test_processes_that_do_not_start_are_not_waited_for(
    reason: Callable[[], None], scene: Callable[..., Scene]
) -> None:
    """Each start that fails counts; the states are verified here."""
    worker = Scripted(yes_to, reason)
    served = scene(worker)
    served.ready()

    served.ask(2)

    assert 0 == worker.asked
    assert FAILURES == worker.started
    assert [1, 2] == served.here.seen


def test_who_waits_for_a_busy_process_is_served_here_if_that_fails(scene: Callable[..., Scene]) -> None:
    """Nobody is left waiting for a process that is given up."""
    asked, gate = threading.Event(), threading.Event()

    def dies_later(_question: bytes) -> bytes:
        asked.set()
        assert gate.wait(SECONDS)
        raise WorkerFailed("it died")

    worker = Scripted(dies_later)
    served = scene(worker)
    served.ready()
    first = served.callers.submit(served.ask, 2)
    assert asked.wait(SECONDS)
    second = served.callers.submit(served.ask, 2)
    worker.begin = unavailable
    gate.set()
    first.result(SECONDS)
    second.result(SECONDS)

    assert 1 == worker.asked
    assert [1, 2, 2] == served.here.seen


def test_closing_ends_idle_processes_and_the_busy_one_behind_its_answer(scene: Callable[..., Scene]) -> None:
    """The answer still counts; later states are verified here."""
    asked, gate = threading.Event(), threading.Event()

    def answers_later(raw: bytes) -> bytes:
        asked.set()
        assert gate.wait(SECONDS)
        return yes_to(raw)

    both = Scripted(answers_later), Scripted(answers_later)
    served = scene(*both)
    served.ready()
    last = served.callers.submit(served.ask, 2)
    assert asked.wait(SECONDS)
    served.processes.close()
    closed_at_once = sum(worker.closed for worker in both)
    gate.set()
    last.result(SECONDS)
    served.ask(2)

    assert 1 == closed_at_once
    assert [1, 1] == [worker.closed for worker in both]
    assert [1, 2] == served.here.seen


@pytest.mark.parametrize("profile", [0, 1])
def test_a_process_says_yes_to_a_valid_state_with_conditions(profile: int) -> None:
    """What it reads from the question is the state that was asked about, in both profiles."""
    pair = open_pair(profile=profile)
    pair.with_htlcs(htlc(Side.A, 1, 20_000, 600), htlc(Side.B, 2, 300, 700))
    raw = question(pair, content_of(pair.update_request(OWNER, 1).state))

    assert yes_to(raw) == answer(raw)


@pytest.mark.parametrize(("side", "name"), SIGNATURES)
def test_a_process_says_no_to_each_forged_signature(side: str, name: str) -> None:
    """One bit in one of the eight."""
    pair = open_pair()
    pair.updates(1)
    content = content_of(pair.update_request(OWNER, 1).state)
    signatures = getattr(content, f"sigs_{side}")
    good = getattr(signatures, name)
    forged = msgspec.structs.replace(signatures, **{name: good[:-1] + bytes([good[-1] ^ 1])})

    assert NO == answer(question(pair, msgspec.structs.replace(content, **{f"sigs_{side}": forged})))


def test_a_process_knows_who_published() -> None:
    """The signature that a publisher did not give may be missing, and only then."""
    pair = open_pair()
    pair.updates(1)
    content = content_of(pair.update_request(OWNER, 1).state)
    cut = msgspec.structs.replace(content, sigs_a=msgspec.structs.replace(content.sigs_a, commit_peer=NOT_GIVEN))
    raw = [
        encode_question(Question(pair.params.encode(), OWNER, cut, pair.point(Side.A, 1), publisher))
        for publisher in (None, Side.A, Side.B)
    ]

    assert [NO, yes_to(raw[1]), NO] == [answer(each) for each in raw]


@pytest.mark.slow
def test_real_processes_serve_many_callers(tmp_path: Path) -> None:
    """Six channels upload at once; one begins with a forged state, which is refused. Everything else is stored."""
    tower, pairs = Bench(tmp_path), [named_pair(number) for number in range(6)]
    made = iter([Worker(TARGET, seconds=30), Worker(TARGET, seconds=30)])
    pool = VerifyingProcesses(2, lambda: next(made))
    context = msgspec.structs.replace(tower.context, verify=pool.verify, lanes=lanes(6))
    streams = [watched(tower, pair) for pair in pairs]
    begins = [partial(accept_state, context), *[partial(refused, context)] * 5]
    try:
        with ThreadPoolExecutor(6) as callers:
            stored = list(callers.map(partial(upload_all, context), begins, streams, pairs))
    finally:
        pool.close()

    assert [UPDATES] * 6 == stored


UPDATES = 8


def named_pair(number: int) -> Pair:
    """A pair with updates, between parties of their own."""
    names = (f"alice{number}", f"bob{number}")
    pair = open_pair(names=names, parties=(make_party(names[0]), make_party(names[1])))
    pair.updates(UPDATES)
    return pair


def watched(tower: Bench, pair: Pair) -> str:
    """The stream of a channel whose states can be uploaded."""
    tower.fund(pair)
    register(tower.context, pair.registration(OWNER))
    tower.confirm(pair)
    return tower.context.channels.stream_of(pair.params.proposal_id)


def refused(context: Context, stream: str, request: UpdateRequest) -> None:
    """The first state with a forged signature."""
    sent = request.state.signatures.a.state
    forged = msgspec.structs.replace(request.state.signatures.a, state=Hex64(sent[:-1] + bytes([sent[-1] ^ 1])))
    signatures = msgspec.structs.replace(request.state.signatures, a=forged)
    bad = msgspec.structs.replace(request, state=msgspec.structs.replace(request.state, signatures=signatures))
    with pytest.raises(InvalidSignature):
        accept_state(context, stream, bad)


def upload_all(context: Context, begin: Callable[[str, UpdateRequest], object], stream: str, pair: Pair) -> int:
    """All states of a pair, the first one after `begin`; the number of the last one stored."""
    begin(stream, pair.update_request(OWNER, 1))
    for sequence in range(1, UPDATES + 1):
        accept_state(context, stream, pair.update_request(OWNER, sequence))
    return context.channels.load(stream).sequence


@pytest.mark.slow
def test_a_service_verifies_in_processes_and_ends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The context of its API asks them, with lanes enough to keep them busy; they end with the parts."""
    pools: list[VerifyingProcesses] = []
    contexts: list[Context] = []

    def note(count: int) -> VerifyingProcesses:
        pools.append(VerifyingProcesses(count))
        return pools[-1]

    def look(context: Context, *others: Any, **facts: Any) -> Services:
        contexts.append(context)
        return bind(context, *others, **facts)

    monkeypatch.setattr(api, "VerifyingProcesses", note)
    monkeypatch.setattr(api, "bind", look)
    anywhere = {"listen": "127.0.0.1:0"}
    tower = create(tmp_path / "t", tmp_path / "t" / "config.toml", "regtest", {"api": anywhere, "admin": anywhere})
    settings = load({}, config_path=str(tower.config_path)).settings
    open_parts(settings, Metrics(build=("0", "0", "regtest", "sqlite"))).close()

    assert [pools[0].verify] == [context.verify for context in contexts]
    assert lanes(EACH)._value == contexts[0].lanes._value
    assert pools[0]._closed
