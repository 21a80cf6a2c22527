"""A party as a program: its settings, the form of calls, the socket, and the peers that it meets on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MalformedInput, SequenceGap, UnknownChannel
from tests.support.commands import ROOT, RunningParty, document, shell
from tests.support.threads import tower_thread
from tests.support.towers import TOKEN, Bench
from watchtower.cli.places import find_passphrase
from watchtower.client import StateChannelClient
from watchtower.client.config import StateChannelConfig
from watchtower.client.errors import ConfigurationError, TowerUnreachable
from watchtower.client.payments import Payments
from watchtower.client.payments.routing import ForwardingPolicy
from watchtower.client.peer_errors import PeerRefused, PeerSilent
from watchtower.http.standby_app import create_standby_app
from watchtower.party import control, program
from watchtower.party.calls import Call, UpdateChannel
from watchtower.party.control import ControlServer
from watchtower.party.faults import CallFailed, Fault
from watchtower.party.making import make_party
from watchtower.party.questions import FulfilHtlc
from watchtower.party.settings import (
    PartyFile,
    TowerPlace,
    WalletPlace,
    read_peers,
    read_settings,
    remember_peer,
    write_settings,
)
from watchtower.party.wire import KINDS, Answer, decode_answer, decode_call, encode_call, fault_of
from watchtower.wire.api import ReadyBody
from watchtower.wire.hexes import Hex, SecretHex

KEY = "ab" * 32
CALL = UpdateChannel(channel="3f9a", balances=(1, 2), state_data=Hex(b"move"))

# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Every kind of value, and sections."""
    settings = PartyFile(
        network="regtest",
        taproot_enabled=False,
        listen="[::1]:9735",
        applications=("game:Rules", 'odd"name:x'),
        tower=TowerPlace("http://tower", "/token", KEY),
        wallet=WalletPlace(node="http://node", name="purse"),
        forwarding=ForwardingPolicy(base_fee=7),
    )
    write_settings(tmp_path, settings)

    assert settings == read_settings(tmp_path)
    assert ("::1", 9735) == settings.listen_address


def test_variables_come_before_the_file_and_the_file_before_defaults() -> None:
    """Each of the six has one of three sources."""
    config = PartyFile(network="signet", challenge_period=36, timeout_ms=500).config(
        {"STATE_CHANNEL_TIMEOUT_MS": "700", "STATE_CHANNEL_CHALLENGE_PERIOD": ""}
    )
    assert ("signet", 36, 700, 10_000) == (
        config.network,
        config.challenge_period,
        config.timeout_ms,
        config.funding_threshold,
    )


def test_the_settings_on_the_page_can_be_used(tmp_path: Path) -> None:
    """docs/configuration.md shows every one of them."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    text = page.partition("<!-- party.toml -->\n```toml\n")[2].partition("```")[0]
    (tmp_path / "party.toml").write_text(text)
    settings = read_settings(tmp_path)

    assert settings.config({}) == StateChannelConfig()
    assert [] == [name for name in PartyFile.__struct_fields__ if name not in text]
    assert (64, 1) == (len(settings.tower.id), settings.forwarding.base_fee if settings.forwarding else None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("network = 5", "Expected `str | null`"),
        ("netwrok = 'regtest'", "netwrok"),
        ("network = ", "party.toml"),
        ("[tower]\nport = 5", "port"),
    ],
)
def test_settings_that_cannot_be_used_are_told(tmp_path: Path, text: str, words: str) -> None:
    """The file and the place in it."""
    (tmp_path / "party.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        read_settings(tmp_path)


@pytest.mark.parametrize("text", ["abc", "zz" * 32, "ab" * 33])
def test_the_id_of_a_tower_has_64_digits(text: str) -> None:
    """Anything else is told when the settings are used, and without an id nothing is pinned."""
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        _ = PartyFile(tower=TowerPlace(id=text)).tower_id

    assert (None, b"\xab" * 32) == (PartyFile().tower_id, PartyFile(tower=TowerPlace(id="ab" * 32)).tower_id)


@pytest.mark.parametrize("tower", [TowerPlace(id="abc"), TowerPlace(url="127.0.0.1:9815")])
def test_nothing_is_made_for_a_tower_that_cannot_be(tmp_path: Path, tower: TowerPlace) -> None:
    """It would be noticed only when the party runs."""
    with pytest.raises(CallFailed) as refused:
        make_party(tmp_path / "eve", PartyFile(network="regtest", tower=tower), {}, passphrase=b"secret", cost=2)

    assert (2, False) == (refused.value.fault.exit_code, (tmp_path / "eve").exists())


@pytest.mark.parametrize("listen", ["9735", ":9735", "host:port", "host:99999"])
def test_an_address_to_listen_at_has_host_and_port(listen: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:9735"):
        _ = PartyFile(listen=listen).listen_address


def test_a_peer_is_remembered_once(tmp_path: Path) -> None:
    """In the order of their appearance; comments stay out."""
    (tmp_path / "peers").write_text("# friends\n\n")
    for peer in (KEY, f"{KEY}@host:1", KEY):
        remember_peer(tmp_path, peer)

    assert (KEY, f"{KEY}@host:1") == read_peers(tmp_path)
    assert 0o600 == stat.S_IMODE((tmp_path / "peers").stat().st_mode)


# ── calls and faults ─────────────────────────────────────────────────────────────────────────────────────


def test_every_call_has_a_name_of_its_own() -> None:
    """Names are those of commands."""
    names = [kind.__struct_config__.tag for kind in KINDS]
    assert len(names) == len(set(names))
    assert {"channel create", "channel update", "channel pay", "htlc fulfil", "tx validate"} <= set(names)


def test_a_call_survives_its_line() -> None:
    """Bytes as digits, pairs as lists."""
    line = encode_call(CALL)
    assert (1, CALL) == (line.count(b"\n"), decode_call(line))


@pytest.mark.parametrize(
    "line", [b"", b"{}\n", b"[" * 9000, b'{"call": "fly"}', b"\xff\n", b'{"call":"party info","x":1}']
)
def test_a_line_that_is_no_call_is_refused(line: bytes) -> None:
    """With a type, never with what it holds."""
    with pytest.raises(MalformedInput):
        decode_call(line)


@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: encode_call(CALL)[:-9] + tail))
def test_no_bytes_do_more_than_be_refused(line: bytes) -> None:
    """A call, or `MalformedInput`; also among answers."""
    for read in (decode_call, decode_answer):
        with suppress(MalformedInput):
            assert isinstance(read(line), Call | Answer)


def test_a_preimage_is_not_shown() -> None:
    """Not in the repr of its call, not in the refusal of a line that holds it."""
    call = FulfilHtlc(channel="3f9a", preimage=SecretHex(b"\x5a" * 32))
    with pytest.raises(MalformedInput) as caught:
        decode_call(encode_call(call).replace(b'"preimage"', b'"preimages"'))

    assert "5a5a" not in f"{call!r}{caught.value}"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (SequenceGap("state 2 comes next"), Fault("sequence-gap", "state 2 comes next", 1)),
        (TowerUnreachable("gone"), Fault("tower-unreachable", "gone", 4)),
        (PeerSilent("no answer"), Fault("peer-silent", "no answer", 4)),
        (PeerRefused("too little", "consent-refused"), Fault("peer-refused", "the peer refuses: too little", 1)),
        (ConfigurationError("no key"), Fault("configuration-error", "no key", 2)),
        (TimeoutError(), Fault("timed-out", "it did not happen in time; what was begun goes on", 1)),
        (CallFailed(Fault("x", "y", 3)), Fault("x", "y", 3)),
    ],
)
def test_errors_become_faults(error: Any, fault: Fault) -> None:
    """Kind, sentence and exit code."""
    assert fault == fault_of(error)


# ── the socket ───────────────────────────────────────────────────────────────────────────────────────────


async def asked(path: Path, call: Call) -> tuple[bool, Any]:
    """Ask from another thread, as a command does from another process."""
    return await asyncio.to_thread(control.ask, path, call)


@pytest.mark.asyncio
async def test_a_call_is_answered_over_the_socket(tmp_path: Path) -> None:
    """The document comes back; the socket is the owner's and goes with the server."""
    path = tmp_path / "party.sock"
    path.touch()  # what a killed party leaves

    async def answer(call: Call) -> object:
        return {"got": msgspec.structs.asdict(call)["channel"], "data": Hex(b"ab")}  # type: ignore[arg-type]

    async with ControlServer(path, answer):
        answered = await asked(path, CALL)
        mode = stat.S_IMODE(path.stat().st_mode)

    assert (True, {"got": "3f9a", "data": "6162"}) == answered
    assert (0o600, False) == (mode, path.exists())


@pytest.mark.asyncio
async def test_refusals_and_failures_cross_the_socket(tmp_path: Path) -> None:
    """A refusal as it is; of a fault in the program only its type. The server goes on."""
    path = tmp_path / "party.sock"
    errors = iter([UnknownChannel("no channel 3f9a"), ZeroDivisionError("secret detail")])

    async def answer(call: Call) -> object:
        raise next(errors)

    async with ControlServer(path, answer):
        with pytest.raises(CallFailed) as refused:
            await asked(path, CALL)
        with pytest.raises(CallFailed) as failed:
            await asked(path, CALL)

    assert Fault("unknown-channel", "no channel 3f9a") == refused.value.fault
    assert ("internal", False) == (failed.value.fault.slug, "secret" in failed.value.fault.text)


@pytest.mark.asyncio
async def test_foreign_bytes_do_not_end_the_server(tmp_path: Path) -> None:
    """Garbage, half a line, silence: the next command is served."""
    path = tmp_path / "party.sock"

    async def answer(call: Call) -> object:
        return {}

    async with ControlServer(path, answer):
        for garbage in (b"\x00\xff\n", b'{"call"', b""):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(garbage)
        answered = await asked(path, CALL)

    assert (True, {}) == answered


@pytest.mark.asyncio
async def test_a_party_that_ends_meanwhile_is_told(tmp_path: Path) -> None:
    """The command does not wait for ever."""
    path = tmp_path / "party.sock"
    began = asyncio.Event()

    async def answer(call: Call) -> object:
        began.set()
        return await asyncio.Event().wait()

    async with ControlServer(path, answer):
        waiting = asyncio.create_task(asked(path, CALL))
        await began.wait()
    with pytest.raises(CallFailed) as caught:
        await waiting

    assert ("party-ended", 4) == (caught.value.fault.slug, caught.value.fault.exit_code)


def test_nobody_listens(tmp_path: Path) -> None:
    """Then the command does the work itself."""
    assert (False, None) == control.ask(tmp_path / "party.sock", CALL)


@pytest.mark.asyncio
async def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """Before anything is bound."""
    with pytest.raises(ConfigurationError, match="move the party's directory"):
        await ControlServer(tmp_path / ("x" * 120), lambda call: asyncio.sleep(0)).__aenter__()


# ── the program ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_party_waits_for_a_tower_that_stands_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may lead in a moment; the party begins when it is answered, as if nobody had been there."""
    monkeypatch.setattr(program, "RETRY_SECONDS", 0.01)
    ready = ReadyBody(ready=False, watching=False, phase="standby", reasons=())
    towers = iter([httpx.ASGITransport(create_standby_app(lambda: ready)), Bench(tmp_path).transport()])

    async def taken_over(request: httpx.Request) -> httpx.Response:
        return await next(towers).handle_async_request(request)

    client = StateChannelClient(
        StateChannelConfig(network="regtest"), token=TOKEN, transport=httpx.MockTransport(taken_over)
    )
    async with program._connected(client, asyncio.Event()) as is_connected:
        left = list(towers)

    assert (True, []) == (is_connected, left)


def made(tmp_path: Path, url: str, name: str, *options: str) -> Path:
    """A new party's directory."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    words = ("party", "init", "--home", str(tmp_path / name), "--network", "regtest", "--cost", "16")
    document(*words, "--tower", url, "--token-file", str(token), *options)
    return tmp_path / name


@pytest.mark.slow
def test_a_running_party_does_the_work_of_commands(tmp_path: Path) -> None:
    """A second one is refused with 3; SIGTERM ends it with 0; its peers file gets whom a command met."""
    with tower_thread(Bench(tmp_path).app) as url:
        home = made(tmp_path, url, "carol", "--listen", "127.0.0.1:0")
        with RunningParty(home) as party:
            info = party.ask("party", "info")
            second = shell("party", "run", "--home", str(home))
            refused = shell(
                "channel", "create", "--home", str(home), "--peer", f"{KEY}@127.0.0.1:1", "--balances", "9000,9000"
            )
        ended = party.stop()

    assert info["key"] == party.where["key"]
    assert party.where["address"].startswith(f"{info['key']}@127.0.0.1:")
    assert (3, "keystore-locked") == (second.returncode, second.stderr.splitlines()[-1].partition(":")[0])
    assert (1, "not-connected") == (refused.returncode, refused.stderr.partition(":")[0])
    assert (f"{KEY}@127.0.0.1:1",) == read_peers(home)
    assert (0, False) == (ended, (home / "party.sock").exists())


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_party_whose_payments_end_does_not_go_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would close a channel in time any more, and nobody would know."""

    async def mistaken(_payments: Payments) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Payments, "look", mistaken)
    with tower_thread(Bench(tmp_path).app) as url:
        home = await asyncio.to_thread(made, tmp_path, url, "carol")
        async with asyncio.timeout(20):
            with pytest.raises(CallFailed, match=r"the party ended by itself \(ZeroDivisionError") as ended:
                await program._serve(program.PartyPlace(home, lambda: find_passphrase(home, None)), lambda _where: None)

    assert "party-failed" == ended.value.fault.slug


@pytest.mark.slow
def test_a_party_loads_its_applications_or_does_not_start(tmp_path: Path) -> None:
    """One that cannot be used is named before anybody connects."""
    with tower_thread(Bench(tmp_path).app) as url:
        home = made(tmp_path, url, "carol")
        with RunningParty(home, "--application", "examples.tictactoe.rules:TicTacToe") as party:
            key = party.ask("party", "info")["key"]
        refused = shell("party", "run", "--home", str(home), "--application", "nothing:here")

    assert party.where["key"] == key
    assert (1, "application-unusable") == (refused.returncode, refused.stderr.splitlines()[-1].partition(":")[0])
    assert "nothing:here" in refused.stderr


@pytest.mark.slow
def test_a_killed_party_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """The socket that it left is no running party: commands open the directory, and it starts again."""
    with tower_thread(Bench(tmp_path).app) as url:
        home = made(tmp_path, url, "carol")
        with RunningParty(home) as party:
            os.kill(party.pid, signal.SIGKILL)
            party.stop()
        left = (home / "party.sock").exists()
        alone = document("party", "info", "--home", str(home))
        with RunningParty(home) as again:
            asked_again = again.ask("party", "info")

    assert (True, alone["key"]) == (left, asked_again["key"])
