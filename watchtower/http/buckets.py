"""Token buckets: how many requests a second an address or a key may make, and how many bytes it may send."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar

from domain.errors import DomainError

CAPACITY = 10_000
"""Buckets kept. A bucket that was not used for longest is full again, or nearly so, when it is forgotten."""

BURST = 2.0
"""Seconds of requests that may come at once."""

IPV6_HOME = 64
"""Bits of an IPv6 address that one customer has; the rest it chooses."""


class RateLimited(DomainError):
    """Too many requests, or bytes; `seconds` until the next one is taken."""

    slug: ClassVar[str] = "rate-limited"

    def __init__(self, seconds: float, unit: str = "requests") -> None:
        super().__init__(f"too many {unit}; wait {seconds:.1f} seconds")
        self.seconds = seconds


class Buckets:
    """One bucket per name, each refilled with `rate` units a second. Not for several threads.

    `burst` is for how many seconds a full bucket lasts, `unit` what it is filled with.
    """

    def __init__(self, rate: float, capacity: int = CAPACITY, *, burst: float = BURST, unit: str = "requests") -> None:
        self._burst = burst
        self.refill(rate)
        self._unit = unit
        self._capacity = capacity
        self._levels: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def refill(self, rate: float) -> None:
        """Refill all buckets with `rate` units a second from now on; one that holds too much is full."""
        self._rate = rate
        self._size = max(1.0, rate * self._burst)

    def take(self, name: bytes, now: float, amount: float = 1.0) -> None:
        """Take an amount from a bucket, or raise `RateLimited`. `now` in monotonic seconds.

        What is more than a whole bucket takes all of a full one.
        """
        amount = min(amount, self._size)
        level, since = self._levels.pop(name, (self._size, now))
        level = min(self._size, level + (now - since) * self._rate)
        allowed = level >= amount
        self._levels[name] = (level - amount if allowed else level, now)
        if len(self._levels) > self._capacity:
            self._levels.popitem(last=False)
        if not allowed:
            raise RateLimited((amount - level) / self._rate, self._unit)


def group_of(host: str) -> bytes | None:
    """The neighbors that share limits: an IPv4 address, or the first 64 bits of an IPv6 one.

    None for this host itself and for what is no address (a Unix socket): a reverse proxy, an onion service or the
    operator's own programs stand there, many clients behind one address.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    plain: IPv4Address | IPv6Address = getattr(address, "ipv4_mapped", None) or address
    if plain.is_loopback:
        return None
    return plain.packed[: IPV6_HOME // 8] if isinstance(plain, IPv6Address) else plain.packed
