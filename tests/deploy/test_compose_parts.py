"""Parts of the compose files against the real programs: the node's settings, the database's users."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import CLEAN, command
from tests.support.deployment import DEPLOY, make_secrets
from tests.support.postgres import PostgresNotFound, PostgresServer
from tests.support.programs import missing
from watchtower.devnode.launch import Process, free_ports
from watchtower.devnode.provision import NodeNotFound, find
from watchtower.node.transport import RpcTransport

COMPOSE = DEPLOY / "compose"

pytestmark = pytest.mark.deploy


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What make-secrets writes."""
    return make_secrets(tmp_path)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """An empty cluster."""
    try:
        started = PostgresServer.start()
    except PostgresNotFound as error:
        missing(error)
    yield started
    started.close()


def test_the_node_takes_its_settings_and_the_tower_as_a_user(secrets: Path, tmp_path: Path) -> None:
    """bitcoin.conf as it is, but for the place of the secret and of two ports: the tower may ask, and may not stop."""
    try:
        binary = find()
    except NodeNotFound as error:
        missing(error)
    rpc, sequence, rawtx = free_ports(3)
    text = (COMPOSE / "bitcoin.conf").read_text().replace("/run/secrets", str(secrets))
    text = text.replace("0.0.0.0:28332", f"127.0.0.1:{sequence}").replace("0.0.0.0:28333", f"127.0.0.1:{rawtx}")
    (tmp_path / "bitcoin.conf").write_text(text)
    (tmp_path / "node").mkdir()
    words = [f"-conf={tmp_path}/bitcoin.conf", f"-rpcport={rpc}", "-rpcbind=127.0.0.1", "-listen=0"]
    node = Process(binary.path, tmp_path / "node", words)
    password = (secrets / "node_rpc_password").read_text().strip()
    tower = RpcTransport(f"http://127.0.0.1:{rpc}", user="watchtower", password=password)
    try:
        node.start()
        assert "regtest" == tower.call("getblockchaininfo")["chain"]
        assert {"pubsequence", "pubrawtx"} == {each["type"] for each in tower.call("getzmqnotifications")}
        with pytest.raises(Exception, match="403"):
            tower.call("stop")
    finally:
        node.kill()


def test_the_database_has_a_schema_and_a_user_that_may_begin_a_log(
    server: PostgresServer, secrets: Path, tmp_path: Path
) -> None:
    """The script of the image's first start, then `store migrate` as the owner, then `init` as the tower."""
    with server.connect() as connection:
        connection.execute("CREATE DATABASE watchtower ENCODING 'UTF8' TEMPLATE template0")
    place = {"PGHOST": str(server.base), "PGPORT": str(server.port)}
    users = {"POSTGRES_USER": "postgres", "POSTGRES_DB": "watchtower"}
    password = {"TOWER_PASSWORD_FILE": str(secrets / "postgres_tower_password")}
    path = {"PATH": f"{server.programs}:{os.environ['PATH']}"}
    subprocess.run([str(COMPOSE / "postgres-users")], env={**path, **place, **users, **password}, check=True)

    owner = f"postgresql://postgres@/watchtower?host={server.base}&port={server.port}"
    migrated = subprocess.run(
        command("store", "migrate"), env={**CLEAN, "STATE_CHANNEL_STORE__URL": owner}, capture_output=True, check=False
    )
    tower = {
        "STATE_CHANNEL_NETWORK": "regtest",
        "STATE_CHANNEL_STORE__URL": f"postgresql://tower@127.0.0.1:{server.port}/watchtower",
        "STATE_CHANNEL_STORE__PASSWORD_FILE": password["TOWER_PASSWORD_FILE"],
    }
    made = subprocess.run(
        command("init", "--data-dir", str(tmp_path / "tower")), env={**CLEAN, **tower}, capture_output=True, check=False
    )

    assert (0, 0) == (migrated.returncode, made.returncode), migrated.stderr + made.stderr
    assert b"tower_id" in made.stdout
