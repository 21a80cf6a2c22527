"""`watchtower run` as a child process whose log lines can be waited for."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from watchtower.devnode.regtest import RegtestNode

ROOT = Path(__file__).parents[2]


class ServiceProcess:
    """Starts at once; every line of its log is kept in `lines`."""

    def __init__(
        self, config: Path, environ: Mapping[str, str] | None = None, command: Sequence[str] | None = None
    ) -> None:
        """`command` are the arguments of the interpreter if another program than `watchtower run` is to be started."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STATE_CHANNEL_")}
        self.process = subprocess.Popen(
            [sys.executable, *(command or ("-m", "watchtower", "run", "--config", str(config)))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=clean | dict(environ or {}),
            cwd=ROOT,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        self._news: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                if line.endswith("\n"):  # a process that is killed may leave half a line
                    self._news.put(json.loads(line))
        finally:
            self._news.put(None)

    def wait_for(self, event: str, seconds: float = 60.0, **fields: object) -> dict[str, Any]:
        """The next log line of this event with these fields; fails with all lines if it never comes."""
        end = time.monotonic() + seconds
        line: dict[str, Any] | None = {}
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._news.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            self.lines.append(line)
            if line["event"] == event and fields.items() <= line.items():
                return line
        ended = f"; it ended with {self.exit_code(5)}: {self.stderr()[-2000:]}" if line is None else ""
        raise AssertionError(f"no {event} {fields} within {seconds} s in {json.dumps(self.lines, indent=1)}{ended}")

    def next_line(self, seconds: float) -> dict[str, Any] | None:
        """The next log line; None if none comes within the time or the process has ended."""
        try:
            line = self._news.get(timeout=seconds)
        except queue.Empty:
            return None
        if line is not None:
            self.lines.append(line)
        return line

    def wait_watching(self) -> None:
        """Until the phase is `watching`. A start opens the keystore, which costs seconds of a processor on purpose."""
        self.wait_for("phase_changed", 120.0, phase="watching")

    def address(self, name: str) -> str:
        """`host:port` of the api or admin listener."""
        known = next((line for line in self.lines if line["event"] == "service_started"), None)
        return str((known or self.wait_for("service_started"))[name])

    def get(self, name: str, path: str) -> tuple[int, bytes]:
        """Status and body of a GET on a listener."""
        try:
            with urllib.request.urlopen(f"http://{self.address(name)}{path}", timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ready(self) -> dict[str, Any]:
        """The document of /readyz."""
        document: dict[str, Any] = json.loads(self.get("api", "/readyz")[1])
        return document

    def terminate(self, seconds: float = 60.0) -> int:
        """SIGTERM; returns the exit code, fails after `seconds`."""
        self.process.send_signal(signal.SIGTERM)
        return self.exit_code(seconds)

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        self.process.kill()
        self.process.wait()

    def exit_code(self, seconds: float = 60.0) -> int:
        """Wait for the end."""
        return self.process.wait(timeout=seconds)

    def stderr(self) -> str:
        """Everything on stderr of an ended process."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def close(self) -> None:
        """End it whatever it does, and release its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(30)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


Run = Callable[..., ServiceProcess]
"""Starts a service with a configuration file and an environment; it ends with the test."""


def settings_for(node: RegtestNode, **changes: str) -> dict[str, dict[str, str | int]]:
    """Configuration for a node and free ports."""
    endpoint = node.zmq_endpoint
    chosen = {"rpc_url": node.rpc_url, "rpc_cookie_path": str(node.cookie_path)}
    chosen |= {"zmq_sequence": endpoint, "zmq_rawtx": endpoint, "zmq_hashblock": endpoint, "rest_url": node.rest_url}
    return {
        "node": {name: value for name, value in (chosen | changes).items() if value},
        "api": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0"},
        "store": {"reserve_mb": 0},
    }
