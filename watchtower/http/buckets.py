"""Token buckets: how many requests a second an address or a key may make."""

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
    """Too many requests; `seconds` until the next one is taken."""

    slug: ClassVar[str] = "rate-limited"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many requests; wait {seconds:.1f} seconds")
        self.seconds = seconds


class Buckets:
    """One bucket per name, each refilled with `rate` requests a second. Not for several threads."""

    def __init__(self, rate: float, capacity: int = CAPACITY) -> None:
        self._rate = rate
        self._size = max(1.0, rate * BURST)
        self._capacity = capacity
        self._levels: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def take(self, name: bytes, now: float) -> None:
        """Take one request from a bucket, or raise `RateLimited`. `now` in monotonic seconds."""
        level, since = self._levels.pop(name, (self._size, now))
        level = min(self._size, level + (now - since) * self._rate)
        allowed = level >= 1.0
        self._levels[name] = (level - 1.0 if allowed else level, now)
        if len(self._levels) > self._capacity:
            self._levels.popitem(last=False)
        if not allowed:
            raise RateLimited((1.0 - level) / self._rate)


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
