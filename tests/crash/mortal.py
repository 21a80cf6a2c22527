"""A tower as a real process that dies at a named point; whoever waits for it starts it again, as systemd does."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from domain.units import Side
from tests.support.healthy import Watched, assert_tower_healthy
from tests.support.new_towers import create
from tests.support.parties import Pair, open_pair
from tests.support.service import ServiceProcess, settings_for
from watchtower.devnode.regtest import RegtestNode
from watchtower.wire.hexes import to_json

Value = TypeVar("Value")

SIGKILLED = -9


class Mortal:
    """Files of one tower and the process that serves them. `codes` are the exit codes of the processes that died."""

    def __init__(self, node: RegtestNode, directory: Path) -> None:
        self.node = node
        self.directory = directory
        self.made = create(directory, directory / "config.toml", "regtest", settings_for(node))
        self.codes: list[int] = []
        self._opened = 0
        self._service: ServiceProcess | None = None
        self._said: list[str] = []

    @property
    def service(self) -> ServiceProcess:
        """The process that runs now."""
        assert self._service is not None
        return self._service

    # ── processes ─────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """The program as it is shipped."""
        self._service = ServiceProcess(self.made.config_path)

    def start_failing(self, name: str, kind: str) -> None:
        """The same program with one point that fails."""
        arguments = ("-m", "tests.support.failing_service", str(self.made.config_path), name, kind)
        self._service = ServiceProcess(self.made.config_path, command=arguments)

    def start_with_files(self, limit: int) -> None:
        """The shipped program under a limit of open files that it cannot raise."""
        program = (
            f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit})); "
            "sys.argv = ['watchtower', *sys.argv[1:]]; runpy.run_module('watchtower', run_name='__main__')"
        )
        command = ("-c", program, "run", "--config", str(self.made.config_path))
        self._service = ServiceProcess(self.made.config_path, command=command)

    def revive(self) -> None:
        """If the process is dead, note how it ended and start the shipped program."""
        if self.service.process.poll() is None:
            return
        self._bury()
        self.start()

    def see_it_die(self) -> None:
        """The point may be the last one of a story: wait for the end of the failing process, unless that was seen."""
        if len(self.codes) < 2:
            self.service.exit_code(60.0)
            self.revive()
            self.service.wait_for("service_started")
            self.caught_up()

    def _bury(self) -> None:
        self.codes.append(self.service.exit_code())
        self._said += [json.dumps(line) for line in self.service.lines]
        self.service.close()

    def end(self) -> None:
        """An orderly stop of a process that has started: before that a signal ends it as it ends every program."""
        self.service.address("api")
        self.service.terminate()
        self._bury()

    def close(self) -> None:
        """Whatever happens."""
        if self._service is not None:
            self._service.close()

    def until(self, predicate: Callable[[], Value | None], seconds: float = 60.0) -> Value:
        """The first true value, asked after each log line; a dead process is revived meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.revive()
            if value := predicate():
                return value
            self.service.next_line(0.2)
        raise AssertionError(f"not within {seconds} s; the log says {json.dumps(self.service.lines[-20:], indent=1)}")

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, path: str, body: object = None) -> dict[str, Any]:
        """A client repeats its request until it is answered with success."""
        return self.until(lambda: self._ask(path, body))

    def _ask(self, path: str, body: object) -> dict[str, Any] | None:
        if not any(line["event"] == "service_started" for line in self.service.lines):
            return None
        headers = {"Authorization": f"Bearer {self.made.token_path.read_text().strip()}"}
        content = None if body is None else to_json(body)
        headers |= {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{self.service.address('api')}/v1/channels{path}", content, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                document: dict[str, Any] = json.loads(answer.read())
                return document
        except (OSError, http.client.HTTPException):  # refused, or the process died before or in its answer
            return None

    def open(self, *, challenge_period: int = 24, updates: int = 2) -> Pair:
        """A channel that is registered, funded, confirmed and updated."""
        self._opened += 1
        names = (f"erin{self._opened}", f"frank{self._opened}")
        pair = open_pair(
            lambda spk, amount: self.node.fund(spk, amount, broadcast=False),
            names=names,
            challenge_period=challenge_period,
        )
        self.ask("", pair.registration(Side.B))
        self.node.send_raw(pair.funding.raw)
        self.node.mine(1)
        self.until(lambda: self.ask(f"/{pair.channel_id.hex()}/funding")["confirmed"])
        for _ in range(updates):
            sequence = pair.update()
            self.ask(f"/{pair.channel_id.hex()}/states", pair.update_request(Side.B, sequence))
        return pair

    # ── waiting ───────────────────────────────────────────────────────────────────────────────────────────

    def caught_up(self) -> None:
        """Until the log's last block is the node's tip."""
        self.until(self._is_at_the_tip)

    def _is_at_the_tip(self) -> bool:
        events = sqlite3.connect(f"file:{self.directory / 'events.db'}?mode=ro", uri=True)
        try:
            query = "SELECT state FROM stored_events WHERE originator_id = 'chain' ORDER BY originator_version DESC"
            (state,) = events.execute(f"{query} LIMIT 1").fetchone()
        finally:
            events.close()
        return self.node.tip() in bytes(state)

    def outdate_views(self) -> None:
        """As if the next program had other read models."""
        views = sqlite3.connect(self.directory / "views.db", isolation_level=None)
        views.execute("UPDATE views_meta SET layout = x'00'")
        views.close()

    def check(self, *channels: Watched) -> None:
        """The oracle over files and everything that was said."""
        assert_tower_healthy(self.node, self.directory, channels, said=self._said)
