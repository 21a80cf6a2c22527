"""A real Alertmanager with the configuration of deploy/alertmanager, and a place where its messages arrive."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.programs import program
from tests.support.receivers import HttpReceiver

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "alertmanager" / "alertmanager.yml"
SECRETS = "/etc/alertmanager/secrets"
"""Where the configuration looks for addresses."""

RECEIVERS = ("page", "ticket", "heartbeat")
SECONDS = 60.0
"""Longest wait for a message, an answer or the end."""


class Inbox:
    """A web server on this host that keeps what is posted to it, by the path without its slash."""

    def __init__(self) -> None:
        self._arrived: dict[str, queue.Queue[dict[str, Any]]] = {name: queue.Queue() for name in RECEIVERS}
        arrived = self._arrived

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                arrived[self.path.removeprefix("/")].put(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Not on the terminal of the tests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def next(self, receiver: str) -> dict[str, Any]:
        """The next message to this receiver, whatever others get. Raises `queue.Empty` when none comes."""
        return self._arrived[receiver].get(timeout=SECONDS)

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Alertmanager:
    """One process with our configuration; each receiver posts to `inbox` under its own name."""

    def __init__(self, directory: Path, inbox: Inbox | HttpReceiver, group_interval: str = "") -> None:
        """Start it; returns when it listens.

        `group_interval` (as Alertmanager writes durations) takes the place of the minute after which it tells what
        became of an alert; how soon the first message leaves stays as it is.
        """
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "alertmanager.yml"
        text = CONFIG.read_text().replace(SECRETS, str(directory))
        config.write_text(re.sub(r"(group_interval: ).*", rf"\g<1>{group_interval}", text) if group_interval else text)
        for receiver in RECEIVERS:
            (directory / f"{receiver}-url").write_text(f"{inbox.url}/{receiver}\n")
        options = [
            f"--config.file={config}",
            f"--storage.path={directory / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        ]
        self._process = subprocess.Popen(
            [program("alertmanager"), *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.url = f"http://127.0.0.1:{self._port()}"
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)  # type: ignore[union-attr]
        self._drain.start()

    def _port(self) -> int:
        """It says where it listens as soon as it does."""
        said: list[str] = []
        assert self._process.stderr is not None
        for line in self._process.stderr:
            said.append(line)
            if match := re.search(r"Listening on.*address=\S*?:(\d+)", line):
                return int(match[1])
        raise AssertionError("Alertmanager ended: " + "".join(said[-5:]))

    def post(self, *alerts: dict[str, str]) -> None:
        """Let alerts with these labels fire."""
        labels = [{"labels": each} for each in alerts]
        httpx.post(f"{self.url}/api/v2/alerts", json=labels, timeout=SECONDS).raise_for_status()

    def states(self) -> dict[str, str]:
        """Alert name -> active, suppressed or unprocessed."""
        found = httpx.get(f"{self.url}/api/v2/alerts", timeout=SECONDS).raise_for_status().json()
        return {each["labels"]["alertname"]: each["status"]["state"] for each in found}

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(SECONDS)
        self._drain.join()
        self._process.stderr.close()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
