"""What the log says about itself: sealed heads are signed by the tower, epochs and segments rise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domain.contract.keys import verify_schnorr
from domain.events import (
    LOG_STREAM,
    HeadSealed,
    LogOpened,
    ReceiptsCovered,
    Recorded,
    SegmentClosed,
    SoftwareDeployed,
    StoreRestored,
)
from domain.log_chain import sealed_head_hash
from watchtower.audit.domain_rules import Counted
from watchtower.audit.findings import ExitCode, Finding
from watchtower.store.source import SourceMeta


class LogRules:
    """The rules of the stream `log`. `tower_key` is the tower's x-only key; without it no seal can be verified.

    The log does not name that key: whoever could rewrite the log would have written another one.
    """

    name = "log about itself"
    everywhere: frozenset[str] = frozenset()

    def __init__(self, tower_key: bytes | None = None) -> None:
        self.tower_key = tower_key

    def start(self, log: SourceMeta, /) -> LogCheck:
        """Begin with epoch 0."""
        return LogCheck(log.log_id, self.tower_key)


class LogCheck:
    """What the log has said about itself so far."""

    def __init__(self, log_id: bytes, tower_key: bytes | None) -> None:
        self._log_id, self._tower_key = log_id, tower_key
        self._epoch, self._sealed, self._segment, self._verified = 0, 0, 0, 0
        self._ends, self._is_whole = False, False

    @property
    def counted(self) -> Counted:
        """Seals whose signature was verified."""
        return {"seals": self._verified}

    def page(self, events: Sequence[Recorded]) -> Iterator[Finding]:
        """Look at the events of the log's own stream."""
        for recorded in events:
            if recorded.envelope.stream == LOG_STREAM:
                yield from self._step(recorded)

    def end(self) -> tuple[Finding, ...]:
        """Nothing is left over."""
        return ()

    def _step(self, recorded: Recorded) -> Iterator[Finding]:
        match recorded.envelope.payload:
            case LogOpened() as opened:
                yield from self._open(recorded, opened)
            case HeadSealed() as seal:
                yield from self._seal(recorded, seal)
            case StoreRestored() as restored:
                yield from self._restore(recorded, restored)
            case ReceiptsCovered() as covered if self._is_whole and covered.epoch != self._epoch:
                yield _finding(recorded, f"receipts of epoch {covered.epoch} are covered, the epoch is {self._epoch}")
            case SegmentClosed() as closed:
                yield from self._close(recorded, closed)
            case SoftwareDeployed() | ReceiptsCovered():
                pass

    def _open(self, recorded: Recorded, opened: LogOpened) -> Iterator[Finding]:
        """The first event of the log, or of a segment behind the end of the one before."""
        is_first = recorded.envelope.version == 1
        if self._is_whole and not self._ends:
            yield _finding(recorded, "a segment was opened before the one before it was closed")
        if self._ends and opened.segment != self._segment + 1:
            yield _finding(recorded, f"segment {self._segment} is followed by segment {opened.segment}")
        self._is_whole = self._is_whole or is_first
        self._segment, self._ends = opened.segment, False

    def _seal(self, recorded: Recorded, seal: HeadSealed) -> Iterator[Finding]:
        if not self._sealed <= seal.position < recorded.id:
            yield _finding(recorded, f"the head of position {seal.position} was sealed behind that of {self._sealed}")
        self._sealed = seal.position
        if self._tower_key is None:
            return
        self._verified += 1
        if not verify_schnorr(self._tower_key, sealed_head_hash(self._log_id, seal.position, seal.head), seal.sig):
            words = f"the seal of position {seal.position} is not signed by tower {self._tower_key.hex()}"
            yield _finding(recorded, words, ExitCode.SIGNATURE)

    def _restore(self, recorded: Recorded, restored: StoreRestored) -> Iterator[Finding]:
        if restored.epoch <= self._epoch:
            yield _finding(recorded, f"epoch {restored.epoch} does not rise above {self._epoch}")
        if restored.position >= recorded.id:
            yield _finding(recorded, f"the log goes on behind position {restored.position}, which was not reached")
        self._epoch = max(self._epoch, restored.epoch)
        self._sealed = min(self._sealed, restored.position)

    def _close(self, recorded: Recorded, closed: SegmentClosed) -> Iterator[Finding]:
        if (closed.segment, closed.position) != (self._segment, recorded.id - 1):
            yield _finding(recorded, f"segment {self._segment} was closed as segment {closed.segment} or elsewhere")
        self._ends = True


def _finding(recorded: Recorded, sentence: str, code: ExitCode = ExitCode.RULE) -> Finding:
    return Finding(
        code=code,
        position=recorded.id,
        stream=recorded.envelope.stream,
        topic=recorded.envelope.topic,
        sentence=f"event {recorded.id}: {sentence}",
    )
