"""The clock of this machine, beside the chain's and that of the node's peers.

Deadlines are counted in blocks, so no clock can cost a channel; but requests are signed with a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, ok, warn

AHEAD = 120
"""Seconds that a block may be ahead of us: miners' clocks differ too."""

PEERS_OFF = 60
"""Seconds between the node's clock and its peers' that are no finding, as for a signed request."""

_SET = "set the clock, best with NTP: timedatectl set-ntp true"


def look(case: Case) -> Iterator[Finding]:
    """Findings; nothing while the node cannot be asked."""
    chain, peers = case.node.find("getblockchaininfo"), case.node.find("getpeerinfo")
    if chain is not None:
        yield _beside_the_tip(case, chain.get("time", 0), chain.get("mediantime", 0))
    offsets = [peer["timeoffset"] for peer in peers or () if "timeoffset" in peer]
    if not offsets:
        return
    middle = int(median(offsets))
    if abs(middle) > PEERS_OFF:
        yield warn("clock.peers", f"the node's clock is {abs(middle)} s {'behind' if middle > 0 else 'ahead'}", _SET)
    else:
        yield ok("clock.peers", f"the node's clock is that of its {len(offsets)} peers within {abs(middle)} s")


def _beside_the_tip(case: Case, newest: int, middle: int) -> Finding:
    """The median of eleven blocks lies an hour back; a clock before it is wrong without any doubt."""
    now = int(case.now())
    if now < middle:
        return warn("clock.tip", f"this clock is before the chain's median time, by {middle - now} s", _SET)
    if newest - now > AHEAD:
        return warn("clock.tip", f"the newest block is {newest - now} s ahead of this clock", _SET)
    return ok("clock.tip", "not behind the chain")
