"""One tower: the order of its start and of its passes. Synchronous; the shell gives it a thread.

A pass makes the cursor equal to the node's tip, looks into the mempool, then answers what is open. `respond`
runs also when `follow` failed: its input is then the last durable read model.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from domain.events import Source
from watchtower.chain.arm import Arming
from watchtower.chain.audit import Audit, AuditReport
from watchtower.chain.conditions import Conditions
from watchtower.chain.facts import FollowReport
from watchtower.chain.follow import CursorUnknown, Follower
from watchtower.chain.mempool import Hints, MempoolWatch
from watchtower.chain.needs import Needs
from watchtower.erasing import Erasing
from watchtower.outbox import Outbox
from watchtower.ports import (
    BlockNotAvailable,
    Clock,
    EventStore,
    Failpoint,
    Keystore,
    Node,
    NodeError,
    ReadModels,
    Rng,
    StoreBroken,
    StoreError,
)
from watchtower.repository import Channels
from watchtower.responder.publish import Publisher
from watchtower.responder.respond import Responder
from watchtower.responder.runs import RespondReport, Trouble

FIRST_SLICES, FIRST_SLICE = 10, 10_000
"""Steps of the audit before a start is over, and channels in each: a hundred thousand, in about three seconds."""

__all__ = ["Hints", "PassReport", "Tower", "TowerSettings"]


class TowerSettings(msgspec.Struct, frozen=True):
    """`spendable` is the share of a contest value that fees may take; `undo_limit` bounds reorgs in blocks.

    After `blocks_per_pass` connected blocks a pass answers what it has found before it goes on: a breach at the
    beginning of a long absence must not wait for its end, and neither must a stop.
    """

    network: str
    spendable: float = 1.0
    undo_limit: int = 2016
    blocks_per_pass: int = 2016


class PassReport(msgspec.Struct, frozen=True):
    """Result of one pass. `error` is what stopped the follower (or the log); `again` asks for another pass at once."""

    follow: FollowReport
    respond: RespondReport
    height: int
    error: NodeError | StoreError | None
    again: bool
    audit: AuditReport = AuditReport()


class Tower:
    """The core of the service. All methods are called from one thread, the pass thread."""

    def __init__(
        self,
        *,
        node: Node,
        store: EventStore,
        models: ReadModels,
        channels: Channels,
        keystore: Keystore,
        clock: Clock,
        rng: Rng,
        failpoint: Failpoint,
        settings: TowerSettings,
        outbox: Outbox | None = None,
        observe: Callable[[PassReport], None] = lambda _report: None,
    ) -> None:
        self.models = models
        self.channels = channels
        self._observe = observe
        self._armed: set[str] = set()
        self._caught_up = False
        self._compared = False
        self._sweep_owed = False
        self._tip_moved = False
        self._conditions = Conditions(channels, models)
        needs = Needs(node, store, channels, models, self._conditions, clock, failpoint)
        self.follower = Follower(
            needs, network=settings.network, limit=settings.undo_limit, blocks_per_run=settings.blocks_per_pass
        )
        self.mempool = MempoolWatch(needs, self.follower)
        self.audit = Audit(needs, self.follower)
        self.arming = Arming(needs, self.follower, hand_over=self.audit.suspect)
        self._passed_over = 0
        self._doubted = False
        self.responder = Responder(
            node=node,
            store=store,
            channels=channels,
            models=models,
            keystore=keystore,
            clock=clock,
            rng=rng,
            failpoint=failpoint,
            spendable=settings.spendable,
        )

        self._erasing = Erasing(store=store, channels=channels, models=models, keystore=keystore, clock=clock)
        self._unpublished: tuple[Trouble, ...] = ()
        self._publisher = Publisher(node, channels, models, Outbox() if outbox is None else outbox)

    def start(self) -> PassReport:
        """Read models, cursor, bids that were prepared, then a full pass; `NodeError` or `WrongChain`: try again."""
        self.models.catch_up()
        self.follower.start()
        self._conditions.refresh()
        self.arming.add(self.models.young_funding())
        self.responder.resend()
        self._caught_up = False
        self.audit.request()
        self._compared = False
        return self.run_pass(Hints(full_sweep=True))

    def run_pass(self, hints: Hints) -> PassReport:
        """Follow, look, respond. What stops the follower is reported after responding; `StoreBroken` is raised."""
        followed = FollowReport()
        error: NodeError | StoreError | None = None
        try:
            self.models.catch_up()
            followed = self.follower.follow(Source.BLOCK if self._caught_up else Source.CATCH_UP)
            self._caught_up = self._caught_up or not followed.moved_again
            self._sweep_owed |= bool(hints.full_sweep or followed.connected or followed.disconnected)
            self._conditions.refresh()
            complete = self.mempool.look(msgspec.structs.replace(hints, full_sweep=self._sweep_owed))
            self._sweep_owed = False
            self._conditions.refresh()
            if complete:
                self.arming.check(self._newly_watched())
        except StoreBroken:
            raise
        except (NodeError, StoreError) as failure:
            error = failure
            self._sweep_owed = True  # blocks, and what the door-bell has heard, may not have been looked at
            self._classify_again()
        height = self.follower.cursor.height
        responded, self._unpublished = self.responder.respond(height), ()
        self._doubted |= isinstance(error, CursorUnknown | BlockNotAvailable)
        error = error or self._publish() or self._audit() or self._compare() or self._erase()
        responded = msgspec.structs.replace(responded, troubles=responded.troubles + self._unpublished)
        again = followed.moved_again or self.mempool.sweep_pending or self.arming.pending or self.audit.pending
        report = PassReport(followed, responded, height, error, again, self.audit.report)
        self._observe(report)
        return report

    def _classify_again(self) -> None:
        """A secret that came while the follower stands still makes a close a breach all the same."""
        try:
            self.mempool.classify_again()
        except StoreBroken:
            raise
        except StoreError:
            return  # what stopped the pass is reported; the next one tries again

    def _publish(self) -> NodeError | None:
        """The owner's closes are sent last: they have no deadline, a penalty has one."""
        try:
            self._unpublished = self._publisher.publish()
        except NodeError as failure:
            return failure
        return None

    def _audit(self, size: int | None = None) -> NodeError | StoreError | None:
        """One step; a whole round begins when the follower had to pass over a block or did not know where it stood."""
        if self._doubted or self.follower.blocks_passed_over != self._passed_over:
            self._doubted, self._passed_over = False, self.follower.blocks_passed_over
            self.audit.request()
        try:
            self._tip_moved = not self.audit.step(size)
        except StoreBroken:
            raise
        except (NodeError, StoreError) as failure:
            return failure
        return None

    def _compare(self) -> NodeError | StoreError | None:
        """The rest of the first round, once after each start, as soon as no block is missing.

        Nobody should believe that we watch before everything was compared; a large tower goes on in its next passes.
        """
        error: NodeError | StoreError | None = None
        if self._compared or not self._caught_up:
            return None
        for _ in range(FIRST_SLICES):
            if error is not None or not self.audit.in_round or self._tip_moved:
                break
            error = self._audit(FIRST_SLICE)
        self._compared = error is None and not self._tip_moved
        return error

    def _erase(self) -> StoreError | None:
        try:
            self._erasing.run()
        except StoreBroken:
            raise
        except StoreError as failure:
            return failure
        return None

    def is_watched(self, outpoint: bytes) -> bool:
        """For the door-bell: does this outpoint matter to us? Safe to call from another thread."""
        return outpoint in self.models.watched or outpoint in self._conditions

    def is_ours(self, txid: bytes) -> bool:
        """For the door-bell: did we send this transaction in this run? Safe to call from another thread."""
        return txid in self.responder.sent

    def _newly_watched(self) -> list[str]:
        """Channels that changed for the first time in this run: they are armed by a check of the funding output.

        Where a spend is known there is nothing to find, and its answer must not wait for the check.
        """
        fresh = sorted(self.models.take_changed() - self._armed - set(self.models.contested()))
        self._armed.update(fresh)
        return fresh
