"""What one run of the responder sees and what it has done."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from domain.chain import OutPoint, Txid
from domain.events import BroadcastOutcome
from domain.fees import Market
from watchtower.ports import Answer


class Trouble(msgspec.Struct, frozen=True):
    """A channel that could not be served in this run and why; it is served again in the next one."""

    stream: str
    error: Exception


class RespondReport(msgspec.Struct, frozen=True):
    """What one run did: penalties sent and accepted, bids deferred to the block, channels in trouble.

    `settled` and `claimed` count settlements and claims that the node took.
    """

    sent: int = 0
    accepted: int = 0
    deferred: int = 0
    settled: int = 0
    outcomes: tuple[BroadcastOutcome, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    claimed: int = 0


class View(msgspec.Struct, frozen=True):
    """What the node says this moment: market, spenders in the mempool of the asked outpoints.

    `tip` is the height of our cursor, `highest` that of the best header: what deadlines are counted from.
    """

    tip: int
    highest: int
    market: Market
    spenders: Mapping[OutPoint, Txid]


class Run:
    """Counts of one run."""

    def __init__(self) -> None:
        self.sent = self.accepted = self.deferred = self.settled = self.claimed = 0
        self.outcomes: list[BroadcastOutcome] = []
        self.troubles: list[Trouble] = []

    def count(self, answer: Answer) -> None:
        """A penalty was sent."""
        self.sent += 1
        self.accepted += answer.in_mempool
        self.outcomes.append(answer.outcome)

    def report(self) -> RespondReport:
        """The result."""
        return RespondReport(
            self.sent,
            self.accepted,
            self.deferred,
            self.settled,
            tuple(self.outcomes),
            tuple(self.troubles),
            self.claimed,
        )
