"""`watchtower run` with one point that fails: `python -m tests.support.failing_service CONFIG NAME KIND [PASSING]`.

NAME is `connect:before` and the like; KIND is `kill` (SIGKILL by its own hand), `mistake` (an exception that nobody
expects) or `stop` (SIGTERM to itself, then on). The point fails at its PASSING-th passing, once.
"""

from __future__ import annotations

import os
import signal
import sys

from watchtower.bootstrap.parts import start
from watchtower.config import load
from watchtower.run import run


class Mistake(Exception):
    """Something that the program does not expect."""


class Fuse:
    """Fails once."""

    def __init__(self, name: str, kind: str, passing: int) -> None:
        self._name, self._kind, self._left = name, kind, passing

    def __call__(self, name: str) -> None:
        """Pass the point, or fail."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            self._fail(name)

    def _fail(self, name: str) -> None:
        if self._kind == "mistake":
            raise Mistake(name)
        os.kill(os.getpid(), signal.SIGTERM if self._kind == "stop" else signal.SIGKILL)


def main(config: str, name: str, kind: str, passing: str = "1") -> None:
    """Run until a signal or a failure."""
    loaded = load(os.environ, config_path=config)
    sys.exit(run(start(loaded, Fuse(name, kind, int(passing)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
