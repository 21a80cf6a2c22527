"""Logs: one JSON object per line, no secret in it, short enough, with a level that can be changed."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from domain.events import EVENT_TYPES
from watchtower.telemetry.events import ALL_EVENTS, PARTY_EVENTS, snake_case
from watchtower.telemetry.logging import RECORD_LIMIT, LogControl, configure
from watchtower.telemetry.redaction import redact

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


@pytest.mark.parametrize("name", sorted(ALL_EVENTS))
def test_no_event_lets_a_secret_through(sink: Sink, name: str) -> None:
    """Each kind of secret, under an innocent name, inside a list and in the context, is hidden in every event."""
    structlog.contextvars.bind_contextvars(context=SECRETS["hex"])
    sink.log.error(name, **SECRETS, nested={"list": list(SECRETS.values())}, text=f"got {SECRETS['hex']} twice")
    assert [] == [canary for canary in CANARIES if canary in sink.out.getvalue()]


def test_no_exception_lets_a_secret_through(sink: Sink) -> None:
    """Neither the message nor the local variables of a frame are written in clear."""
    secret = SECRETS["hex"]
    try:
        raise ValueError(f"cannot use {secret} or {SECRETS['token']}")
    except ValueError:
        sink.log.exception("task_ended", task="pass")
        logging.getLogger("elsewhere").exception("failed")
    assert [] == [canary for canary in CANARIES if canary in sink.out.getvalue()]
    assert ["ValueError", "ValueError"] == [line["exception"][0]["exc_type"] for line in sink.lines()]


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


def test_every_logged_name_is_in_the_table() -> None:
    """The table is the interface: the sources log no other constant name."""
    logged = {
        (str(path), node.args[0].value)
        for path in Path("watchtower").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"debug", "info", "warning", "error", "exception", "critical"}
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"log", "_log", "LOG", "logger"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert set() == {entry for entry in logged if entry[1].partition(" ")[0] not in ALL_EVENTS}


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
    assert told.items() <= PARTY_EVENTS.items()


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
