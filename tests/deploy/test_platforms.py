"""Umbrel, StartOS and BTCPay: what can be said about their fragments without the platforms."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.deployment import DEPLOY, linter, read_yaml, settings_of, substituted, unknown_settings
from watchtower.ports import ALLOWED_METHODS

UMBREL, BTCPAY, START9 = DEPLOY / "umbrel", DEPLOY / "btcpay", DEPLOY / "start9" / "startos"
FRAGMENT = BTCPAY / "opt-add-state-channel-watchtower.custom.yml"
PRECIOUS = ("events.db", "events.db-wal", "keystore", "keystore.passphrase", "tower.key", "access.json", "config.toml")
GIVEN = {
    "APP_BITCOIN_NODE_IP": "10.21.21.8",
    "APP_BITCOIN_RPC_PORT": "8332",
    "APP_BITCOIN_RPC_USER": "umbrel",
    "APP_BITCOIN_RPC_PASS": "secret",
    "APP_BITCOIN_ZMQ_SEQUENCE_PORT": "28335",
    "APP_BITCOIN_ZMQ_RAWTX_PORT": "28333",
    "APP_BITCOIN_NETWORK": "testnet3",
    "EXPORTS_TOR_DATA_DIR": "/nowhere",
    "EXPORTS_APP_ID": "state-channel-watchtower",
}
"""What Umbrel and its app Bitcoin Node export."""

pytestmark = pytest.mark.deploy


def exported() -> dict[str, str]:
    """The variables after exports.sh."""
    script = f'set -eu; . "{UMBREL}/exports.sh"; env'
    done = subprocess.run(
        ["bash", "-c", script], env={**GIVEN, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", maxsplit=1) for line in done.stdout.splitlines() if "=" in line)


@pytest.mark.parametrize("path", [UMBREL / "docker-compose.yml"], ids=lambda path: path.name)
def test_the_compose_schema_holds(path: Path, tmp_path: Path) -> None:
    """That of the compose specification."""
    done = linter("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    assert 0 == done.returncode, done.stdout


def test_btcpays_fragment_is_compose_but_for_one_key(tmp_path: Path) -> None:
    """`required` is the generator's own."""
    text = re.sub(r"\nrequired:\n(  - .*\n)+", "\n", FRAGMENT.read_text())
    (tmp_path / "compose.yaml").write_text(text)

    done = linter("check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / "compose.yaml")

    assert 0 == done.returncode, done.stdout


def test_umbrels_variables_are_a_configuration(tmp_path: Path) -> None:
    """As user 1000, by user and password, on the network of the node."""
    tower = read_yaml(UMBREL / "docker-compose.yml")["services"]["tower"]
    environment = {name: substituted(str(value), exported()) for name, value in tower["environment"].items()}

    settings = settings_of(environment, tmp_path)

    assert [] == unknown_settings(environment)
    assert "1000:1000" == tower["user"]
    assert ("testnet", "umbrel", "tcp://10.21.21.8:28335") == (
        settings.network,
        settings.node.rpc_user,
        settings.node.zmq_sequence,
    )


def test_umbrels_manifest_is_complete() -> None:
    """The keys of the store, the node as a dependency, and a widget where the admin listener is."""
    manifest = read_yaml(UMBREL / "umbrel-app.yml")
    compose = read_yaml(UMBREL / "docker-compose.yml")
    wanted = {"manifestVersion", "id", "category", "name", "version", "tagline", "description", "developer", "website"}
    wanted |= {
        "dependencies",
        "repo",
        "support",
        "port",
        "gallery",
        "path",
        "defaultPassword",
        "submitter",
        "submission",
    }

    assert set() == wanted - set(manifest)
    assert ["bitcoin"] == manifest["dependencies"]
    assert ["tower:9816/v1/widgets/status"] == [widget["endpoint"] for widget in manifest["widgets"]]
    assert 9816 == compose["services"]["app_proxy"]["environment"]["APP_PORT"]
    assert compose["services"]["app_proxy"]["environment"]["APP_HOST"] == f"{manifest['id']}_tower_1"


@pytest.mark.parametrize("name", PRECIOUS)
def test_backups_leave_out_nothing_that_is_needed(name: str) -> None:
    """Neither Umbrel's nor StartOS's."""
    ignored = [pattern.removeprefix("data/") for pattern in read_yaml(UMBREL / "umbrel-app.yml")["backupIgnore"]]
    ignored += re.findall(r"'(state-channel-watchtower/[^']+)'", (START9 / "backups.ts").read_text())

    assert 4 == len(ignored)
    assert [] == [pattern for pattern in ignored if fnmatch.fnmatch(f"state-channel-watchtower/{name}", pattern)]


def test_btcpays_variables_are_a_configuration(tmp_path: Path) -> None:
    """And the node knows the user and what it may do."""
    services = read_yaml(FRAGMENT)["services"]
    environment = {
        name: substituted(str(value), {"WATCHTOWER_RPC_PASSWORD": "x"})
        for name, value in services["state_channel_watchtower"]["environment"].items()
    }
    node = services["bitcoind"]["environment"]["BITCOIN_EXTRA_ARGS"].splitlines()

    settings = settings_of(environment, tmp_path)

    assert [] == unknown_settings(environment)
    assert f"rpcwhitelist={settings.node.rpc_user}:{','.join(ALLOWED_METHODS)}" in node
    assert {"rpcwhitelistdefault=0", "zmqpubsequence=tcp://0.0.0.0:28337", "zmqpubrawtx=tcp://0.0.0.0:28338"} <= set(
        node
    )
    assert ("tcp://bitcoind:28337", "tcp://bitcoind:28338") == (settings.node.zmq_sequence, settings.node.zmq_rawtx)


def test_the_settings_for_startos_exist() -> None:
    """Names in a language that nobody here compiles."""
    named = re.findall(r"\b(STATE_CHANNEL_\w+):", (START9 / "utils.ts").read_text())
    assert ([], 8) == (unknown_settings(named), len(named))


def test_the_modules_for_startos_import_each_other() -> None:
    """Every relative import leads to a file."""
    missing = [
        f"{path.name}: {target}"
        for path in START9.rglob("*.ts")
        for target in re.findall(r"from '(\.[^']+)'", path.read_text())
        if not ((path.parent / f"{target}.ts").is_file() or (path.parent / target / "index.ts").is_file())
    ]
    assert [] == missing


def test_what_was_not_run_says_so() -> None:
    """Each platform's page is honest."""
    for folder in (UMBREL, BTCPAY, DEPLOY / "start9"):
        assert re.search(r"(was not|was compiled or) run", (folder / "README.md").read_text())
