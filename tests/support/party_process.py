"""Handles for `party_program`: start, ask, kill, start again.

with PartyProcess(tmp_path / "a", free_port) as a: a.ask("open", peer=b.key)
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.parties import seed_of
from tests.support.party_program import PASSPHRASE
from watchtower.client.party.home import create_home
from watchtower.client.transport.curve_key import PeerAddress, TransportKey

ROOT = Path(__file__).parents[2]


class Died(Exception):
    """The process ended before it answered."""


class PartyProcess:
    """One party on one directory; its port stays the same over restarts."""

    def __init__(
        self, directory: Path, port: int, peers: tuple[PeerAddress, ...] = (), wallet: tuple[str, str] | None = None
    ) -> None:
        create_home(directory, "regtest", PASSPHRASE, seed=seed_of(directory.name), cost=2**4)
        self.address = PeerAddress(TransportKey.from_seed(seed_of(directory.name)).public, "127.0.0.1", port)
        self._options = json.dumps(
            {"home": str(directory), "port": port, "peers": [str(peer) for peer in peers], "wallet": wallet}
        )
        self._running: subprocess.Popen[str] | None = None

    @property
    def key(self) -> str:
        """The identity in hexadecimal."""
        return self.address.key.hex()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Run it; returns when it listens."""
        self._running = subprocess.Popen(
            [sys.executable, "-m", "tests.support.party_program", self._options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert str(self.address) == self._line()["address"]

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Run a command; `Died` if the process ended meanwhile."""
        self.tell(do, **arguments)
        return self._line()

    def tell(self, do: str, **arguments: Any) -> None:
        """Begin a command; `answer` waits for it."""
        running = self._process()
        try:
            running.stdin.write(json.dumps({"do": do, **arguments}) + "\n")  # type: ignore[union-attr]
            running.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            raise Died from None

    def answer(self) -> dict[str, Any]:
        """What the last command gave."""
        return self._line()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        running, self._running = self._running, None
        if running is not None:
            running.kill()
            running.communicate()

    def revive(self) -> None:
        """Wait for the end that its fuse brings, and start it again."""
        running = self._process()
        # Without closing its standard input: at the end of that it would leave in peace, before the fuse has burned.
        assert -signal.SIGKILL == running.wait(timeout=60)
        running.communicate()
        self.start()

    def _process(self) -> subprocess.Popen[str]:
        assert self._running is not None, "start it first"
        return self._running

    def _line(self) -> dict[str, Any]:
        """The next line that is JSON; others are log lines."""
        stream = self._process().stdout
        assert stream is not None
        for line in stream:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise Died
