"""Logs: one JSON object per line, no secret in it, short enough, with a level that can be changed."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import structlog

from domain.chain import BlockRef
from domain.contract.params import Side
from domain.events import EVENT_TYPES, SettleConfirmed, Source, SpendKind, SpendSeen
from tests.support.logs_page import with_tables
from watchtower.telemetry.events import ALL_EVENTS, DOMAIN_EVENTS, PARTY_EVENTS, level_of, snake_case
from watchtower.telemetry.logging import LEVELS, RECORD_LIMIT, LogControl, configure, log_unforeseen
from watchtower.telemetry.redaction import IDENTIFIERS, redact

TXID = "ab" * 32
SECRETS = {
    "hex": "c4" * 32,
    "long_hex": "0x" + "C4" * 40,
    "base64": "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OUFCQ0RFRkdISUpLTE1OTw==",
    "token": "wt_Canary51Canary51",
    "url": "http://canary51:canary51@127.0.0.1:8332/",
    "bytes": b"\xc4" * 32,
}
CANARIES = ("c4c4", "C4C4", "Zm9vYmFy", "Canary51", "canary51")


class Sink:
    """A configured chain that writes into memory."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.levels: list[str] = []
        self.control: LogControl = configure("info", "json", stream=self.out, environ={}, count=self.levels.append)
        self.log: Any = structlog.get_logger()

    def lines(self) -> list[dict[str, Any]]:
        """Every line, decoded."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The process-wide settings are put back after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def sink() -> Sink:
    """A configured chain that writes into memory."""
    return Sink()


def found(text: str) -> list[str]:
    """The secrets that can be read in a text."""
    return [canary for canary in CANARIES if canary in text]


@pytest.mark.parametrize("name", sorted(ALL_EVENTS))
def test_no_event_lets_a_secret_through(sink: Sink, name: str) -> None:
    """Each kind of secret in each field of the table, under an innocent name, as a key, in a list, in the context."""
    structlog.contextvars.bind_contextvars(context=SECRETS["hex"])
    fields = [field for field in (*ALL_EVENTS[name].fields, "detail", "filename") if field not in IDENTIFIERS]
    for kind, secret in SECRETS.items():
        sink.log.error(name, **{**dict.fromkeys(fields, secret), kind: secret})
    sink.log.error(name, nested={"list": list(SECRETS.values()), SECRETS["hex"]: 1}, text=f"got {SECRETS['hex']} twice")
    assert len(SECRETS) + 1 == len(sink.lines())
    assert [] == found(sink.out.getvalue())


@pytest.mark.parametrize("field", sorted(IDENTIFIERS))
@pytest.mark.parametrize("kind", sorted(set(SECRETS) - {"hex", "bytes"}))
def test_a_public_name_is_no_way_out_for_other_secrets(sink: Sink, field: str, kind: str) -> None:
    """Where 64 digits may be read, tokens, longer runs and addresses may not."""
    sink.log.error("task_ended", **{field: SECRETS[kind]})
    assert [] == found(sink.out.getvalue())


LIBRARIES = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "eventsourcing", "httpx", "BitcoinRPC")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_no_library_lets_a_secret_through(form: str, name: str) -> None:
    """As text, as argument, as an object that is printed, and in an exception: whoever logs, the chain is the same."""
    out = io.StringIO()
    configure("debug", form, stream=out, environ={})
    logger = logging.getLogger(name)
    for secret in SECRETS.values():
        logger.error("cannot use %r", secret)
        logger.error("cannot use %s", secret)
        logger.error("cannot use %(it)s", {"it": secret})
        try:
            raise ValueError(f"cannot use {secret!r}")
        except ValueError:
            logger.exception("failed", extra={"more": secret})
    assert 4 * len(SECRETS) <= len(out.getvalue().splitlines())
    assert [] == found(out.getvalue())


def test_bytes_in_the_words_of_python_are_hidden(sink: Sink) -> None:
    """An error often carries bytes as Python writes them, and not as hexadecimal digits."""
    sink.log.error("task_ended", reason=f"cannot use {SECRETS['bytes']!r}")
    assert "xc4" not in sink.out.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_exception_lets_a_secret_through(form: str) -> None:
    """Neither message, notes, causes, members of a group nor local variables are written in clear."""
    out = io.StringIO()
    configure("info", form, stream=out, environ={})
    secret = SECRETS["hex"]
    try:
        try:
            raise KeyError(SECRETS["base64"])
        except KeyError as cause:
            member = ValueError(f"cannot use {secret} or {SECRETS['token']}")
            member.add_note(f"see {SECRETS['url']}")
            raise ExceptionGroup(f"several of {SECRETS['long_hex']}", [member]) from cause
    except ExceptionGroup:
        structlog.get_logger().exception("task_ended", task="pass")
        logging.getLogger("elsewhere").exception("failed")
    assert 2 <= out.getvalue().count("several of")
    assert [] == found(out.getvalue())


def test_what_ends_a_thread_or_the_process_is_logged(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would print it to stderr as it is; here it goes through the chain."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    log_unforeseen()
    error = ValueError(f"cannot use {SECRETS['token']}")
    sys.excepthook(ValueError, error, None)
    threading.excepthook(threading.ExceptHookArgs((ValueError, error, None, threading.current_thread())))
    assert ["service_failed", "task_ended"] == [line["event"] for line in sink.lines()]
    assert ["critical", "critical"] == sink.levels
    assert [] == found(sink.out.getvalue())


@pytest.mark.parametrize(
    "name",
    [
        "revocation_secret",
        "tower_key",
        "rpc_password",
        "api_token",
        "cookie",
        "authorization",
        "signature",
        "nonce",
        "seed",
    ],
)
def test_a_secret_name_hides_even_a_short_value(name: str) -> None:
    """A field with such a name is never shown."""
    assert {name: "[redacted]"} == redact({name: "abc"})


def test_public_identifiers_stay_readable() -> None:
    """Txids and outpoints are what an operator searches for; elsewhere the same text is hidden."""
    fields = {"txid": TXID, "outpoint": TXID + ":1", "block_hash": TXID, "channel": TXID, "event_id": TXID}
    assert fields == redact(fields)
    assert {"reason": "[redacted:64]", "txid": "[redacted:66]"} == redact({"reason": TXID, "txid": TXID + "00"})


def test_the_level_can_be_changed_while_running(sink: Sink) -> None:
    """A logger that exists already follows the new level, as do the standard library's loggers."""
    sink.log.debug("service_started")
    sink.control.level = "debug"
    sink.log.debug("service_stopped")
    logging.getLogger("elsewhere").debug("plain")
    assert ["service_stopped", "plain"] == [line["event"] for line in sink.lines()]


def test_written_records_are_counted_by_level(sink: Sink) -> None:
    """The counter sees what is written, from both worlds, and nothing that is filtered."""
    sink.log.debug("service_started")
    sink.log.warning("service_started")
    logging.getLogger("elsewhere").error("plain")
    assert ["warning", "error"] == sink.levels


def test_rpc_parameters_are_never_logged(sink: Sink) -> None:
    """The RPC library prints parameters at DEBUG; its logger is pinned whatever the level."""
    sink.control.level = "debug"
    logging.getLogger("BitcoinRPC").debug("-1-> sendrawtransaction [...]")
    assert [] == sink.lines()


def test_a_record_is_capped(sink: Sink) -> None:
    """A huge record becomes a short line of valid JSON that says it was cut."""
    sink.log.error("task_ended", reason="x y " * 100_000, more=[{"a b": "c d " * 100}] * 1_000)
    sink.log.error("task_ended", **{f"field_{number}": "x y " * 1_000 for number in range(200)})
    assert [True, True] == [line["cut"] for line in sink.lines()]
    assert RECORD_LIMIT >= max(len(line.encode()) for line in sink.out.getvalue().splitlines())


def test_journald_gets_a_priority(tmp_path: Path) -> None:
    """When stdout is the journal's socket, each line begins with syslog's priority."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        status = path.stat()
        configure("info", "json", stream=stream, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        structlog.get_logger().critical("breach_detected")
        structlog.get_logger().info("block_connected")
    assert ["<2>{", "<6>{"] == [line[:4] for line in path.read_text().splitlines()]


def test_every_domain_event_has_its_log_name() -> None:
    """A domain event is logged under its class name in snake case."""
    assert "breach_detected" == snake_case("BreachDetected")
    assert set() == {snake_case(event.__name__) for event in EVENT_TYPES} - set(ALL_EVENTS)


class Logged(NamedTuple):
    """One place that logs a constant name: its level, the fields it names, whether it gives others, too."""

    place: str
    name: str
    level: str
    fields: frozenset[str]
    more: bool


def logged_places() -> list[Logged]:
    """Every call of a logger in the sources with a constant name."""
    levels = {"exception": "error"}
    return [
        Logged(
            f"{path}:{node.lineno}",
            node.args[0].value.partition(" ")[0],
            levels.get(node.func.attr, node.func.attr),
            frozenset(str(each.arg) for each in node.keywords),
            any(each.arg is None for each in node.keywords),
        )
        for path in Path("watchtower").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {*LEVELS, "exception"}
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"log", "_log", "LOG", "logger"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ]


@pytest.mark.slow
def test_every_logged_name_is_in_the_table() -> None:
    """The table is the interface: the sources log no other constant name, and no name is there for nothing."""
    names = {each.name for each in logged_places()} | {"node_lost", "node_wrong_chain"}  # chosen by a condition
    own = set(ALL_EVENTS) - set(DOMAIN_EVENTS)
    assert (set(), set()) == (names - own, own - names)


@pytest.mark.slow
def test_every_logged_level_is_in_the_table() -> None:
    """An operator filters by level: the table says which ones a name can have."""
    wrong = [each for each in logged_places() if each.level not in ALL_EVENTS[each.name].levels]
    assert [] == wrong


@pytest.mark.slow
def test_every_logged_line_has_the_fields_of_the_table() -> None:
    """Structured lines give at least what the table promises; what a `**` adds is not seen here."""
    structured = [each for each in logged_places() if each.fields and each.name not in PARTY_EVENTS]
    short = [each for each in structured if not each.more and set(ALL_EVENTS[each.name].fields) - each.fields]
    assert 60 < len(structured)
    assert [] == short


def test_the_tables_of_the_page_are_the_generated_ones() -> None:
    """After a change: make pages."""
    page = Path("docs/logs.md").read_text()
    assert page == with_tables(page), test_the_tables_of_the_page_are_the_generated_ones.__doc__


def test_what_may_cost_money_is_loud() -> None:
    """The same name is told more loudly when it means a loss, or a spend that nobody had signed for."""
    ours = SettleConfirmed(
        recorded_at=1,
        commit_txid=bytes(32),
        txid=bytes(32),
        side=Side.A,
        sequence=3,
        revoked=False,
        value=9,
        block=BlockRef(7, bytes(32)),
    )
    strange = SpendSeen(
        recorded_at=1,
        kind=SpendKind.UNKNOWN_SPEND,
        txid=bytes(32),
        side=None,
        sequence=None,
        raw=b"",
        source=Source.MEMPOOL,
        height=7,
    )
    assert ("info", "critical") == (level_of(ours), level_of(msgspec.structs.replace(ours, revoked=True)))
    assert ("critical", "info") == (
        level_of(strange),
        level_of(msgspec.structs.replace(strange, kind=SpendKind.OWN_CLOSE)),
    )


@pytest.mark.slow
def test_a_burst_is_written_whole(sink: Sink) -> None:
    """As many lines as journald's default limit would drop: none is lost, and each is small."""
    for number in range(10_000):
        sink.log.info("http_request", method="POST", route="/v1/channels/{id}/states", code=200, seconds=number / 1e6)
    lines = sink.out.getvalue().splitlines()
    assert (10_000, 10_000) == (len(lines), len(sink.levels))
    assert 250 > max(map(len, lines))


def test_a_party_logs_the_fields_of_the_table() -> None:
    """Its lines are texts: the name, then the fields that the table gives it."""
    texts = {
        text
        for folder in ("client", "party")
        for path in Path("watchtower", folder).rglob("*.py")
        for text in re.findall(r'_log\.\w+\(\s*"([a-z_]+(?: [a-z]+=%[sd])+)"', path.read_text())
    }
    told = {text.split(" ")[0]: tuple(re.findall(r"(\w+)=", text)) for text in texts}
    assert "link_ended" in told
    table = {name: event.fields for name, event in PARTY_EVENTS.items()}
    assert told.items() <= table.items()


class BrokenPipe(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text: str) -> int:
        """Fail."""
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self) -> None:
        """Fail."""
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("closed", [False, True])
def test_a_reader_that_is_gone_stops_nobody(closed: bool) -> None:
    """The line is lost; whoever wrote it goes on, be it a pass that answers a breach or a stop."""
    stream = BrokenPipe()
    levels: list[str] = []
    configure("info", "json", stream=stream, environ={}, count=levels.append)
    log: Any = structlog.get_logger()
    (stream.close if closed else stream.tell)()

    log.critical("task_ended", task="pass")

    assert ["critical"] == levels
