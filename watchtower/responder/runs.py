"""What one run of the responder sees and what it has done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

import msgspec
from structlog.contextvars import bound_contextvars

from domain.chain import OutPoint, Txid
from domain.errors import DomainError
from domain.events import BroadcastOutcome
from domain.fees import Market
from watchtower.ports import Answer, NodeUnavailable, StoreBroken, WatchtowerError


class Unserved(WatchtowerError):
    """A mistake in this program met in one channel; the others are served. Names the place, never the values."""

    @classmethod
    def at(cls, error: Exception) -> Unserved:
        """What went wrong and where."""
        frames = extract_tb(error.__traceback__)
        place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        return cls(f"{type(error).__name__}{place}: a mistake in the program; report it, the channel is tried again")


class Trouble(msgspec.Struct, frozen=True):
    """A channel that could not be served in this run and why; it is served again in the next one."""

    stream: str
    error: Exception


class RespondReport(msgspec.Struct, frozen=True):
    """What one run did: penalties sent and accepted, bids deferred to the block, channels in trouble.

    `settled` and `claimed` count settlements and claims that the node took. `waiting` names the channels whose breach
    is left to the block: a bid that would get into the mempool now costs more than it may.
    """

    sent: int = 0
    accepted: int = 0
    deferred: int = 0
    settled: int = 0
    outcomes: tuple[BroadcastOutcome, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    claimed: int = 0
    waiting: frozenset[str] = frozenset()


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
        self.waiting: set[str] = set()

    @contextmanager
    def serving(self, *streams: str) -> Iterator[None]:
        """The border around one channel, or a group: whatever fails inside is noted, and the next one is served.

        Only what concerns all of them passes: a node that cannot be asked, a log that is broken.
        """
        about = {"channel": streams[0]} if len(streams) == 1 else {}
        try:
            with bound_contextvars(**about):
                yield
        except (NodeUnavailable, StoreBroken):
            raise
        except (DomainError, WatchtowerError) as error:
            self.troubles += [Trouble(stream, error) for stream in streams]
        except Exception as error:  # noqa: BLE001 - the border between channels: a mistake in one stops no other
            unserved = Unserved.at(error)
            unserved.__cause__ = error
            self.troubles += [Trouble(stream, unserved) for stream in streams]

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
            frozenset(self.waiting),
        )
