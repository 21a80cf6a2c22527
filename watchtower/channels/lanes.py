"""How many states are verified at the same time: as many as there are processors.

Verification is a chain of short calls into libsecp256k1, each of which gives the interpreter up. Thirty threads that do
it at once spend their time on handing the interpreter around, and the thread that answers breaches waits among them;
one thread per processor keeps the processors busy.
"""

from __future__ import annotations

import os
from threading import Semaphore


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def lanes() -> Semaphore:
    """Hold one while computing; never while waiting for a disk, a node or an application."""
    return Semaphore(processors())
