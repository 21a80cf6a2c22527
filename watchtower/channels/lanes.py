"""How many states are decided at the same time: as many as there are processors, or a few times as many.

Verification is a chain of short calls into libsecp256k1, each of which gives the interpreter up. Thirty threads that do
it at once spend their time on handing the interpreter around, and the thread that answers breaches waits among them;
one thread per processor keeps the processors busy.
"""

from __future__ import annotations

from threading import Semaphore

from watchtower.host.system import processors


def lanes(each: int = 1) -> Semaphore:
    """Hold one while computing; never while waiting for a disk, a node or an application.

    So many for `each` processor: more than one where other processes verify (`verification/`), so that the next
    question is there when they are done with the last one.
    """
    return Semaphore(each * processors())
