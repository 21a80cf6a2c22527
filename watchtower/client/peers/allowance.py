"""How much of this party's disk one peer may fill with exchanges that come to nothing.

Each offer that this party agrees to is in its log before the answer leaves, and until somebody signs, another one may
take its place. So a peer could write for ever, and never make a state.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from domain.errors import Refusal

HOUR = 3_600.0
UNFINISHED_BYTES = 4 * 2**20
"""For offers of an hour that no state came of. An exchange that ends with a state costs nothing, so an honest peer is
near zero: each offer that it takes back costs about 1 kB, thousands of them fit, and ten of the largest that a message
can be. A hostile one writes 96 MiB a day at most, which leaves the owner weeks to look at the log."""

EVENT_BYTES = 500
"""What a line in the log needs beside its content: envelope, index, the turn that is handed over with it."""


class AllowanceExceeded(Refusal):
    """The peer made more offers without completing a state than this party stores; the connection ends."""

    slug = "allowance-exceeded"


class PeerAllowance:
    """What one peer has used, over all its channels and connections. One piece of work at a time asks it."""

    def __init__(self, limit: int = UNFINISHED_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._began = clock()
        self._spent = 0
        self._unfinished: dict[bytes, int] = {}

    def __repr__(self) -> str:
        return f"<PeerAllowance {self._spent} of {self._limit} bytes>"

    @property
    def is_untouched(self) -> bool:
        """Whether nothing of it is used."""
        return self._spent == 0

    def require(self) -> None:
        """Raise `AllowanceExceeded` if nothing is left in this hour."""
        if self._clock() - self._began >= HOUR:
            self._began, self._spent = self._clock(), 0
            self._unfinished.clear()
        if self._spent >= self._limit:
            raise AllowanceExceeded(
                f"{self._spent} bytes of offers without a completed state are stored for this peer, the limit is "
                f"{self._limit} in an hour; come back later and complete what you offer"
            )

    def charge(self, channel_id: bytes, size: int, *, replaces: bool) -> None:
        """Something of `size` bytes was stored; `replaces` if what was unfinished before stays so for ever."""
        cost = size + EVENT_BYTES
        self._spent += cost
        self._unfinished[channel_id] = cost + (0 if replaces else self._unfinished.get(channel_id, 0))

    def refund(self, channel_id: bytes) -> None:
        """A state is complete: its own exchange was worth the space."""
        self._spent = max(0, self._spent - self._unfinished.pop(channel_id, 0))
