"""Says which tests were played a second time, why, and ends red when they are many (docs/adr/0036-second-play.md).

`make test RERUNS=1` lets a failed test be played once more. With 0, the default, nothing here does anything.
"""

from __future__ import annotations

import socket
from collections.abc import Generator

import pytest

ALLOWED = 3
"""Second plays that one run of pytest may need before it is red in any case."""

LINES = 15
"""How much of the end of a first failure is shown."""


class SecondPlays:
    """What failed at first in this run, with the end of its failure."""

    def __init__(self, allowed: int = ALLOWED) -> None:
        self.allowed = allowed
        self.failures: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test; the plugin that plays it again names its first failure `rerun`."""
        if str(report.outcome) == "rerun":
            self.failures.append((report.nodeid, report.longreprtext))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A chance is forgiven; a habit isn't."""
        if len(self.failures) > self.allowed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A section of its own, so that each is seen and mended."""
        if not self.failures:
            return
        terminalreporter.section(f"played twice: {len(self.failures)}, at most {self.allowed} are allowed")
        for name, failure in self.failures:
            terminalreporter.write_line(name)
            for line in failure.splitlines()[-LINES:]:
                terminalreporter.write_line(f"    {line[:300]}")


FAILED = pytest.StashKey[bool]()
"""Set on a test of which a phase has failed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure until the teardown."""
    report = yield
    if call.when != "teardown":
        item.stash[FAILED] = report.failed or item.stash.get(FAILED, False)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """After a failure the fixtures of the module and of the session are torn down, too.

    What they hold is random in part (names of streams, keys, ports): a second play with the same would only fail again.
    First of all the hooks, as the plugin that plays again forgets their ends otherwise.
    """
    if item.stash.get(FAILED, False):
        del item.stash[FAILED]
        item.session._setupstate.teardown_exact(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is generated is reproducible: a failure is one, and is not played again."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.flaky(reruns=0))


def pytest_configure(config: pytest.Config) -> None:
    """Only where the results of all workers come together."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SecondPlays())


def pytest_sessionstart(session: pytest.Session) -> None:
    """A worker says and asks in small pieces how often a test was played; held back, they cost 40 ms for each test."""
    line = getattr(getattr(session.config, "failures_db", None), "sock", None)
    if hasattr(session.config, "workerinput") and line is not None:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
