"""The command line for tokens, parties and the description of the API."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from domain.contract import keys
from watchtower.access import AccessFile
from watchtower.cli import _main
from watchtower.http.openapi import document
from watchtower.ports import WatchtowerError

KEY = keys.xonly(keys.public_key(bytes(31) + b"\x07")).hex()


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A configuration whose data directory exists."""
    path = tmp_path / "config.toml"
    path.write_text(f'network = "regtest"\ndata_dir = "{tmp_path}"\n')
    return str(path)


def cli(config: str, *arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(_main, ["--config", config, *arguments])


def told(config: str, *arguments: str) -> Any:
    """The JSON document of a command that succeeds."""
    result = cli(config, *arguments, "--json")
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


def test_the_life_of_a_token(config: str, tmp_path: Path) -> None:
    """Made and shown once, listed without its text, revoked by its name."""
    made = told(config, "token", "create", "grafana", "--scope", "metrics:read", "--scope", "status:read")
    access = AccessFile(tmp_path / "access.json")
    allowed = access.scopes_of(made["token"])
    listed = cli(config, "token", "list")
    revoked = told(config, "token", "revoke", "grafana")

    assert frozenset({"metrics:read", "status:read"}) == allowed
    assert made["token"].startswith("wt_")
    assert made["id"] in listed.stdout
    assert made["token"] not in listed.stdout
    assert made["id"] == revoked["id"]
    assert {"tokens": []} == told(config, "token", "list")
    assert access.scopes_of(made["token"]) is None


def test_only_the_token_is_on_stdout(config: str) -> None:
    """`watchtower token create … > file` writes a token and nothing else."""
    result = cli(config, "token", "create", "one", "--scope", "channels:read")

    assert 1 == len(result.stdout.splitlines())
    assert "only now" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("token", "create", "x"), ("token", "create", "x", "--scope", "all"), ("client", "allow", "00" * 32)]
)
def test_usage_errors(config: str, arguments: tuple[str, ...]) -> None:
    """No scope, an unknown scope, a key that is none."""
    assert 2 == cli(config, *arguments).exit_code


def test_a_token_that_is_not_there(config: str) -> None:
    """A typed error: the console script makes a sentence of it."""
    error = cli(config, "token", "revoke", "nobody").exception

    assert isinstance(error, WatchtowerError)
    assert "watchtower token list" in str(error)


def test_the_list_of_parties(config: str, tmp_path: Path) -> None:
    """Allowed, renamed, listed, removed."""
    told(config, "client", "allow", KEY, "--note", "Bob")
    told(config, "client", "allow", KEY, "--note", "Bob, phone")
    access = AccessFile(tmp_path / "access.json")
    allowed = access.allows(bytes.fromhex(KEY))
    listed = told(config, "client", "list")["parties"]
    removed = cli(config, "client", "remove", KEY)

    assert allowed
    assert [(KEY, "Bob, phone")] == [(each["key"], each["note"]) for each in listed]
    assert f"removed {KEY}\n" == removed.stdout
    assert not access.allows(bytes.fromhex(KEY))


def test_the_document_is_printed(config: str) -> None:
    """The same document that a tower serves."""
    result = cli(config, "api", "openapi")

    assert json.loads(json.dumps(document())) == json.loads(result.stdout)


def test_a_list_that_root_changes_stays_the_towers(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock and the new file belong to who owns the data directory: the service can still open both."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _descriptor, user, group: given.append((user, group)))
    owner = tmp_path.stat()

    told(config, "client", "allow", KEY)

    assert [(owner.st_uid, owner.st_gid)] * 2 == given
