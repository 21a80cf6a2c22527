"""Context: lines of one request, one pass and one breach can be found together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from domain.chain import display
from domain.events import Envelope, Recorded, ResolvedAs
from tests.support.towers import Bench
from tests.unit.test_contests import FINAL, MINED, SWEPT, resolved
from tests.unit.test_reporter import BREACH, COMMIT, CONFIRMED, PREPARED, SEEN, SENT, STREAM
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.reporter import Reporter
from watchtower.telemetry.tasks import TaskReport


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """No context is left behind."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


@pytest.mark.asyncio
async def test_each_request_has_a_name_of_its_own(tmp_path: Path) -> None:
    """In the header of good answers and of problems, where the document has it too; the client's own is not used."""
    async with Bench(tmp_path).http() as http:
        good = await http.get("/healthz", headers={"X-Request-Id": "chosen"})
        bad = await http.get("/v1/nothing", headers={"X-Request-Id": "chosen"})
    names = [good.headers["x-request-id"], bad.headers["x-request-id"]]
    assert [True, True] == [bool(re.fullmatch("[0-9a-f]{16}", name)) for name in names]
    assert 2 == len(set(names))
    assert names[1] == bad.json()["request_id"]
    assert "request_id" not in get_contextvars()


@pytest.mark.asyncio
async def test_a_mistake_of_the_program_can_be_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 500 carries the name of the request, once, and so does its line in the log."""

    def broken(*_args: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr("watchtower.http.routes.read_query", broken)
    with capture_logs() as lines:
        async with Bench(tmp_path).http() as http:
            answer = await http.get("/v1/channels")
    (line,) = [line for line in lines if line["event"] == "http_rejected"]
    assert 500 == answer.status_code
    assert [line["request_id"]] == answer.headers.get_list("x-request-id")
    assert line["request_id"] == answer.json()["request_id"]


def test_a_task_names_its_lines() -> None:
    """From inside a running task, and not behind its end."""
    report = TaskReport(Metrics(build=("0", "0", "regtest", "sqlite")), "reporter")
    with report.running():
        inside = get_contextvars()
    assert ({"task": "reporter"}, {}) == (inside, get_contextvars())


def test_every_event_of_a_breach_carries_its_name() -> None:
    """From the detection to the end, whichever transaction the event itself is about; what came before does not."""
    metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
    events = [SEEN, BREACH, CONFIRMED, MINED, PREPARED, SENT, SWEPT, FINAL, resolved(ResolvedAs.PUNISHED)]
    log = [Recorded(number, Envelope(STREAM, number, event.TOPIC, event)) for number, event in enumerate(events, 1)]
    with capture_logs() as lines:
        Reporter(OneLog(log), metrics).catch_up()
    named = [line.get("breach_id") for line in lines]
    assert [None, *[display(COMMIT)] * 8] == named


class OneLog:
    """A log that got these events after the reporter had begun."""

    def __init__(self, events: list[Recorded]) -> None:
        self._events = events

    def last_id(self) -> int:
        """Where the reporter begins."""
        return 0

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The rest."""
        return self._events[after_id : after_id + limit]

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """It is all there."""
        del timeout
        return after_id < len(self._events)
