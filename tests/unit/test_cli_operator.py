"""doctor, health, status, top, info, breach, events: what they print, their JSON, their exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from domain.chain import chain_hash
from watchtower.cli import _main
from watchtower.cli.output import Context
from watchtower.cli.top import Looking, _signals, draw, rate
from watchtower.doctor.overview import Overview, read_samples
from watchtower.store.create import create_store

ROOT = Path(__file__).parents[2]
KEY = "11" * 32
PAGE = """\
# HELP watchtower_phase p
# TYPE watchtower_phase gauge
watchtower_phase{phase="watching"} 1.0
# TYPE watchtower_chain_processed_height gauge
watchtower_chain_processed_height 210.0
# TYPE watchtower_node_blocks gauge
watchtower_node_blocks 212.0
# TYPE watchtower_node_up gauge
watchtower_node_up 1.0
# TYPE watchtower_protected_sats gauge
watchtower_protected_sats 5e+06
# TYPE watchtower_channels gauge
watchtower_channels{status="active"} 5.0
# TYPE watchtower_breaches_open gauge
watchtower_breaches_open{stage="broadcast"} 0.0
# TYPE watchtower_task_up gauge
watchtower_task_up{task="pass"} 1.0
# TYPE watchtower_state_updates_total counter
watchtower_state_updates_total{outcome="accepted"} 30.0
watchtower_state_updates_total{outcome="error"} 2.0
# TYPE watchtower_http_request_duration_seconds histogram
watchtower_http_request_duration_seconds_bucket{le="1.0",route="/readyz"} 4.0
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
"""


class Tower:
    """What a tower answers, without one. `answers` may be changed while it runs; a missing path is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {
            "/healthz": (200, b'{"alive":true}'),
            "/readyz": (200, b'{"ready":true,"watching":true,"phase":"watching","reasons":[]}'),
            "/metrics": (200, PAGE.encode()),
        }
        self.tokens: list[str] = []
        answers, tokens = self.answers, self.tokens

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tokens.append(self.headers.get("Authorization", ""))
                status, body = answers.get(self.path, (404, b"{}"))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Nobody answers at the port any more."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def tower() -> Iterator[Tower]:
    """A tower that is well."""
    answering = Tower()
    yield answering
    answering.stop()


@pytest.fixture
def home(tmp_path: Path, tower: Tower) -> Path:
    """The directory of this tower, with an empty log."""
    made = tmp_path / "tower"
    made.mkdir(mode=0o700)
    create_store(
        made / "events.db",
        origin="watchtower/regtest/cli",
        chain_hash=chain_hash("regtest"),
        log_id=bytes(16),
        stream_key=bytes(32),
        recorded_at=1_700_000_000_000_000,
    )
    text = f'network = "regtest"\ndata_dir = "{made}"\n[admin]\nlisten = "127.0.0.1:{tower.port}"\n'
    text += (
        '[api]\nlisten = "127.0.0.1:0"\n[node]\nrpc_url = "http://127.0.0.1:1"\nrpc_user = "u"\nrpc_password = "pw-9"\n'
    )
    for name, content in (("config.toml", text), ("tower.key", KEY), ("keystore", ""), ("keystore.passphrase", "")):
        (made / name).touch(mode=0o600)
        (made / name).write_text(content)
    return made


def cli(home: Path, *arguments: str) -> Result:
    """A command in this process, with the tower's settings."""
    return CliRunner().invoke(_main, ["--config", str(home / "config.toml"), *arguments], catch_exceptions=False)


# ── health ───────────────────────────────────────────────────────────────────────────────────────────────

SYNCING = b'{"ready":true,"watching":false,"phase":"degraded","reasons":["node_syncing: wait"]}'
READ_ONLY = b'{"ready":false,"watching":true,"phase":"watching","reasons":["store_read_only: disk"]}'


@pytest.mark.parametrize(
    ("arguments", "answer", "code"),
    [
        ((), (200, SYNCING), 0),
        (("--ready",), (200, SYNCING), 0),
        (("--watching",), (200, SYNCING), 3),
        (("--ready",), (503, READ_ONLY), 3),
        (("--ready",), (200, b"no tower"), 4),
    ],
)
def test_health_says_by_its_exit_code(
    home: Path, tower: Tower, arguments: tuple[str, ...], answer: tuple[int, bytes], code: int
) -> None:
    """Alive, ready and watching are three questions; a node that is away is no reason for a restart."""
    tower.answers["/readyz"] = answer

    assert code == cli(home, "health", *arguments).exit_code


def test_health_of_a_tower_that_is_away(home: Path, tower: Tower) -> None:
    """Exit code 4, and one document all the same."""
    tower.stop()

    result = cli(home, "health", "--json")

    assert (4, False) == (result.exit_code, json.loads(result.stdout)["alive"])


def test_health_falls_back_to_the_api(home: Path, tower: Tower) -> None:
    """A listener that does not know the address leaves it to the other one."""
    text = (home / "config.toml").read_text()
    with Listener() as other:
        (home / "config.toml").write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{other.port}"))
        del tower.answers["/healthz"]
        code = cli(home, "health").exit_code
        del other.answers["/healthz"]
        without = cli(home, "health").exit_code

    assert (0, 3) == (code, without)


class Listener(Tower):
    """A second listener, as a block."""

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def test_health_loads_little() -> None:
    """A container asks every few seconds: neither terminal drawing nor the node's libraries are loaded."""
    heavy = {"rich", "uvicorn", "starlette", "zmq", "bitcoinrpc", "prometheus_client", "eventsourcing", "coincurve"}
    code = f"import sys, watchtower.doctor.asking, watchtower.cli.health; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "[]" == result.stdout.strip()


# ── status and top ───────────────────────────────────────────────────────────────────────────────────────

SHAPE = {
    "at": int,
    "phase": str,
    "watching": bool,
    "ready": bool,
    "reasons": list,
    "height": int,
    "lag": int,
    "node_up": bool,
    "node_blocks": int,
    "canary_last_success": type(None),
    "backup_last_success": type(None),
    "channels": dict,
    "protected_sats": int,
    "at_risk_sats": type(None),
    "storage_available_bytes": type(None),
    "breaches": list,
}


@pytest.mark.parametrize("verb", ["status", "top"])
def test_the_document_of_a_look_has_stable_names(home: Path, verb: str) -> None:
    """Programs read it: amounts are whole numbers, what the metrics do not tell is null."""
    result = cli(home, verb, "--json")
    document = json.loads(result.stdout)

    assert 0 == result.exit_code
    assert SHAPE == {name: type(value) for name, value in document.items()}
    assert (210, 2, 5_000_000, {"active": 5}) == tuple(
        document[name] for name in ("height", "lag", "protected_sats", "channels")
    )


def test_status_says_what_is_wrong(home: Path, tower: Tower) -> None:
    """The reasons in words, and exit code 3."""
    tower.answers["/readyz"] = (200, SYNCING)

    result = cli(home, "status")

    assert 3 == result.exit_code
    assert re.search(r"protected +NO", result.stdout)
    assert "node_syncing: wait" in result.stdout


def test_status_without_metrics_still_tells_the_phase(home: Path, tower: Tower) -> None:
    """A token may be needed that this user cannot read."""
    tower.answers["/metrics"] = (401, b"{}")

    result = cli(home, "status")

    assert 0 == result.exit_code
    assert re.search(r"height +-", result.stdout)


def test_the_token_of_init_is_sent_if_it_can_be_read(home: Path, tower: Tower) -> None:
    """Where the metrics need one."""
    (home / "api.token").write_text("wt_canary\n")
    (home / "api.token").chmod(0o600)

    result = cli(home, "status")

    assert "Bearer wt_canary" in tower.tokens
    assert "wt_canary" not in result.output


@pytest.mark.parametrize("verb", ["status", "top"])
def test_a_look_at_a_tower_that_is_away_ends_with_4(home: Path, tower: Tower, verb: str) -> None:
    """One sentence on stderr."""
    tower.stop()

    result = cli(home, verb)

    assert (4, "") == (result.exit_code, result.stdout)
    assert "tower-unreachable: no tower answers" in result.stderr


def test_status_watch_wants_no_document(home: Path) -> None:
    """A live view is no JSON."""
    assert 2 == cli(home, "status", "--watch", "--json").exit_code


def test_without_a_terminal_top_draws_once(home: Path) -> None:
    """The state, rates and tasks; counters of one look have no rate."""
    told = cli(home, "top").stdout

    assert "PROTECTED: watching" in told
    assert re.search(r"states +│ +- ", told)
    assert re.search(r"pass +│ up", told)


def look_of(page: str, at: float) -> Overview:
    """A look with these metrics."""
    return Overview(at, "watching", True, True, (), read_samples(page), ())


def test_a_rate_is_the_growth_between_two_looks() -> None:
    """None at the first look, none after a restart of the tower."""
    before, later = look_of(PAGE, 100.0), look_of(PAGE.replace("30.0", "40.0"), 104.0)
    fresh = look_of(PAGE.replace("30.0", "0.0"), 106.0)

    assert "-" == rate(before, None, "state_updates_total")
    assert "2.5" == rate(later, before, "state_updates_total")
    assert "-" == rate(fresh, later, "state_updates_total")
    assert "-" == rate(later, before, "nothing_total")


def test_a_page_that_is_no_metrics_is_no_metrics() -> None:
    """What answers there may be anything."""
    assert {} == read_samples("<html>\n{nonsense")
    assert {} == read_samples("process_cpu_seconds_total 1\n")


def test_top_stays_when_the_tower_goes_and_goes_on_when_it_is_back(home: Path, tower: Tower) -> None:
    """The last look stays with the time it is from; a rate over the absence would mean nothing."""
    looking = Looking(Context(str(home / "config.toml")))
    looking.again()
    ready = tower.answers.pop("/readyz")
    looking.again()
    gone = (looking.trouble, looking.seen)
    tower.answers["/readyz"] = ready
    looking.again()

    assert "last seen 20" in gone[0]
    assert gone[1] is not None
    assert ("", None) == (looking.trouble, looking.before)
    assert "UNKNOWN" in drawn(gone[1], gone[0])
    assert "looking for the tower" in drawn(None, "")


def drawn(seen: Overview | None, trouble: str) -> str:
    """The picture as text."""
    from rich.console import Console

    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(draw(seen, None, trouble))
    return captured.get()


def test_words_of_a_tower_do_not_steer_the_terminal(home: Path, tower: Tower) -> None:
    """Whatever answers there, escape sequences and markup stay text."""
    reason = json.dumps("\x1b[2J[red]gone").encode()
    tower.answers["/readyz"] = (
        200,
        b'{"ready":true,"watching":false,"phase":"degraded","reasons":[' + reason + b"]}",
    )
    for verb in ("status", "top"):
        told = cli(home, verb).stdout
        assert "\x1b[2J" not in told
        assert "[red]gone" in told


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_top_gives_the_terminal_back(home: Path, number: signal.Signals) -> None:
    """Its picture is on the second screen; any end brings back the first one, with the cursor."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "watchtower", "--config", str(home / "config.toml"), "top", "--interval", "0.2"],
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(its)
    with process:
        try:
            told = read_until(ours, b"PROTECTED")
            process.send_signal(number)
            told += read_until(ours, b"\x1b[?1049l")
            code = process.wait(60)  # before its terminal is taken away
        finally:
            process.kill()  # one that stays must not fail another test, too
            os.close(ours)

    assert 0 == code
    assert told.index(b"\x1b[?1049h") < told.index(b"PROTECTED") < told.rindex(b"\x1b[?1049l")
    assert told.rindex(b"\x1b[?25l") < told.rindex(b"\x1b[?25h")


def test_a_signal_that_meets_the_waiting_for_it_ends_it() -> None:
    """The handler runs on top of the waiting call: if it needed that call's lock, `top` would stand still for ever."""

    def meet(_frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ == "get":
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with _signals() as told:
        sys.setprofile(meet)
        try:
            number = told.get(timeout=20)
        finally:
            sys.setprofile(None)

    assert (signal.SIGTERM, before) == (number, signal.getsignal(signal.SIGTERM))
    assert isinstance(told, SimpleQueue)  # the one whose `put` may interrupt itself and any `get`


def read_until(terminal: int, words: bytes, seconds: float = 60.0) -> bytes:
    """What a program drew, until these words."""
    told, end = b"", time.monotonic() + seconds
    while words not in told and select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]:
        try:
            told += os.read(terminal, 65_536)
        except OSError:  # the program has ended and closed its side
            break
    return told


# ── doctor and config ────────────────────────────────────────────────────────────────────────────────────


def test_the_doctor_prints_groups_findings_and_a_sum(home: Path) -> None:
    """Without a node: exit code 4, everything else is looked at, and no secret is shown."""
    result = cli(home, "doctor", "--seconds", "0.1")

    assert 4 == result.exit_code
    assert re.search(r"^node$", result.stdout, re.MULTILINE)
    assert "FAIL  getblockchaininfo: no answer from 127.0.0.1:1" in result.stdout
    assert "-> start bitcoind with server=1" in result.stdout
    assert "cannot be reached" in result.stdout.splitlines()[-1]
    assert "pw-9" not in result.output
    assert KEY not in result.output


def test_the_doctors_document(home: Path) -> None:
    """Every finding with its check, group, level, what and mend; `check` is the same command."""
    document = json.loads(cli(home, "check", "--seconds", "0.1", "--json").stdout)

    assert {"level", "exit_code", "findings"} == set(document)
    assert {"check", "group", "level", "what", "mend"} == set(document["findings"][0])
    assert ("fail", 4) == (document["level"], document["exit_code"])


def test_the_doctor_of_a_wrong_configuration(home: Path) -> None:
    """Findings like all others, in one document, and exit code 2."""
    (home / "config.toml").write_text('netwrok = "regtest"\n')

    result = cli(home, "doctor", "--json")
    finding = json.loads(result.stdout)["findings"][0]

    assert (2, "configuration.values") == (result.exit_code, finding["check"])
    assert "did you mean network?" == finding["mend"]


def test_checking_the_settings_asks_nobody(home: Path) -> None:
    """No node is needed, and the sum does not speak for it; an open file is found."""
    well = cli(home, "config", "check")
    (home / "tower.key").chmod(0o644)
    ill = cli(home, "config", "check", "--json")

    assert (0, 3) == (well.exit_code, ill.exit_code)
    assert "0 failures: the settings can be used; `watchtower doctor` looks at node" in well.stdout
    assert "keys.permissions" in {
        each["check"] for each in json.loads(ill.stdout)["findings"] if each["level"] == "fail"
    }


def test_the_reference_is_the_table_of_the_page() -> None:
    """docs/configuration.md has it word for word: `make pages`."""
    told = CliRunner().invoke(_main, ["config", "reference"]).stdout

    assert told in (ROOT / "docs" / "configuration.md").read_text()
    assert told.count("\n") > 70


def test_second_names_are_not_listed() -> None:
    """One name per command in the help; the second one works."""
    listed = CliRunner().invoke(_main, ["--help"]).stdout
    commands = {name: _main.get_command(click.Context(_main), name) for name in ("check", "doctor", "simulate", "demo")}

    assert "\n  check" not in listed
    assert commands["check"] is commands["doctor"]
    assert commands["simulate"] is commands["demo"]


# ── info, breach, events ─────────────────────────────────────────────────────────────────────────────────


def test_info_is_what_a_client_needs(home: Path) -> None:
    """Key and address in one text; the secret key is not in it."""
    result = cli(home, "info", "--address", "abc.onion:9815", "--json")
    document: dict[str, Any] = json.loads(result.stdout)

    assert f"{document['tower_id']}@abc.onion:9815" == document["uri"]
    assert 64 == len(document["tower_id"])
    assert KEY not in result.output
    assert {"network", "registration", "funding_threshold", "max_value", "min_challenge_period"} <= set(document)


def test_info_draws_a_code_that_fits_a_terminal(home: Path) -> None:
    """80 columns."""
    told = cli(home, "info", "--qr").stdout
    code = [line for line in told.splitlines() if "█" in line or "▄" in line]

    assert len(code) > 15
    assert 80 >= max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in code)


def test_a_tower_without_breaches_lists_none(home: Path) -> None:
    """An empty document, and a word on stderr."""
    assert {"height": 0, "breaches": []} == json.loads(cli(home, "breach", "list", "--all", "--json").stdout)
    assert "no breaches" in cli(home, "breach", "list").stderr


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), [("abcd", "0 breaches begin with abcd"), ("ab", "at least 4 characters")])
def test_a_breach_that_is_not_there(home: Path, name: str, words: str) -> None:
    """The way to find it is said."""
    command = [sys.executable, "-m", "watchtower", "--config", str(home / "config.toml"), "breach", "show", name]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)

    assert (1, True) == (result.returncode, words in result.stderr)


def test_the_log_as_lines(home: Path) -> None:
    """One document per line; `--from` names an id."""
    line = json.loads(cli(home, "events", "tail", "--from", "1", "--no-follow", "--json").stdout)

    assert (1, "LogOpened", 1_700_000_000.0) == (line["id"], line["kind"], line["recorded_at"])
    assert {"id", "stream", "channel_id", "version", "recorded_at", "height", "kind", "text", "txid"} == set(line)
    assert "" == cli(home, "events", "tail", "--from", "2", "--no-follow").stdout
    assert 2 == cli(home, "events", "tail", "--from", "0").exit_code


@pytest.mark.slow
def test_a_health_check_costs_a_third_of_a_second_at_most(home: Path) -> None:
    """Processor time of the best of three runs, which a busy machine does not lengthen."""
    command = [sys.executable, "-m", "watchtower", "--config", str(home / "config.toml"), "health"]
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert 0.3 > min(times)
