"""When the canary sings: once for each new tip, after the pass that found it, and again soon if it failed."""

from __future__ import annotations

import time
from typing import Protocol

import structlog

from domain.chain import BlockRef
from watchtower.canary import stages
from watchtower.canary.example import EXAMPLES, Example
from watchtower.canary.stages import CanaryFailed, JudgingNode, WatchIndex
from watchtower.ports import NodeError, Rng
from watchtower.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

IDLE_SECONDS = 3_600.0
"""Without a new block it is sung again after so long: the code may have broken meanwhile, and an hour is silent."""

RETRY_SECONDS = 60.0


class CanaryNode(JudgingNode, Protocol):
    """What the canary asks the node. Every method raises `NodeError`."""

    def block(self, block_hash: bytes) -> bytes:
        """Serialized block."""


class Canary:
    """`turn` belongs to the canary's thread, `tip` may be called from any; calls of `tip` never wait."""

    def __init__(self, *, node: CanaryNode, models: WatchIndex, rng: Rng, metrics: Metrics) -> None:
        """`node` has connections of its own; `models` is only read."""
        self._node = node
        self._models = models
        self._rng = rng
        self._metrics = metrics
        self._tip: BlockRef | None = None
        self._told: set[tuple[str, str]] = set()

    def tip(self, block: BlockRef) -> bool:
        """The tower stands at this block; True if that is news and a turn is due. Only the newest one counts."""
        if block == self._tip:
            return False
        self._tip = block
        return True

    def turn(self) -> float:
        """All stages, once; the seconds until the next time unless a block comes."""
        tip = self._tip
        if tip is None:
            return IDLE_SECONDS
        began = time.monotonic()
        # All parts, even if the first one fails: each tells about code of its own.
        passed = [self._index(tip), *map(self._answer, EXAMPLES)]
        if not all(passed):
            return RETRY_SECONDS
        self._told.clear()
        self._metrics.set("canary_last_success_timestamp_seconds", value=time.time())
        _log.info("canary_passed", height=tip.height, seconds=round(time.monotonic() - began, 3))
        return IDLE_SECONDS

    def _index(self, tip: BlockRef) -> bool:
        try:
            raw = self._node.block(tip.hash)
        except NodeError as error:
            return self._fail("node", error)
        try:
            stages.index(raw, self._models, tip.hash)
        except Exception as error:  # noqa: BLE001 - whatever breaks here would make the tower blind, too
            return self._fail("index", error)
        return True

    def _answer(self, example: Example) -> bool:
        stage = "classify"
        try:
            channel = stages.classified(example)
            stage = "build"
            penalty = stages.built(example, channel, self._rng)
            stage = "node"
            stages.judged(penalty, self._node)
        except Exception as error:  # noqa: BLE001 - whatever breaks here would fail a real channel, too
            return self._fail(stage, error)
        return True

    def _fail(self, stage: str, error: Exception) -> bool:
        reason = f"{type(error).__name__}: {error}"
        self._metrics.count("canary_failures_total", stage)
        if (stage, reason) not in self._told:
            unforeseen = None if isinstance(error, CanaryFailed | NodeError) else error
            _log.error("canary_failed", stage=stage, reason=reason, exc_info=unforeseen)
        self._told.add((stage, reason))
        return False
