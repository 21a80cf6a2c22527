"""One thing worth telling, before anybody decides how many of them fit into one message."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

Severity = Literal["page", "ticket", "info"]
"""page: wake somebody; ticket: look at it today; info: for those who want to know everything."""

Status = Literal["event", "begins", "ends"]
"""A thing that happened, or a condition that began or ended. An end has the severity of its beginning."""

RANKS: dict[Severity, int] = {"info": 0, "ticket": 1, "page": 2}


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened, in words for a phone and in numbers for programs. Never a key, a secret or a preimage.

    `at` is Unix time in seconds; `channel` the name of the channel's stream, which every command takes; `txid` as
    explorers show it; `sats` what is at stake or was taken; `blocks_left` counts down to `deadline`, a height.
    """

    id: str
    kind: str
    severity: Severity
    status: Status = "event"
    at: int
    title: str
    text: str
    act: bool = False
    """Whether a person has to do something that the tower cannot do."""
    runbook_url: str = ""
    channel: str | None = None
    txid: str | None = None
    sequence: int | None = None
    sats: int | None = None
    height: int | None = None
    deadline: int | None = None
    blocks_left: int | None = None
    reason: str | None = None


def notice_id(*parts: object) -> str:
    """An id that is the same whenever the same thing is told again: 32 hexadecimal digits."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def sats(amount: int) -> str:
    """`1,234 sat`."""
    return f"{amount:,} sat"


def blocks(count: int) -> str:
    """`1 block`, `12 blocks`."""
    return "1 block" if count == 1 else f"{count:,} blocks"
