"""Which signed requests were seen: each one is good once."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from watchtower.ports import WatchtowerError

CAPACITY = 65_536


class TooBusy(WatchtowerError):
    """More signed requests or streams than can be kept; whoever comes now has to come again."""

    slug: ClassVar[str] = "too-busy"


class Nonces:
    """Pairs of key and nonce until they are too old to be accepted anyway. Not for several threads.

    `lifetime` in seconds must be twice the accepted difference of clocks. When it is full, nothing is forgotten early:
    that would let a request in twice.
    """

    def __init__(self, lifetime: float, capacity: int = CAPACITY) -> None:
        self._lifetime = lifetime
        self._capacity = capacity
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def has(self, key: bytes, nonce: bytes, now: float) -> bool:
        """Whether the pair is remembered. `now` in monotonic seconds."""
        while self._seen and next(iter(self._seen.values())) <= now:
            self._seen.popitem(last=False)
        return key + nonce in self._seen

    def add(self, key: bytes, nonce: bytes, now: float) -> bool:
        """Remember the pair; False if it is known. Raises `TooBusy`."""
        if self.has(key, nonce, now):
            return False
        if len(self._seen) >= self._capacity:
            raise TooBusy("too many signed requests at once; try again")
        self._seen[key + nonce] = now + self._lifetime
        return True
