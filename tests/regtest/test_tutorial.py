"""The tutorial works as it is written: its own commands are run, in their order, against a real node."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from watchtower.devnode.launch import free_ports
from watchtower.devnode.provision import Found

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:<!-- test: (?P<role>\w+) -->\n)?```sh\n(?P<commands>.*?)```", re.DOTALL)
COMMAND_SECONDS = 300


class Block(NamedTuple):
    """Commands to type, and what the page says around them: skip, ports, tower (second terminal), stop, watching."""

    role: str
    commands: str


def blocks() -> list[Block]:
    """Every shell block of the page."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    return [Block(found["role"] or "", found["commands"]) for found in BLOCK.finditer(text)]


class Terminals:
    """A reader at the keyboard: one shell that keeps its variables, and a second one for the tower."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.output = ""
        self.ports = free_ports(5)
        self._tower: subprocess.Popen[bytes] | None = None
        (home / "docs").symlink_to(ROOT / "docs")
        (home / "variables").touch()
        own = {name: value for name, value in os.environ.items() if not name.startswith("STATE_CHANNEL_CONFIG")}
        rpc, sequence, rawtx, api, admin = self.ports
        self.environ = own | {
            "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
            "PYTHONPATH": str(ROOT),
            # A reader has the default ports for himself; tests run side by side.
            "STATE_CHANNEL_NODE__RPC_URL": f"http://127.0.0.1:{rpc}",
            "STATE_CHANNEL_NODE__ZMQ_SEQUENCE": f"tcp://127.0.0.1:{sequence}",
            "STATE_CHANNEL_NODE__ZMQ_RAWTX": f"tcp://127.0.0.1:{rawtx}",
            "STATE_CHANNEL_API__LISTEN": f"127.0.0.1:{api}",
            "STATE_CHANNEL_ADMIN__LISTEN": f"127.0.0.1:{admin}",
        }

    def play(self, block: Block) -> None:
        """Do what the page asks for."""
        if block.role == "skip":
            return
        if block.role == "tower":
            self.start_tower(block.commands)
            return
        if block.role == "stop":
            self.stop_tower()
        if block.role == "watching":
            self.wait_watching()
        self.type(block.commands)
        if block.role == "ports":
            self.use_own_ports()

    def type(self, commands: str) -> None:
        """Run commands in the first terminal; the first that fails ends the test with its words."""
        script = f"set -a; source variables; set -eu\n{commands}\nexport -p > variables"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.home,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        self.output += done.stdout
        assert 0 == done.returncode, f"{commands}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}\n{self.log_tail()}"

    def start_tower(self, command: str) -> None:
        """The second terminal: the tower in the foreground."""
        with (self.home / "tower.log").open("wb") as log:
            arguments = ["bash", "-c", f"exec {command}"]
            self._tower = subprocess.Popen(arguments, cwd=self.home, env=self.environ, stdout=log, stderr=log)

    def wait_watching(self) -> None:
        """Until the second terminal says so, as the reader sees it."""
        end = time.monotonic() + 60
        while '"phase":"watching"' not in (self.home / "tower.log").read_text():
            assert time.monotonic() < end, self.log_tail()
            time.sleep(0.05)

    def stop_tower(self) -> None:
        """Ctrl-C in the second terminal."""
        assert self._tower is not None
        self._tower.send_signal(signal.SIGINT)
        assert 0 == self._tower.wait(60), self.log_tail()

    def log_tail(self) -> str:
        """The last lines of the second terminal, and of the node's log."""
        logs = (self.home / "tower.log", self.home / "build/tutorial/node/regtest/debug.log")
        return "\n".join(log.read_text()[-3000:] if log.exists() else f"no {log.name} yet" for log in logs)

    def use_own_ports(self) -> None:
        """Other ports than the page's defaults in bitcoin.conf."""
        conf = self.home / "build/tutorial/node/bitcoin.conf"
        rpc, sequence, rawtx = self.ports[:3]
        text = conf.read_text().replace(":28332", f":{sequence}").replace(":28333", f":{rawtx}")
        conf.write_text(f"{text}[regtest]\nrpcport={rpc}\n")

    def close(self) -> None:
        """End what still runs after a failure."""
        if self._tower is not None and self._tower.poll() is None:
            self._tower.kill()
            self._tower.wait()
        pid = self.home / "build/tutorial/node/regtest/bitcoind.pid"
        with suppress(FileNotFoundError, ProcessLookupError):  # the page has told it to end, which it does meanwhile
            os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.fixture
def terminals(tmp_path: Path, bitcoind_path: Found) -> Iterator[Terminals]:
    """Two terminals in an empty directory that looks like the root of the repository."""
    pair = Terminals(tmp_path)
    pair.environ["BITCOIND"] = str(bitcoind_path.path)
    yield pair
    pair.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_tutorial_works(terminals: Terminals) -> None:
    """The commands, typed in order, lead to the five channels that the page describes."""
    for block in blocks():
        terminals.play(block)

    listing = subprocess.run(
        [sys.executable, "-m", "watchtower", "channel", "list", "--json"],
        cwd=terminals.home,
        env=terminals.environ | {"STATE_CHANNEL_CONFIG": "build/tutorial/tower/config.toml"},
        capture_output=True,
        check=True,
    )
    channels = json.loads(listing.stdout)["channels"]
    assert ["RESOLVED"] * 3 + ["SETTLED"] * 2 == sorted(channel["status"] for channel in channels)
    assert 3 == terminals.output.count("sat to Bob, as a penalty")
    assert "PenaltyConfirmed" in terminals.output


def test_the_page_shows_what_the_examples_do() -> None:
    """Python on the page stands in an example, line by line."""
    page = (ROOT / "docs" / "tutorial.md").read_text()
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    examples = "\n".join(path.read_text() for path in sorted((ROOT / "docs" / "examples").glob("*.py")))
    lines = {line.strip() for line in examples.splitlines()}

    assert [] == [line for block in shown for line in block.splitlines() if line.strip() not in lines]
