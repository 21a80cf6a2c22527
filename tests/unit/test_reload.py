"""SIGHUP inside the process: what may change, what waits for a restart, and that nothing changes by mistake."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from watchtower.config import ConfigError, Loaded, NotifySettings, Secret, Settings
from watchtower.config.fields import all_fields
from watchtower.config.sections import ApiSettings, LogSettings, PolicySettings
from watchtower.host.supervisor import Supervisor
from watchtower.http.buckets import Buckets, RateLimited
from watchtower.reload import Changes, Reload, compare, nothing
from watchtower.telemetry.logging import configure

READY = "READY=1"


class Stage:
    """A reload whose sources are set by the test, with a log in memory and a manager's socket."""

    def __init__(self, path: Path) -> None:
        self.out = io.StringIO()
        self.control = configure("info", "json", stream=self.out, environ={})
        self.wanted: Settings | Exception = Settings()
        self.reload = Reload(Loaded(Settings(), {}, (), "config.toml"), self._read, self.control)
        self.adopted: list[Changes] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.manager = Supervisor({"NOTIFY_SOCKET": str(path)})

    def _read(self) -> Loaded:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return Loaded(self.wanted, {}, ("a warning",), "config.toml")

    def ask(self, wanted: Settings | Exception, *, is_ready: bool = True, prepare: Any = nothing) -> list[str]:
        """Ask once; what the manager was told."""
        self.wanted = wanted
        asyncio.run(self._served(is_ready=is_ready, prepare=prepare))
        return self._told()

    async def _served(self, *, is_ready: bool, prepare: Any) -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        handled: list[bool] = []

        def ready() -> bool:
            # Asked at the beginning of each request: the second one says that the first one is over.
            handled.append(True)
            loop.call_later(0.05, self.reload.ask)
            done.set() if len(handled) > 1 else None
            return is_ready and len(handled) == 1

        self.reload.ask()
        task = loop.create_task(
            self.reload.serve(self.manager, is_ready=ready, prepare=prepare, adopt=self.adopted.append)
        )
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _told(self) -> list[str]:
        told = []
        while True:
            try:
                told.append(self.socket.recv(300).decode())
            except BlockingIOError:
                return told

    def events(self) -> list[tuple[str, str]]:
        """(name, level) of each line."""
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [(line["event"], line["level"]) for line in lines]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage; the log's settings are put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = Stage(tmp_path / "notify")
    yield made
    made.socket.close()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_only_what_may_change_is_taken_over() -> None:
    """Level, targets and quotas are; an address and the format are named and keep their values."""
    wanted = Settings(
        log=LogSettings(level="debug", format="console"),
        api=ApiSettings(listen="127.0.0.1:1", max_requests_per_key=3),
        policy=PolicySettings(max_channels=5, max_conditions=7),
        notify=NotifySettings(ntfy_url=Secret("https://ntfy.example/t")),
        max_value=50_000,
    )
    changes = compare(Settings(), wanted)
    taken = Settings(
        log=LogSettings(level="debug"),
        api=ApiSettings(max_requests_per_key=3),
        policy=PolicySettings(max_channels=5),
        notify=NotifySettings(ntfy_url=Secret("https://ntfy.example/t")),
    )
    assert taken == changes.settings
    assert {"log.level", "api.max_requests_per_key", "policy.max_channels", "notify.ntfy_url"} == set(changes.changed)
    assert {"log.format", "api.listen", "policy.max_conditions", "max_value"} == set(changes.needs_restart)
    assert changes.notify


def test_nothing_changed_is_nothing_to_do() -> None:
    """The same settings again change nothing."""
    assert Changes(Settings(), (), ()) == compare(Settings(), Settings())


def test_the_reloadable_keys_exist() -> None:
    """Level, quotas and the whole section of notifications; no key of a path, an address or a secret of the tower."""
    named = {field.name for field in all_fields() if field.reloadable}
    assert {"log", "api", "policy", "notify"} == {name.partition(".")[0] for name in named}
    assert 8 == len([name for name in named if not name.startswith("notify.")])


def test_the_manager_hears_of_it_and_the_level_changes(stage: Stage) -> None:
    """RELOADING with the time, then READY; the event names what changed, never a value."""
    told = stage.ask(Settings(log=LogSettings(level="debug"), max_value=21_212_121))
    assert ["RELOADING=1", READY] == [text.partition("\n")[0] for text in told]
    assert told[0].partition("MONOTONIC_USEC=")[2].isdecimal()
    assert "debug" == stage.control.level
    assert ("config_reloaded", "info") == stage.events()[0]
    assert "21212121" not in stage.out.getvalue()
    assert "max_value has changed and needs a restart" in stage.out.getvalue()


def test_before_the_tower_is_ready_the_manager_is_told_nothing(stage: Stage) -> None:
    """READY=1 would call a tower ready that is not."""
    assert [] == stage.ask(Settings(log=LogSettings(level="debug")), is_ready=False)
    assert "debug" == stage.control.level


@pytest.mark.parametrize("error", [ConfigError(["log.level must be one of"]), OSError("the disk is gone")])
def test_what_cannot_be_read_changes_nothing(stage: Stage, error: Exception) -> None:
    """It is logged as an error, the manager hears that the tower is ready again, and nothing was adopted."""
    told = stage.ask(error)
    assert [] == stage.adopted
    assert READY == told[-1]
    assert Settings() == stage.reload.settings
    assert ("config_refused", "error") == stage.events()[0]


def test_what_cannot_be_prepared_changes_nothing(stage: Stage) -> None:
    """A target that cannot be used leaves level and quotas as they are, too."""

    def refuse(_changes: Changes) -> None:
        raise ConfigError(["notify.ca_path cannot be read"])

    stage.ask(Settings(log=LogSettings(level="debug")), prepare=refuse)
    assert ([], "info") == (stage.adopted, stage.control.level)
    assert "notify.ca_path cannot be read" in stage.out.getvalue()


def test_fewer_lines_begin_behind_the_answer(stage: Stage) -> None:
    """Who asks for errors only still reads that this was taken over."""
    stage.ask(Settings(log=LogSettings(level="error")))
    assert ("config_reloaded", "info") == stage.events()[0]
    assert "error" == stage.control.level


def test_a_bucket_is_refilled_faster_from_now_on() -> None:
    """What was used stays used; the new rate counts from the next request."""
    buckets = Buckets(1.0)
    buckets.take(b"a", 0.0)
    buckets.take(b"a", 0.0)
    buckets.refill(10.0)
    buckets.take(b"a", 0.1)
    with pytest.raises(RateLimited):
        buckets.take(b"a", 0.1)
