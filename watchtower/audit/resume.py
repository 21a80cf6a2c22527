"""What an audit has done so far, in a file: an interrupted one goes on from there and ends with the same report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from watchtower.audit.domain_rules import RulesResult
from watchtower.audit.plan import Plan
from watchtower.audit.stretches import StretchResult
from watchtower.audit.versions import is_intact
from watchtower.store.source import LogSource

EVERY = 1.0
"""Seconds between two writes; what was done since is done again after a crash."""

MAX_FILE = 1 << 30


class OtherRun(Exception):
    """The file belongs to another audit, or is none; the text says what to do."""


class DoneSoFar(msgspec.Struct, kw_only=True):
    """State of an audit: what was asked for (`arguments`, SHA-256 in hex), its plan, the parts that are done."""

    form: Literal[1] = 1
    command: str
    arguments: str
    log_id: bytes
    plan: Plan
    stretches: list[StretchResult] = []
    rules: list[RulesResult] = []


class Notebook:
    """Keeps the state of an audit in a file, beside it a directory for its larger parts. Without a path: nowhere."""

    def __init__(self, path: Path | None, scratch: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self.scratch = scratch if path is None else path.with_name(path.name + ".parts")
        self._saved_at = -EVERY

    def open(self, command: str, arguments: str, log_id: bytes) -> DoneSoFar | None:
        """What an earlier run has done; None if there was none. Raises `OtherRun`."""
        if self._path is None or not self._path.exists():
            self.scratch.mkdir(parents=True, exist_ok=True)
            return None
        state = self._read(self._path)
        if (state.command, state.arguments, state.log_id) != (command, arguments, log_id):
            raise OtherRun(
                f"{self._path} belongs to an audit with other arguments or of another log; repeat those, or delete it"
            )
        self.scratch.mkdir(parents=True, exist_ok=True)
        state.stretches = [each for each in state.stretches if is_intact(self.scratch, each.versions)]
        return state

    def save(self, state: DoneSoFar, *, now: bool = False) -> None:
        """Write the file durably, at most once in `EVERY` seconds unless it has to be `now`. Raises `OSError`."""
        if self._path is None or (not now and self._clock() - self._saved_at < EVERY):
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}-", dir=self._path.parent)
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(state))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self._saved_at = self._clock()

    def discard(self) -> None:
        """The audit is over: remove everything."""
        if self._path is None:
            return
        self._path.unlink(missing_ok=True)
        for part in self.scratch.glob("versions-*"):
            part.unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's file is in it: no reason to withhold the report
            self.scratch.rmdir()

    def _read(self, path: Path) -> DoneSoFar:
        try:
            if path.stat().st_size > MAX_FILE:
                raise OtherRun(f"{path} is too long for the state of an audit")
            return msgspec.json.decode(path.read_bytes(), type=DoneSoFar)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise OtherRun(f"{path} is not the state of an audit ({error}); give another name, or delete it") from None
        except OSError as error:
            raise OtherRun(f"{path} cannot be read: {error.strerror}") from None


def still_fits(source: LogSource, state: DoneSoFar) -> bool:
    """True if the log still has the heads that the earlier run saw. Raises `StoreError`."""
    seen = [(state.plan.last_no, state.plan.head)]
    seen += [(each.stretch.last_no, each.head) for each in state.stretches if not each.findings]
    start = source.meta.start()
    for number, head in seen:
        found = source.commits(number, 1)
        if number == start.commit_no:
            continue
        if not found or found[0].commit_no != number or found[0].head != head:
            return False
    return True
