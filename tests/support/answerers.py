"""What a `Worker` can run in a test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path


def echo(greeting: str) -> Callable[[bytes], bytes]:
    """Repeats the question behind the greeting; some questions are orders."""

    def answer(question: bytes) -> bytes:
        if question == b"sleep":
            threading.Event().wait()
        if question.startswith(b"child"):
            child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
            if question == b"child and death":
                Path(os.environ["HOME"], "pid").write_text(str(child.pid))
                os._exit(9)
            return str(child.pid).encode()
        if question == b"twice":
            os.write(int(sys.argv[1]), 2 * b"\x03\x00\x00\x00\x00ok")
            os._exit(0)
        if question == b"much":
            return bytes(5 * 2**20)
        said = str(os.getpid()).encode() if question == b"pid" else question
        return greeting.encode() + b": " + said

    return answer


def dies() -> Callable[[bytes], bytes]:
    """Ends its process while it is made."""
    os._exit(9)


def refuses() -> Callable[[bytes], bytes]:
    """Raises while it is made."""
    raise RuntimeError("not today")
