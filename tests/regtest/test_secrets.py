"""No secret of the tower or of its owner leaves the files that are made for it, whatever the service is asked."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from domain.contract.revocation import commitment_secret, revocation_secret
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.support.parties import Pair, open_pair, seed_of
from tests.support.service import ROOT, ServiceProcess, settings_for
from watchtower.config import load
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower, create, rpcauth_line
from watchtower.wire.hexes import to_json, to_plain

PASSWORD = "canary-rpc-password-5f1c"
KEPT_IN_FILES = {"tower.key", "keystore", "keystore.passphrase", "api.token", "config.toml"}
"""The files that hold secrets on purpose, all with mode 0600."""

UPDATES = 3


def secrets_of_owner(pair: Pair) -> dict[str, bytes]:
    """Seed and keys of B, the own per-commitment secrets, and the key that signs the penalty."""
    keys = pair.secrets(Side.B)
    found = {name: getattr(keys, name) for name in keys.__struct_fields__}
    found["party seed"] = seed_of(pair.names[Side.B])
    found |= {f"own secret {n}": commitment_secret(keys.seed, n) for n in range(UPDATES + 2)}
    found["penalty key"] = revocation_secret(keys.rev, pair.secret(Side.A, 1))
    return found


def secrets_of_tower(made: NewTower) -> dict[str, bytes]:
    """Identity key, passphrase, token and RPC password."""
    texts = {
        "passphrase": made.passphrase_path.read_text().strip(),
        "token": made.token_path.read_text().strip(),
        "RPC password": PASSWORD,
    }
    found = {name: text.encode() for name, text in texts.items()}
    found["RPC header"] = base64.b64encode(f"tower:{PASSWORD}".encode())
    found["tower key"] = bytes.fromhex((made.data_dir / "tower.key").read_text())
    return found


def forms(secret: bytes) -> Iterable[bytes]:
    """How a secret could be written: raw, hexadecimal in both byte orders, base64, as Python shows bytes."""
    yield from (secret, secret.hex().encode(), secret[::-1].hex().encode(), secret.hex().upper().encode())
    yield from (base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"="))
    yield repr(secret)[2:-1].encode()


def found_in(secrets: dict[str, bytes], places: dict[str, bytes]) -> list[str]:
    """Which secret stands where."""
    return [
        f"{name} in {place}"
        for name, secret in secrets.items()
        for place, content in places.items()
        if any(form in content for form in forms(secret))
    ]


class Listener:
    """Talks to the API with the token and keeps every answer."""

    def __init__(self, service: ServiceProcess, token: str) -> None:
        self._base = f"http://{service.address('api')}"
        self._token = token
        self.answers = b""

    def latest(self, path: str) -> bytes:
        """The answer to one question, which must not be refused."""
        before = len(self.answers)
        assert 200 == self.ask(path)
        return self.answers[before:]

    def ask(self, path: str, body: bytes | None = None) -> int:
        """Status of one request."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._base + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                self.answers += str(answer.headers).encode() + answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            self.answers += str(error.headers).encode() + error.read()
            return error.code


def bad_registrations(body: dict[str, Any]) -> Iterable[bytes]:
    """Requests whose fault lies in or beside the secret: the refusal must not repeat it."""
    secret = body["revocation_secret"]
    changes: list[dict[str, Any]] = [
        {"revocation_secret": secret + "00"},
        {"revocation_secret": secret.upper()},
        {"revocation_secret": [secret]},
        {"sweep_spk": secret},
        {"own_side": secret},
        {"channel_index": secret},
        {"own_points": [secret, secret]},
        {"params": secret},
        {"upload_sig": "00" * 64},
    ]
    for change in changes:
        yield json.dumps(body | change).encode()
    yield json.dumps(body).encode()[:-2]


@pytest.fixture
def rpc_node(start_node: StartNode) -> RegtestNode:
    """A node that knows the tower by user and password."""
    return start_node(extra_args=[f"-{rpcauth_line('tower', PASSWORD, '00' * 16)}"])


def test_no_secret_leaves_its_file(rpc_node: RegtestNode, tmp_path: Path) -> None:
    """Log, views, debug log, answers, problems, metrics, settings and command output of a life with a breach."""
    home = tmp_path / "tower"
    changes = {"rpc_user": "tower", "rpc_password": PASSWORD, "rpc_cookie_path": ""}
    made = create(home, home / "config.toml", "regtest", settings_for(rpc_node, **changes))
    service = ServiceProcess(made.config_path, {"STATE_CHANNEL_LOG__LEVEL": "debug"})
    try:
        service.wait_watching()
        api = Listener(service, made.token_path.read_text().strip())
        pair = live_and_cheat(rpc_node, service, api)
        service.wait_for("penalty_confirmed")
        metrics = service.get("admin", "/metrics")[1]
        assert 0 == service.terminate()
    finally:
        service.close()
    secrets = secrets_of_owner(pair) | secrets_of_tower(made)
    places = {path.name: path.read_bytes() for path in home.iterdir() if path.name not in KEPT_IN_FILES}
    places |= {"log": json.dumps(service.lines).encode(), "answers": api.answers, "metrics": metrics}
    places |= commands(made, pair)
    shown = (load({}, config_path=str(made.config_path)), made, pair.b, pair.secrets(Side.B), pair.registration(Side.B))
    places["repr"] = repr(shown).encode()
    assert {"events.db", "views.db"} <= set(places)
    assert [] == found_in(secrets, places)


def test_the_search_finds_what_is_there() -> None:
    """Every form of a secret is found, so that finding none means something."""
    secret = {"seed": seed_of("alice")}
    places = {str(number): b"before " + form + b" behind" for number, form in enumerate(forms(secret["seed"]))}
    assert len(places) == len(found_in(secret, places)) == 7
    assert [] == found_in(secret, {"other": seed_of("bob")})


def live_and_cheat(node: RegtestNode, service: ServiceProcess, api: Listener) -> Pair:
    """Refused and accepted registrations, updates, every question, and a breach that is punished."""
    pair = open_pair(lambda spk, amount: node.fund(spk, amount, broadcast=False))
    registration = pair.registration(Side.B)
    refused = [api.ask("/v1/channels", raw) for raw in bad_registrations(to_plain(registration))]
    assert {400, 422} == set(refused)
    assert 201 == api.ask("/v1/channels", to_json(registration))
    node.send_raw(pair.funding.raw)
    node.mine(1)
    service.wait_for("funding_confirmed")
    name = pair.channel_id.hex()
    node.wait_until(lambda: b'"confirmed":true' in api.latest(f"/v1/channels/{name}/funding"))
    pair.updates(UPDATES)
    for sequence in range(1, UPDATES + 1):
        assert 200 == api.ask(f"/v1/channels/{name}/states", to_json(pair.update_request(Side.B, sequence)))
    own = to_plain(pair.release_request(Side.B, 1)) | {"secret": pair.secret(Side.B, 1).hex()}
    assert 422 == api.ask(f"/v1/channels/{name}/revocations", json.dumps(own).encode())
    questions = ("", f"/{name}", f"/{name}/funding", f"/{name}/timeline", f"/{pair.secret(Side.B, 1).hex()}")
    assert [200, 200, 200, 200, 404] == [api.ask(f"/v1/channels{path}") for path in questions]
    assert [200, 200, 200] == [api.ask(path) for path in ("/v1/info", "/healthz", "/readyz")]
    node.generate_block([pair.commitment(Side.A, 1)])
    service.wait_for("penalty_broadcast")
    node.mine(1)
    return pair


def commands(made: NewTower, pair: Pair) -> dict[str, bytes]:
    """What the read-only commands print."""
    name = pair.channel_id.hex()
    asked = [
        ("config", "show"),
        ("config", "show", "--json"),
        ("channel", "list", "--json"),
        ("channel", "show", name, "--json"),
        ("channel", "history", name, "--json"),
        ("replay", "--json"),
    ]
    printed = {}
    for words in asked:
        command = [sys.executable, "-m", "watchtower", "--config", str(made.config_path), *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
        printed[" ".join(words[:2])] = done.stdout + done.stderr
    return printed
