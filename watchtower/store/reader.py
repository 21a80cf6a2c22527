"""Reading a log, whatever database it is in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, perf_counter
from types import TracebackType
from typing import Self

from domain.events import Envelope, Recorded, decode_payload
from watchtower.ports import Place, StoreError
from watchtower.store.errors import GuardViolation, is_damaged
from watchtower.store.log import Log
from watchtower.store.observing import Observe, failure_kind
from watchtower.store.recorders import LogMeta
from watchtower.store.streams import stream_id

FOREIGN_POLL = 0.1
"""Seconds between two looks at a log whose writer cannot tell this process of a commit."""


def ignore_observation(operation: str, seconds: float, kind: str) -> None:
    """The default for `observe`: nobody counts."""


class LogReader:
    """Read access to a log, also while the service writes it. Every call is its own short transaction."""

    def __init__(self, log: Log, meta: LogMeta, observe: Observe = ignore_observation) -> None:
        self._log, self.meta, self._observe = log, meta, observe
        self._recorder = log.recorder
        self._meanings = log.recorder.meanings
        self.damaged: frozenset[str] = frozenset()
        self.known_until: int | None = None
        """Read models that stand behind this id may be of another history of the log; None if there is but one."""

    @property
    def file(self) -> Path | None:
        """A log file of this machine with everything that is read here; None if there is none."""
        return None

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """Envelopes of a stream with version > `after`, in order.

        Raises `GuardViolation` if the file is damaged where they are: the other channels are served all the same.
        """
        with self._reading("read_stream", stream):
            events: list[Envelope] = list(self._log.events.get(stream, gt=after, limit=limit))  # type: ignore[arg-type]
            return events

    def read_recorded(self, stream: str, after: int, limit: int) -> list[Recorded]:
        """The events of a stream with versions `after` + 1 to `after` + `limit`, with their ids."""
        with self._reading("read_stream", stream):
            found = sorted(self._recorder.stored_rows(stream, after + 1, after + limit).items())
        return [
            Recorded(event_id, Envelope(stream, version, topic, decode_payload(topic, state)))
            for version, (event_id, topic, state) in found
        ]

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log in order of notification id, behind `after_id`; fewer than `limit` only at its end.

        Events of damaged channels are left out, however many of them stand in a row.
        """
        decode = self._log.mapper.to_domain_event
        recorded: list[Recorded] = []
        with self._reading("read_log"):
            while len(recorded) < limit:
                wanted = limit - len(recorded)
                found = self._recorder.select_log(after_id, wanted)
                recorded += [
                    Recorded(notification.id, decode(notification))  # type: ignore[arg-type]
                    for notification in found
                    if str(notification.originator_id) not in self.damaged
                ]
                if len(found) < wanted:
                    break
                after_id = found[-1].id
        return recorded

    def last_id(self) -> int:
        """Highest committed notification id, 0 for an empty log."""
        with self._reading("last_id"):
            return self._recorder.max_notification_id() or 0

    def version(self, stream: str) -> int:
        """Last version of a stream, 0 if it has no event."""
        with self._reading("version"):
            return self._recorder.version(stream)

    def event_id(self, stream: str, version: int) -> int | None:
        """Notification id of a stored event, None if there is none."""
        with self._reading("event_id"):
            found = self._recorder.stored_rows(stream, version, version).get(version)
        return None if found is None else found[0]

    def place(self, event_id: int) -> Place:
        """Position, leaf and head of a stored event; raises `StoreError` if the log has no such event."""
        with self._reading("place"):
            found = self._recorder.place(event_id)
        if found is None:
            raise StoreError(f"the commit chain holds no event {event_id}; verify the store")
        return found

    def stream_id(self, category: str, natural_key: bytes) -> str:
        """Deterministic, unlinkable stream name: category letter and 22 characters."""
        return stream_id(self.meta.stream_key, category, natural_key)

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Wait until the log has an event behind `after_id`; False after `timeout` seconds.

        The end of the log is looked at now and then; an engine that can tell other processes does better.
        """
        deadline, pause = monotonic() + timeout, threading.Event()
        while self.last_id() <= after_id:
            left = deadline - monotonic()
            if left <= 0:
                return False
            pause.wait(min(FOREIGN_POLL, left))
        return True

    def close(self) -> None:
        """Close all connections."""
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _reading(self, operation: str, stream: str = "") -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        except self._meanings.failures as error:
            meant = self._meanings.store_error(error)
            self._observe(f"{operation}_failed", perf_counter() - started, failure_kind(meant, error))
            if stream and is_damaged(error):
                raise GuardViolation(f"events of {stream} cannot be read; restore the log from a backup") from error
            raise meant from error
        self._observe(operation, perf_counter() - started, "")
