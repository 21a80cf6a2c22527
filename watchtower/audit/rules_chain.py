"""The cursor must have walked from block to block: headers hash to their blocks, parents and work fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domain.chain import BlockRef, double_sha256, work_of_bits
from domain.events import (
    CHAIN_STREAM,
    BlockConnected,
    BlockDisconnected,
    CursorStarted,
    Recorded,
)
from watchtower.audit.domain_rules import Counted
from watchtower.audit.findings import ExitCode, Finding
from watchtower.store.source import SourceMeta


class CursorWalk:
    """The rules of the stream `chain`."""

    name = "cursor walk"
    everywhere: frozenset[str] = frozenset()

    def start(self, _log: SourceMeta, /) -> _Walk:
        """Begin with no cursor."""
        return _Walk()


class _Walk:
    """Where the cursor stands with how much work, and the same before each block that it connected."""

    def __init__(self) -> None:
        self._cursor: BlockRef | None = None
        self._work = 0
        self._before: dict[bytes, tuple[BlockRef, int]] = {}

    def page(self, events: Sequence[Recorded]) -> Iterator[Finding]:
        for recorded in events:
            if recorded.envelope.stream == CHAIN_STREAM:
                yield from self.step(recorded)

    def end(self) -> tuple[Finding, ...]:
        return ()

    @property
    def counted(self) -> Counted:
        return {}

    def step(self, recorded: Recorded) -> Iterator[Finding]:
        payload = recorded.envelope.payload
        if isinstance(payload, CursorStarted):
            if self._cursor is not None:
                yield _finding(recorded, "the cursor was started a second time")
            self._cursor, self._work = payload.block, int.from_bytes(payload.chainwork, "big")
        elif isinstance(payload, BlockConnected):
            yield from self._connect(recorded, payload)
        elif isinstance(payload, BlockDisconnected):
            yield from self._disconnect(recorded, payload)

    def _connect(self, recorded: Recorded, payload: BlockConnected) -> Iterator[Finding]:
        block, cursor = payload.block, self._cursor
        if double_sha256(payload.header) != block.hash or payload.header[4:36] != payload.prev:
            yield _finding(recorded, f"the header of block {block.height} does not hash to it or names another parent")
        if cursor is not None and (payload.prev, block.height) != (cursor.hash, cursor.height + 1):
            yield _finding(recorded, f"block {block.height} was connected to a block that is not the cursor")
        work = int.from_bytes(payload.chainwork, "big")
        if cursor is not None and work != self._work + work_of_bits(int.from_bytes(payload.header[72:76], "little")):
            yield _finding(recorded, f"the work up to block {block.height} does not follow from its header")
        if cursor is not None:
            self._before[block.hash] = cursor, self._work
        self._cursor, self._work = block, work

    def _disconnect(self, recorded: Recorded, payload: BlockDisconnected) -> Iterator[Finding]:
        block = payload.block
        if self._cursor is not None and block != self._cursor:
            yield _finding(recorded, f"block {block.height} was disconnected, but the cursor was another block")
        work = int.from_bytes(payload.chainwork, "big")
        before = self._before.pop(block.hash, None)
        if before is not None and before != (payload.parent, work):
            yield _finding(recorded, f"behind block {block.height} the cursor went to a block that is not its parent")
        self._cursor, self._work = payload.parent, work


def _finding(recorded: Recorded, sentence: str) -> Finding:
    return Finding(
        code=ExitCode.RULE,
        position=recorded.id,
        stream=recorded.envelope.stream,
        topic=recorded.envelope.topic,
        sentence=f"event {recorded.id}: {sentence}",
    )
