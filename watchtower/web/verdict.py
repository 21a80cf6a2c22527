"""Am I protected? One answer in words, from what the tower knows about itself. Pure.

It says yes only with proof, and the worst thing that holds decides. The words carry the answer; color repeats it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from watchtower.telemetry.catalog import BLOCKING_REASONS
from watchtower.telemetry.readiness import Reason
from watchtower.web.words import count, sats

Tone = Literal["good", "watch", "bad", "calm"]
"""good: all is well; watch: something wants a person's attention; bad: money is at risk; calm: nothing to judge yet."""

PROTECTED = ("ACTIVE", "FROZEN", "COOP_CLOSING", "UNILATERAL")
NEAR = 12
"""Blocks before a deadline from which an unanswered breach is called urgent: two hours."""


class Danger(msgspec.Struct, frozen=True):
    """Breaches whose penalty is in no block yet: how many, and the fewest blocks left (None: all unconfirmed)."""

    unanswered: int = 0
    blocks_left: int | None = None
    blocked: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """`answer` is one or two words, `headline` the sentence beside it, `sentences` what else is to be said."""

    tone: Tone
    answer: str
    headline: str
    sentences: tuple[str, ...] = ()


def judge(
    phase: str,
    reasons: tuple[Reason, ...],
    lag: int | None,
    channels: Mapping[str, int],
    capacity: Mapping[str, int],
    danger: Danger,
) -> Verdict:
    """`channels` and `capacity` (satoshi) are by status in upper case; `lag` in blocks behind the node."""
    if phase == "draining":
        return Verdict("bad", "No", "The tower is stopping. Nothing is watched until it runs again.")
    if any(reason.name == "standby" for reason in reasons):
        return Verdict("calm", "By another", "This tower stands by: the tower that leads the log is watching.")
    if phase == "starting":
        return Verdict("calm", "Not yet", "The tower is starting: it reads its log before it looks at the chain.")
    if phase == "degraded":
        return _degraded(reasons, danger)
    if phase == "catching_up":
        behind = "some blocks" if lag is None else count(lag, "block")
        return Verdict("watch", "Not yet", f"The tower is {behind} behind the node and reads on.", _in_danger(danger))
    return _watching(reasons, channels, capacity, danger)


def _degraded(reasons: tuple[Reason, ...], danger: Danger) -> Verdict:
    blocking = [reason for reason in reasons if reason.name in BLOCKING_REASONS]
    why = blocking[0].sentence if blocking else ""
    return Verdict("bad", "No", "A breach could go unseen now.", tuple(filter(None, (why, *_in_danger(danger)))))


def _watching(
    reasons: tuple[Reason, ...], channels: Mapping[str, int], capacity: Mapping[str, int], danger: Danger
) -> Verdict:
    number = sum(channels.get(status, 0) for status in PROTECTED)
    worth = sum(capacity.get(status, 0) for status in PROTECTED)
    lost = channels.get("LOST", 0)
    told = (f"{count(lost, 'channel')} {'was' if lost == 1 else 'were'} lost to a revoked state.",) if lost else ()
    if danger.unanswered:
        return _answering(danger, told)
    if reasons:
        more = f"The tower watches, but {count(len(reasons), 'finding')} below {_wants(len(reasons))} your attention."
        return Verdict("watch", "Yes, but look", more, told)
    if not number:
        return Verdict("calm", "Watching", "The tower watches the chain. No channel is protected yet.", told)
    covers = f"{count(number, 'channel')} with {sats(worth)} {'is' if number == 1 else 'are'} protected"
    return Verdict("watch" if lost else "good", "Yes", f"{covers}: every block and the mempool are watched.", told)


def _answering(danger: Danger, told: tuple[str, ...]) -> Verdict:
    one = danger.unanswered == 1
    headline = "A breach is being answered." if one else f"{danger.unanswered} breaches are being answered."
    is_urgent = danger.blocked > 0 or (danger.blocks_left is not None and danger.blocks_left < NEAR)
    return Verdict("bad" if is_urgent else "watch", "Defending", headline, (*_in_danger(danger), *told))


def _in_danger(danger: Danger) -> tuple[str, ...]:
    if not danger.unanswered:
        return ()
    told = []
    if danger.blocked:
        told.append(f"For {danger.blocked} of them no penalty has been accepted; the tower keeps trying.")
    if danger.blocks_left is not None and danger.blocks_left >= 0:
        told.append(f"The nearest deadline is {count(danger.blocks_left, 'block')} away.")
    elif danger.blocks_left is not None:
        told.append("A deadline has passed: the counterparty may take the money in any block.")
    return tuple(told)


def _wants(number: int) -> str:
    return "wants" if number == 1 else "want"
