"""The compose files: their schema, our own rules with planted mistakes, and the parts of them that can be run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import (
    ADMIN_PORT,
    DEPLOY,
    ROOT,
    Document,
    image_findings,
    linter,
    make_secrets,
    read_yaml,
    settings_of,
    substituted,
    unknown_settings,
)
from watchtower.new_tower import rpcauth_line
from watchtower.ports import ALLOWED_METHODS

COMPOSE = DEPLOY / "compose"
FILES = sorted(COMPOSE.glob("compose*.yaml"))
ENDS = "migrate"
"""The one service that does its work and ends."""

pytestmark = pytest.mark.deploy


def variables() -> dict[str, str]:
    """What .env.example sets."""
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    return dict(line.split("=", maxsplit=1) for line in lines if "=" in line and not line.startswith("#"))


def services(document: Document) -> Iterator[tuple[str, Document]]:
    """The services that a file defines, not those that it only adds to."""
    return ((name, service) for name, service in document["services"].items() if "image" in service)


def findings(document: Document) -> list[str]:
    """Against our own rules: published ports, paths of the host, tags, hardening, health."""
    found = list(image_findings(substituted(service["image"], {}) for _, service in services(document)))
    for name, service in document["services"].items():
        ports = [str(port) for port in service.get("ports", ())]
        found += [f"{name} publishes {port}" for port in ports if name != "tower" or not port.endswith(":9815:9815")]
        binds = [str(volume).split(":")[0] for volume in service.get("volumes", ())]
        found += [f"{name} mounts {bind} of the host" for bind in binds if bind.startswith(("/", "~"))]
    for name, service in services(document):
        hardened = (service.get("read_only"), service.get("cap_drop"), service.get("security_opt"))
        if hardened != (True, ["ALL"], ["no-new-privileges:true"]):
            found.append(f"{name} is not hardened")
        if name not in ("tor", "migrate") and "user" not in service:
            found.append(f"{name} runs as whoever its image says")
        if (name == ENDS) == ("healthcheck" in service):
            found.append(f"{name} has a health check too few or too many")
        if service.get("privileged") or "host" in (service.get("network_mode"), service.get("pid")):
            found.append(f"{name} has the rights of the host")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_schema_holds(path: Path) -> None:
    """That of the compose specification."""
    done = linter("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    assert 0 == done.returncode, done.stdout


def test_the_schema_finds_a_planted_mistake(tmp_path: Path) -> None:
    """A misspelt key."""
    text = (COMPOSE / "compose.yaml").read_text().replace("    depends_on:", "    dependson:")
    (tmp_path / "compose.yaml").write_text(text)

    done = linter("check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / "compose.yaml")

    assert (1, True) == (done.returncode, "dependson" in done.stdout)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_our_rules_hold(path: Path) -> None:
    """Only the API is published, nothing of the host is mounted, everything is closed and looked after."""
    assert [] == findings(read_yaml(path))


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (":-127.0.0.1}:9815:9815", ":-127.0.0.1}:9816:9816", "tower publishes"),
        ("- tower:/data", "- /srv/tower:/data", "tower mounts /srv/tower of the host"),
        ("bitcoin/bitcoin:29.2", "bitcoin/bitcoin:latest", "has a tag that moves"),
        ("watchtower:0.1.0}", "watchtower}", "has no tag"),
        ("read_only: true", "read_only: false", "tower is not hardened"),
        ("cap_drop: [ALL]", "cap_drop: [NET_RAW]", "bitcoind-mainnet is not hardened"),
        ("    user: ${WATCHTOWER_USER:-10001:10001}\n", "", "tower runs as whoever"),
        ("    networks: [clients, node]\n", "    network_mode: host\n", "has the rights of the host"),
    ],
)
def test_our_rules_find_planted_mistakes(tmp_path: Path, old: str, new: str, finding: str) -> None:
    """Each rule fires on the file with one change."""
    text = (COMPOSE / "compose.yaml").read_text()
    assert old in text
    (tmp_path / "compose.yaml").write_text(text.replace(old, new))

    assert [] != [each for each in findings(read_yaml(tmp_path / "compose.yaml")) if finding in each]


def test_the_admin_port_is_open_to_the_monitoring_only() -> None:
    """And to no port of the host."""
    opened = {path.name for path in FILES if ADMIN_PORT in str(read_yaml(path)["services"].get("tower", {}))}
    assert {"compose.monitoring.yaml"} == opened
    assert "tower:9816" in str(read_yaml(COMPOSE / "prometheus.yml")["scrape_configs"])


def test_secrets_exist() -> None:
    """Each one that a service takes is declared, and make-secrets makes it or asks for it."""
    script = (COMPOSE / "make-secrets").read_text()
    for path in FILES:
        document = read_yaml(path)
        taken = [
            each if isinstance(each, str) else each["source"]
            for _, s in document["services"].items()
            for each in s.get("secrets", ())
        ]
        declared = document.get("secrets", {})
        main = read_yaml(COMPOSE / "compose.yaml")["secrets"]
        assert [] == [name for name in taken if name not in declared and name not in main]
        assert [] == [name for name in declared if name not in script]
        assert [] == [name for name, value in declared.items() if value != {"file": f"./secrets/{name}"}]


def test_every_variable_is_explained() -> None:
    """What the files leave to .env is in .env.example, set or as a comment."""
    example = (COMPOSE / ".env.example").read_text()
    used = {name for path in FILES for name in re.findall(r"\$\{(\w+)", path.read_text())}
    assert set() == {name for name in used if not re.search(rf"^#?{name}=", example, re.MULTILINE)}


def environment_of(*names: str) -> dict[str, str]:
    """The tower's environment after all the files, as .env.example leaves it."""
    merged: dict[str, str] = {}
    for name in names:
        merged |= read_yaml(COMPOSE / name)["services"]["tower"].get("environment", {})
    return {name: substituted(str(value), variables()) for name, value in merged.items()}


def test_the_environment_alone_is_a_configuration(tmp_path: Path) -> None:
    """No name is unknown, and the settings are those that the other containers expect."""
    environment = environment_of("compose.yaml", "compose.postgres.yaml", "compose.monitoring.yaml")
    migrate = read_yaml(COMPOSE / "compose.postgres.yaml")["services"]["migrate"]["environment"]

    settings = settings_of(environment, tmp_path)

    assert [] == unknown_settings([*environment, *migrate])
    assert ("regtest", "http://bitcoind:8332") == (settings.network, settings.node.rpc_url)
    assert ("postgresql://tower@postgres/watchtower", "0.0.0.0:9816") == (settings.store.url, settings.admin.listen)
    assert settings.node.rpc_password is not None
    assert settings.store.password is not None


def test_a_misspelt_setting_is_found() -> None:
    """The rule of the test above is one that can fail."""
    assert ["STATE_CHANNEL_NODE__RPC_ULR"] == unknown_settings(["STATE_CHANNEL_NODE__RPC_ULR", "STATE_CHANNEL_NETWORK"])


def test_files_of_the_repository_that_are_mounted_exist() -> None:
    """Rules, dashboards and settings of the monitoring; all alert rules that .env.example names."""
    sources = [
        substituted(volume.split(":ro")[0], variables() if "ALERT_RULES" in volume else {}).split(":")[0]
        for path in FILES
        for service in read_yaml(path)["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    named = re.findall(r"watchtower\.alerts[.\w]*\.yml", (COMPOSE / ".env.example").read_text())

    assert 8 <= len(sources)
    assert [] == [source for source in sources if not (COMPOSE / source).exists()]
    assert [] == [name for name in named if not (DEPLOY / "prometheus" / "rules" / name).is_file()]


def test_the_node_lets_the_tower_do_what_it_does() -> None:
    """The list of methods is the program's own; both topics are published where the tower listens."""
    lines = (COMPOSE / "bitcoin.conf").read_text().splitlines()
    assert f"rpcwhitelist=watchtower:{','.join(ALLOWED_METHODS)}" in lines
    assert {"rpcwhitelistdefault=0", "zmqpubsequence=tcp://0.0.0.0:28332", "zmqpubrawtx=tcp://0.0.0.0:28333"} <= set(
        lines
    )


def test_secrets_are_made_once_and_fit_together(tmp_path: Path) -> None:
    """The line for bitcoind is that of the password; a second run changes nothing; strangers see nothing."""
    secrets = make_secrets(tmp_path)
    password = (secrets / "node_rpc_password").read_text().strip()
    line = (secrets / "bitcoind_rpcauth").read_text().strip()
    before = {path.name: path.read_text() for path in secrets.iterdir()}

    make_secrets(tmp_path)

    assert rpcauth_line("watchtower", password, line.partition(":")[2].partition("$")[0]) == line
    assert before == {path.name: path.read_text() for path in secrets.iterdir()}
    assert (64, 5, 0o700) == (len(password), len(before), secrets.stat().st_mode & 0o777)


def test_the_repository_keeps_no_secrets() -> None:
    """git ignores what an installation writes."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/deploy/compose/.env", "/deploy/compose/secrets/"} <= set(ignored)
