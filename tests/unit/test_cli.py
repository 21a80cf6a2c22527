"""The command line: a new tower, settings, versions, exit codes."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from watchtower.cli import VERBS, _main
from watchtower.config import load
from watchtower.keystore import FileKeystore, read_passphrase
from watchtower.store.create import open_store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SIX = {
    "STATE_CHANNEL_NETWORK": "regtest",
    "STATE_CHANNEL_TIMEOUT_MS": "20000",
    "STATE_CHANNEL_CHALLENGE_PERIOD": "100",
    "STATE_CHANNEL_FUNDING_THRESHOLD": "30000",
    "STATE_CHANNEL_MAX_VALUE": "40000000",
    "STATE_CHANNEL_TAPROOT_ENABLED": "false",
}


def cli(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(_main, arguments, env=environ, catch_exceptions=False)


def shell(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command; exit codes are made there."""
    command = [sys.executable, "-m", "watchtower", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ, cwd=ROOT)


@pytest.fixture
def made(tmp_path: Path) -> dict[str, object]:
    """What `init --json` says about a new tower."""
    result = cli("init", "--network", "regtest", "--data-dir", str(tmp_path / "tower"), "--json")
    document: dict[str, object] = json.loads(result.stdout)
    return document


def test_init_makes_a_tower_that_opens(made: dict[str, object], tmp_path: Path) -> None:
    """Log, keystore and settings fit together."""
    home = tmp_path / "tower"
    settings = load({}, config_path=str(made["config"])).settings
    store = open_store(Path(settings.event_log_path))
    keystore = FileKeystore.open(Path(settings.keystore_path), read_passphrase(home / "keystore.passphrase"))
    token = (home / "api.token").read_text().strip()
    assert ("regtest", str(home)) == (settings.network, settings.data_dir)
    assert 1 == store.last_id()
    assert hashlib.sha256(token.encode()).hexdigest() == settings.api.token_hash
    store.close()
    keystore.close()


def test_init_keeps_secrets_to_the_owner(made: dict[str, object], tmp_path: Path) -> None:
    """Every file is 0600, and nothing secret is printed."""
    home = tmp_path / "tower"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    secrets = [(home / name).read_text().strip() for name in ("tower.key", "keystore.passphrase", "api.token")]
    assert {0o600} == set(modes.values())
    assert 0o700 == stat.S_IMODE(home.stat().st_mode)
    assert [] == [secret for secret in secrets if secret in json.dumps(made)]


def test_the_rpcauth_line_fits_the_password(made: dict[str, object]) -> None:
    """bitcoind checks HMAC-SHA256 of the password under the salt."""
    settings = load({}, config_path=str(made["config"])).settings
    lines = made["bitcoin_conf"]
    assert isinstance(lines, list)
    found = re.fullmatch(r"rpcauth=watchtower:([0-9a-f]{32})\$([0-9a-f]{64})", lines[1])
    assert found is not None
    assert settings.node.rpc_password is not None
    password = settings.node.rpc_password.reveal()
    assert found[2] == hmac.new(found[1].encode(), password.encode(), hashlib.sha256).hexdigest()
    assert "rpcwhitelistdefault=0" in lines


def test_init_never_overwrites(made: dict[str, object], tmp_path: Path) -> None:
    """The second call changes nothing and says what to do."""
    before = {path: path.read_bytes() for path in (tmp_path / "tower").iterdir()}
    result = shell("init", "--network", "regtest", "--data-dir", str(tmp_path / "tower"))
    assert 1 == result.returncode
    assert "exists already and is not overwritten" in result.stderr
    assert before == {path: path.read_bytes() for path in (tmp_path / "tower").iterdir()}


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    """A directory that cannot be made is named, with a way out."""
    (tmp_path / "file").touch()
    ended = shell("init", "--data-dir", str(tmp_path / "file" / "tower"))
    told = f"cannot-make: {tmp_path / 'file' / 'tower'}: Not a directory; choose another --data-dir"
    assert (1, True) == (ended.returncode, ended.stderr.startswith(told))


def test_the_six_documented_variables_are_read_back() -> None:
    """`config show --json` gives each value and its source."""
    document = json.loads(cli("config", "show", "--json", environ=SIX).stdout)
    shown = [
        document[key]
        for key in ("network", "timeout_ms", "challenge_period", "funding_threshold", "max_value", "taproot_enabled")
    ]
    assert ["regtest", 20_000, 100, 30_000, 40_000_000, False] == [entry["value"] for entry in shown]
    assert list(SIX) == [entry["source"] for entry in shown]


def test_a_configuration_error_is_exit_code_2(tmp_path: Path) -> None:
    """Each finding is a line on stderr, nothing on stdout."""
    (tmp_path / "bad.toml").write_text('netwrok = "regtest"\n')
    result = shell("--config", str(tmp_path / "bad.toml"), "config", "show")
    assert (2, "") == (result.returncode, result.stdout)
    assert "did you mean network?" in result.stderr


def test_a_usage_error_is_exit_code_2() -> None:
    """An unknown verb or option."""
    assert [2, 2] == [cli("fly").exit_code, cli("init", "--fast").exit_code]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    """`--help` of each verb, or of its first own verb, shows a command to copy."""
    group = cli(verb, "--help").stdout
    own = re.findall(r"^  ([a-z]+)  ", group.partition("Commands:")[2], re.MULTILINE)
    texts = [cli(verb, name, "--help").stdout for name in own] or [group]
    assert [] == [text for text in texts if f"watchtower {verb}" not in text.partition("Example")[2]]


def test_version_names_the_libraries() -> None:
    """The parts whose version decides about money."""
    document = json.loads(cli("version", "--json").stdout)
    assert "21.0.0" == document["coincurve"]
    assert {"watchtower", "revision", "python", "eventsourcing"} <= set(document)


BAD_STARTS: dict[str, tuple[Callable[[Path], object], dict[str, str], int, str]] = {
    "wrong passphrase": (
        lambda home: (home / "keystore.passphrase").write_text("wrong"),
        {},
        1,
        "wrong-passphrase: the passphrase does not open",
    ),
    "no passphrase": (
        lambda home: (home / "keystore.passphrase").unlink(),
        {},
        1,
        "restore it, or set keystore.passphrase",
    ),
    "corrupt keystore": (
        lambda home: (home / "keystore").write_bytes(b"not a keystore\n"),
        {},
        1,
        "keystore-corrupt: ",
    ),
    "no keystore": (lambda home: (home / "keystore").unlink(), {}, 1, "keystore-missing: "),
    "log of another network": (
        lambda home: None,
        {"STATE_CHANNEL_NETWORK": "signet"},
        3,
        "set `network` to that of the log",
    ),
    "damaged log": (
        lambda home: (home / "events.db").write_bytes(b"no database" * 1000),
        {},
        3,
        "restore it from a backup",
    ),
    "no log": (lambda home: (home / "events.db").unlink(), {}, 3, "run `watchtower init` first"),
    "no tower key": (lambda home: (home / "tower.key").unlink(), {}, 1, "64 hexadecimal digits"),
    "address": (lambda home: None, {"STATE_CHANNEL_NODE__RPC_URL": "node"}, 2, "must look like http://127.0.0.1:8332"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BAD_STARTS)
def test_a_tower_that_cannot_start_says_why_and_changes_nothing(
    made: dict[str, object], tmp_path: Path, fault: str
) -> None:
    """One sentence on stderr with the remedy, the documented exit code, and every file as it was."""
    spoil, environ, code, words = BAD_STARTS[fault]
    home = tmp_path / "tower"
    spoil(home)
    before = contents(home)
    ports = {f"STATE_CHANNEL_{name}__LISTEN": "127.0.0.1:0" for name in ("API", "ADMIN")}
    result = shell("--config", str(made["config"]), "run", environ={**os.environ, **ports, **environ})
    assert code == result.returncode
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert before == contents(home)


def contents(home: Path) -> dict[str, bytes]:
    """Every file of a tower except its locks, and the read models and the mark of the log, which follow from it."""
    made_again = ("-wal", "-shm", ".lock", "high-water")
    paths = (path for path in home.iterdir() if not path.name.endswith(made_again) and path.stem != "views")
    return {path.name: path.read_bytes() for path in paths}


def test_a_demo_without_a_node_ends_with_the_ways_out(tmp_path: Path) -> None:
    """A sentence on stderr, no traceback, and nothing on stdout that looks like a verdict."""
    places = {"PATH": str(tmp_path), "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "watchtower", "demo", "--json"]
    result = subprocess.run(
        command,
        check=False,
        env=places | {"STATE_CHANNEL_OFFLINE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (1, "") == (result.returncode, result.stdout)
    assert "node-not-found: no usable bitcoind was found" in result.stderr
    assert "Three ways out" in result.stderr
    assert "Traceback" not in result.stderr


def test_listing_starts_without_the_web_server() -> None:
    """Help and short commands do not import rich, the web server or the node's libraries."""
    heavy = {"rich", "uvicorn", "starlette", "zmq", "bitcoinrpc"}
    code = f"import sys, watchtower.cli; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "[]" == result.stdout.strip()


def test_settings_are_shown_as_toml(made: dict[str, object]) -> None:
    """Each line of `config show` has TOML's own form, and what is not set is a comment."""
    result = CliRunner().invoke(_main, ["--config", str(made["config"]), "config", "show"])

    assert 0 == result.exit_code
    assert "taproot_enabled = true  # default" in result.stdout
    assert "None" not in result.stdout


@pytest.mark.parametrize(
    ("variable", "value", "kept", "shown"),
    [
        ("RPC_USER", "umbrel", 'rpc_user = "umbrel"', "rpcwhitelist=umbrel:"),
        ("RPC_COOKIE_PATH", "/node/.cookie", 'rpc_cookie_path = "/node/.cookie"', "rpcwhitelistdefault"),
    ],
)
def test_init_takes_the_credentials_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, kept: str, shown: str
) -> None:
    """A node's user or cookie that the environment names is used; no user with an unknown password is made."""
    monkeypatch.setenv(f"STATE_CHANNEL_NODE__{variable}", value)
    monkeypatch.setenv("STATE_CHANNEL_NODE__RPC_PASSWORD", "of the node")

    result = cli("init", "--network", "regtest", "--data-dir", str(tmp_path / "tower"), "--json")

    text = (tmp_path / "tower" / "config.toml").read_text()
    lines = "\n".join(json.loads(result.stdout)["bitcoin_conf"])
    assert (kept in text, "rpc_password" in text, "rpcauth=" in lines) == (True, False, False)
    assert (shown in lines) is (variable == "RPC_USER")
