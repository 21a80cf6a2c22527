"""docs/workflow.md works as it is written: its commands are typed into two terminals, its outputs are compared."""

from __future__ import annotations

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
BLOCK = re.compile(r"(?:<!-- test: (?P<role>\w+) -->\n)?```(?P<kind>sh|text)\n(?P<body>.*?)```", re.DOTALL)
CHANGING = re.compile(r"[0-9a-f]{8,}…?|(?<=#)[0-9a-z]{8}$|…")
"""What is different each time: identifiers, keys, the checksum of a descriptor, what the page leaves out."""
COMMAND_SECONDS = 300
FIXED_PORTS = (18443, 28332, 28333, 9815, 9816, 9825, 9826, 9735, 9736)


class Block(NamedTuple):
    """Commands to type or lines to expect, and where: skip, node, second (terminal), bob (the second's output)."""

    role: str
    kind: str
    body: str


def blocks() -> list[Block]:
    """Every block of the page with commands or their output."""
    text = (ROOT / "docs" / "workflow.md").read_text()
    return [Block(found["role"] or "", found["kind"], found["body"]) for found in BLOCK.finditer(text)]


class Reader:
    """Types into two terminals that stay open, and compares what they show; has ports of its own."""

    def __init__(self, home: Path, bitcoind: Path) -> None:
        self.home = home
        self.ports = dict(zip(FIXED_PORTS, free_ports(len(FIXED_PORTS)), strict=True))
        self._shown = ""
        self._last = ""
        for path in (ROOT / "docs" / "examples" / "workflow").glob("*.py"):
            copy = home / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(self.with_own_ports(path.read_text()))
        (home / "variables").touch()
        own = {name: value for name, value in os.environ.items() if not name.startswith("STATE_CHANNEL_")}
        self.environ = own | {
            "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
            "PYTHONPATH": str(ROOT),
            "BITCOIND": str(bitcoind),
            "STATE_CHANNEL_NODE__RPC_URL": f"http://127.0.0.1:{self.ports[18443]}",
            "STATE_CHANNEL_NODE__ZMQ_SEQUENCE": f"tcp://127.0.0.1:{self.ports[28332]}",
            "STATE_CHANNEL_NODE__ZMQ_RAWTX": f"tcp://127.0.0.1:{self.ports[28333]}",
            "STATE_CHANNEL_API__LISTEN": f"127.0.0.1:{self.ports[9815]}",
            "STATE_CHANNEL_ADMIN__LISTEN": f"127.0.0.1:{self.ports[9816]}",
        }
        self._second: subprocess.Popen[str] | None = None

    def with_own_ports(self, text: str) -> str:
        """The page's ports are the defaults; tests run side by side."""
        return re.sub(r"\b(\d{4,5})\b", lambda found: str(self.ports.get(int(found[1]), found[1])), text)

    def play(self, block: Block) -> None:
        """Do what the page says, or compare."""
        if block.role == "skip":
            return
        if block.kind == "text":
            self.compare(block)
            return
        if block.role == "node":
            self.move_node()
        if block.role == "second":
            self.type_second(block.body)
        else:
            self.type(block.body)

    def type(self, commands: str) -> None:
        """The first terminal; the first command that fails ends the test with its words."""
        script = f"set -a; source variables; set -eu\n{self.with_own_ports(commands)}\nexport -p > variables"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.home,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        self._last = "first"
        self._shown = done.stdout

        assert 0 == done.returncode, f"{commands}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}\n{self.second()}"

    def type_second(self, commands: str) -> None:
        """The second terminal, a shell that keeps its jobs."""
        if self._second is None:
            with (self.home / "second.log").open("w") as log:
                self._second = subprocess.Popen(
                    ["bash"],
                    cwd=self.home,
                    env=self.environ,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
        assert self._second.stdin is not None
        self._second.stdin.write(self.with_own_ports(commands))
        self._second.stdin.flush()
        self._last = "second"

    def second(self) -> str:
        """What the second terminal shows, and the end of the node's log."""
        logs = (self.home / "second.log", self.home / "build/workflow/node/regtest/debug.log")
        return "\n".join(log.read_text()[-3000:] for log in logs if log.exists())

    def compare(self, block: Block) -> None:
        """Each line of the page is there, in this order; identifiers and dots stand for anything."""
        lines = [line for line in self.with_own_ports(block.body).splitlines() if line != "…"]
        expected = re.compile(r"(?:.*\n)*?".join(_pattern(line) + r"\n" for line in lines))
        if block.role == "bob" or self._last == "second":
            self.wait_second(expected)
        else:
            assert expected.search(self._shown), f"{block.body}\n is not in\n{self._shown}"

    def wait_second(self, expected: re.Pattern[str]) -> None:
        """Until the second terminal shows this, as a reader would wait."""
        end = time.monotonic() + 60
        while not expected.search((self.home / "second.log").read_text()):
            assert time.monotonic() < end, f"{expected.pattern}\n is not in\n{self.second()}"
            time.sleep(0.05)

    def move_node(self) -> None:
        """Other ports than the page's defaults in bitcoin.conf."""
        conf = self.home / "build/workflow/node/bitcoin.conf"
        conf.write_text(f"{self.with_own_ports(conf.read_text())}[regtest]\nrpcport={self.ports[18443]}\n")

    def ended(self) -> int:
        """Close the second terminal; its exit code once everything in it has ended."""
        assert self._second is not None
        self._second.communicate(timeout=60)
        return self._second.returncode

    def close(self) -> None:
        """End what still runs after a failure."""
        if self._second is not None and self._second.poll() is None:
            os.killpg(self._second.pid, signal.SIGKILL)
            self._second.communicate()
        pid = self.home / "build/workflow/node/regtest/bitcoind.pid"
        with suppress(FileNotFoundError, ProcessLookupError):  # the page has told it to end, which it does meanwhile
            os.kill(int(pid.read_text()), signal.SIGKILL)


def _pattern(line: str) -> str:
    return r".*".join(re.escape(part) for part in CHANGING.split(line))


@pytest.fixture
def reader(tmp_path: Path, bitcoind_path: Found) -> Iterator[Reader]:
    """A reader in an empty directory that looks like the root of the repository."""
    made = Reader(tmp_path, bitcoind_path.path)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_step_of_the_workflow_shows_what_the_page_says(reader: Reader) -> None:
    """From two new towers to the final balances on the chain; Bob's script ends by itself."""
    for block in blocks():
        reader.play(block)

    assert 0 == reader.ended()


def test_the_page_shows_what_the_scripts_do() -> None:
    """Python on the page stands in a script, line by line."""
    page = (ROOT / "docs" / "workflow.md").read_text()
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scripts = "\n".join(path.read_text() for path in (ROOT / "docs/examples/workflow").glob("*.py"))
    lines = {line.strip() for line in scripts.splitlines()}

    assert 4 == len(shown)
    assert [] == [line for block in shown for line in block.splitlines() if line.strip() not in lines]
