"""A tower that dies and comes back: its passes and its client go on as the real ones do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from domain.contract.receipts import SignedReceipt
from domain.units import Side
from tests.crash.points import Kind, Mistake, Point, PowerCut, losing
from tests.regtest.world import SWEEP, World
from tests.support.healthy import Watched, assert_tower_healthy
from tests.support.parties import Pair, open_pair
from tests.support.towers import TOWER_KEY
from watchtower.channels.accept_state import accept_state
from watchtower.channels.receipts import reissue
from watchtower.channels.register import register
from watchtower.devnode.regtest import RegtestNode
from watchtower.ports import NodeError, StoreError
from watchtower.wire.receipts import SignedReceiptBody

Answer = TypeVar("Answer")

GONE = (PowerCut, Mistake)
"""What ends the process; a supervisor starts it again."""


class Stage:
    """One node, one tower, one point that fails once."""

    def __init__(self, node: RegtestNode, directory: Path, name: str, kind: Kind, passing: int = 1) -> None:
        self.point = Point()
        self._armed = (name, kind, passing)
        node.mine(1)  # nothing of an earlier story is left in the mempool
        self.world = World(node, directory, failpoint=self.point, views_failpoint=self.point)
        self._keep_answers_losable()
        self.watched: list[Watched] = []
        self.receipts: list[tuple[Pair, str, SignedReceipt]] = []
        self.node = node

    def arm(self) -> None:
        """From here on the point may fail."""
        self.point.arm(*self._armed)

    def open(self, *, challenge_period: int = 24, updates: int = 3) -> Pair:
        """A channel with some states."""
        pair = self.world.open(updates=updates, challenge_period=challenge_period)
        self.watched.append(Watched(pair))
        return pair

    def look(self, passes: int = 2) -> None:
        """Passes as the watch thread makes them: an error ends one, the next one follows."""
        for _ in range(passes):
            try:
                self.world.tower.run_pass(SWEEP)
            except GONE:
                self.restart()
            except (NodeError, StoreError):
                continue

    def look_blindly(self) -> None:
        """One pass whose scanner finds nothing in blocks, as if a parser were wrong."""
        sieve = self.world.models.sieve
        seen = bytes(sieve)
        sieve[:] = bytes(len(sieve))
        self.look(1)
        sieve[:] = seen

    def stop(self) -> None:
        """The process ends; what was not durable is gone."""
        self.world.stop()

    def wake(self) -> None:
        """Start until it works, as a service manager does."""
        for _ in range(3):
            try:
                self.world.wake()
            except (*GONE, NodeError, StoreError):
                self.world.stop()
            else:
                self._keep_answers_losable()
                return
        raise AssertionError("the tower does not start any more")

    def restart(self) -> None:
        """`stop` and `wake`."""
        self.stop()
        self.wake()

    def ask(self, request: Callable[[], Answer]) -> Answer:
        """A client repeats its request, byte for byte, until it is answered."""
        for _ in range(3):
            try:
                return request()
            except GONE:
                self.restart()
            except StoreError:
                continue
        raise AssertionError("the client never got an answer")

    def register(self) -> Pair:
        """A new channel; the registration is repeated until it is answered, then funded and confirmed."""
        pair = open_pair(self.world.fund, names=("carol", "dave"), challenge_period=24)
        told = self.ask(lambda: register(self.world.context, pair.registration(Side.B)))
        self._keep(pair, "registration", told.channel.receipt)
        self.node.send_raw(pair.funding.raw)
        self.node.mine(1)
        self.look()
        self.watched.append(Watched(pair, acknowledged=0))
        return pair

    def upload(self, pair: Pair) -> None:
        """The next state of the channel that was registered last, repeated until it is answered."""
        sequence = pair.update()
        world = self.world
        told = self.ask(lambda: accept_state(world.context, world.stream(pair), pair.update_request(Side.B, sequence)))
        self._keep(pair, str(sequence), told.answer.receipt)
        self.watched[-1] = msgspec.structs.replace(self.watched[-1], acknowledged=sequence)

    def check(self) -> None:
        """The oracle, on the running tower's files and once more after a restart."""
        self.world.models.catch_up()
        assert_tower_healthy(self.node, self.world.directory, self.watched)
        self.stop()
        self.world.wake()
        assert_tower_healthy(self.node, self.world.directory, self.watched)
        for pair, number, receipt in self.receipts:
            assert receipt == reissue(self.world.context, self.world.stream(pair), number), "another receipt"

    def _keep(self, pair: Pair, number: str, told: SignedReceiptBody | None) -> None:
        assert told is not None, "no receipt"
        told.signed().verified(TOWER_KEY.tower_id)
        self.receipts.append((pair, number, told.signed()))

    def close(self) -> None:
        """End of the story."""
        self.world.close()

    def _keep_answers_losable(self) -> None:
        self.world.store.append = losing(self.world.store.append, self.point)  # type: ignore[method-assign]
