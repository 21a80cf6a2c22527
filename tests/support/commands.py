"""The command line as a user has it: commands that end, and a party that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("STATE_CHANNEL_")}


def command(*words: str) -> list[str]:
    """The argument list of a command."""
    return [sys.executable, "-m", "watchtower", *words]


def shell(*words: str, text: str = "", seconds: float = 90) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*words), input=text, capture_output=True, text=True, check=False, timeout=seconds, env=CLEAN, cwd=ROOT
    )


def document(*words: str, text: str = "") -> dict[str, Any]:
    """The one JSON document of a command that succeeds."""
    done = shell(*words, "--json", text=text)
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class RunningParty:
    """`watchtower party run` on a directory; `where` is what it printed when it listened."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self._options = options
        self.where: dict[str, Any] = {}
        self._log = home.with_name(home.name + ".log")

    def __enter__(self) -> Self:
        words = command("party", "run", "--home", str(self.home), "--json", *self._options)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=CLEAN, cwd=ROOT)
        assert self._process.stdout is not None
        lines = ""
        for line in self._process.stdout:
            lines += line
            if line == "}\n":
                self.where = json.loads(lines)
                return self
        raise AssertionError(f"the party did not start: {self._log.read_text()[-2000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self._process.returncode is None:
            self._process.terminate()
            self._process.communicate(timeout=30)
        return self._process.returncode

    def ask(self, group: str, *words: str) -> dict[str, Any]:
        """The document of a command that this party does."""
        return document(group, *words, "--home", str(self.home))
