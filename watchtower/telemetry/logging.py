"""structlog to stdout: one JSON object per line, redacted, capped, with journald's priority where journald reads.

Promises: no local variables of frames, no secrets (see `redaction`), no record above 16 KiB, the level can be changed
while running. A log line is never the only record of anything: the event store is.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from watchtower.telemetry.redaction import redact

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""syslog priorities (RFC 5424) that journald reads from a `<N>` prefix."""

RECORD_LIMIT = 16 * 1024
"""journald splits lines beyond 48 KiB; a third of it leaves room for its own fields."""

VALUE_LIMIT = 2 * 1024


class Stream:
    """Lines to a stream that may be gone: a reader that ended, a full disk. Such a line is lost, and nothing else is.

    Raised in the middle of a pass, or on the way to a stop, the error would end the work that the line only tells of.
    """

    def __init__(self, target: TextIO) -> None:
        self._target = target

    def write(self, text: str) -> None:
        """Write, if that is possible."""
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._target.write(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with suppress(OSError, ValueError):
            self._target.flush()


class LogControl:
    """The least level that is written; read by every record, so that a change has effect at once."""

    def __init__(self, level: str) -> None:
        self.level = level

    def admits(self, level: str) -> bool:
        """True if a record of this level is written."""
        return LEVELS.get(level, 20) >= LEVELS[self.level]


def configure(
    level: str,
    form: str,
    *,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    count: Callable[[str], None] | None = None,
) -> LogControl:
    """Send structlog's and the standard library's records through one chain to `stream` (stdout).

    `form` is auto, json or console; `count` is called with the level of every written record.
    """
    target = stream or sys.stdout
    control = LogControl(level)
    console = form == "console" or (form == "auto" and target.isatty())
    before = _before(control, count, console=console)
    after = _after(console, _journald_reads(target, environ or os.environ))
    structlog.configure(
        processors=[*before, *after],
        # Its own filter is open: a level that is baked in could not be changed later.
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", Stream(target))),
        cache_logger_on_first_use=False,
    )
    _redirect_standard_library(target, before, after)
    return control


def log_unforeseen() -> None:
    """Errors that end a thread or the process go the way of all lines, too: what Python prints is not redacted."""
    log = structlog.get_logger(__name__)

    def of_thread(found: threading.ExceptHookArgs) -> None:
        name = found.thread.name if found.thread is not None else "?"
        if found.exc_type is not SystemExit:
            log.critical("task_ended", task=name, reason=found.exc_type.__name__, exc_info=found.exc_value)

    def of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("service_failed", reason=kind.__name__, exc_info=error)

    threading.excepthook = of_thread
    sys.excepthook = of_process


def _before(control: LogControl, count: Callable[[str], None] | None, *, console: bool) -> list[Processor]:
    def filtered(_logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
        if not control.admits(_level(method, record)):
            raise structlog.DropEvent
        return record

    def counted(_logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
        if count is not None:
            count(_level(method, record))
        return record

    return [
        structlog.contextvars.merge_contextvars,
        filtered,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        counted,
        # Neither shows locals: they would print every key that a frame holds. A console writes text, not objects.
        structlog.processors.format_exc_info
        if console
        else structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    ]


def _level(method: str, record: EventDict) -> str:
    level = str(record.get("level") or method)
    return {"warn": "warning", "exception": "error", "fatal": "critical"}.get(level, level)


def _after(console: bool, journald: bool) -> list[Processor]:
    def redacted(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
        return redact(record)

    rendered: Processor = capped_json
    if console:
        rendered = structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
        )
    return [redacted, rendered, _with_priority] if journald else [redacted, rendered]


def capped_json(_logger: WrappedLogger, _method: str, record: EventDict) -> str:
    """One line of JSON of at most `RECORD_LIMIT` bytes; long values are cut, and in the extreme left out."""
    line = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    if len(line.encode()) <= RECORD_LIMIT:
        return line
    shorter = {name: _cut(value) for name, value in record.items()} | {"cut": True}
    line = json.dumps(shorter, ensure_ascii=False, separators=(",", ":"))
    if len(line.encode()) <= RECORD_LIMIT:
        return line
    core = {name: _cut(record[name]) for name in ("event", "level", "timestamp", "channel", "txid") if name in record}
    return json.dumps(core | {"cut": True}, separators=(",", ":"))


def _cut(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= VALUE_LIMIT // 4:
        return value
    return text[: VALUE_LIMIT // 4] + f"[cut:{len(text)}]"


def _with_priority(_logger: WrappedLogger, method: str, line: Any) -> Any:
    """`<3>` before the line. The level is read from the line: the method of a foreign record is not known here."""
    level = method
    for name in PRIORITIES:
        if f'"level":"{name}"' in line:
            level = name
            break
    return f"<{PRIORITIES.get(level, 6)}>{line}"


def _journald_reads(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """True if `stream` is the journal's socket (systemd.exec: device and inode in JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _redirect_standard_library(target: TextIO, before: list[Processor], after: list[Processor]) -> None:
    def from_record(_logger: WrappedLogger, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        source = record.pop("_record", None)
        record.pop("_from_structlog", None)
        if source is not None:
            record["level"], record["logger"] = source.levelname.lower(), source.name
            record.setdefault("exc_info", source.exc_info)
        return record

    # The formatter's own chain begins with the level, which the filter of the shared chain needs.
    formatter = structlog.stdlib.ProcessorFormatter(processors=[from_record, *before[2:], *after])
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    filtered = before[1]

    def admitted(record: logging.LogRecord) -> bool:
        try:
            filtered(None, record.levelname.lower(), {})
        except structlog.DropEvent:
            return False
        return True

    handler.addFilter(admitted)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    # At DEBUG it prints RPC parameters, and serializes every full reply to do so.
    logging.getLogger("BitcoinRPC").setLevel(logging.WARNING)
    for noisy in ("asyncio", "httpx", "httpcore", "eventsourcing"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        own = logging.getLogger(name)
        own.handlers.clear()
        own.propagate = True
        own.setLevel(logging.WARNING)
