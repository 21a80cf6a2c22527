"""No secret of the tower or of its owner leaves the files that are made for it, whatever the service is asked.

Looked for: seed, the keys of every role and the nodes above them, per-commitment secrets, the keys that sign a penalty,
a preimage before it is public, the passphrase and the keys that follow from it, tokens, RPC password, tower key. Looked
at: database files and their write-ahead logs while the tower runs and after it, log at level debug, answers and
problems of every address, metrics, process arguments, command output, a backup, the party's own log, reprs, errors and
tracebacks.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from domain.contract.derivation import PURPOSE, derive
from domain.contract.keys import public_key, tweak_secret
from domain.contract.params import SEGWIT, TAPROOT
from domain.contract.revocation import commitment_secret, revocation_secret
from domain.contract.taproot_scripts import contest_output
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.support.parties import Pair, htlc, open_pair, preimage_of, seed_of
from tests.support.service import ROOT, ServiceProcess, settings_for
from watchtower.config import load
from watchtower.devnode.regtest import RegtestNode
from watchtower.http.endpoints import ENDPOINTS
from watchtower.new_tower import NewTower, create, rpcauth_line
from watchtower.wire.api import RegisterRequest
from watchtower.wire.hexes import to_json, to_plain

PASSWORD = "canary-rpc-password-5f1c"
KEPT_IN_FILES = {"tower.key", "keystore", "keystore.passphrase", "api.token", "config.toml"}
"""The files that hold secrets on purpose, all with mode 0600."""

UPDATES = 3
PENDING = 9
"""Number of an HTLC in the last state; its receiver knows the preimage, nobody else does."""

STREAMS = ("/v1/events", "/v1/channels/{id}/events")
"""Addresses that answer for ever."""


def secrets_of_owner(pair: Pair) -> dict[str, bytes]:
    """Seed and keys of B, the own per-commitment secrets, and the key that signs the penalty."""
    keys = pair.secrets(Side.B)
    found = {name: getattr(keys, name) for name in keys.__struct_fields__}
    found["party seed"] = seed_of(pair.names[Side.B])
    found |= {f"own secret {n}": commitment_secret(keys.seed, n) for n in range(UPDATES + 2)}
    revocation = revocation_secret(keys.rev, pair.secret(Side.A, 1))
    found["penalty key"] = revocation
    if pair.params.profile == TAPROOT:
        root = contest_output(pair.params, public_key(revocation)).merkle_root
        found["tweaked penalty key"] = tweak_secret(revocation, root)
    index = pair.b.channel(pair.channel_id).channel_index
    path = (PURPOSE, 1, index)
    nodes = {str(depth): derive(found["party seed"], path[:depth]) for depth in range(len(path) + 1)}
    found |= {f"node {depth}": node.secret for depth, node in nodes.items()}
    found |= {f"chain code {depth}": node.chain_code for depth, node in nodes.items()}
    return found | {"preimage": preimage_of(PENDING)}


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
    return found | keys_of_keystore(made.data_dir / "keystore", made.passphrase_path)


def keys_of_keystore(path: Path, passphrase_path: Path) -> dict[str, bytes]:
    """The key that scrypt makes from the passphrase, and the data key that it opens."""
    header = json.loads(path.read_bytes().splitlines()[0])
    salt, sealed = bytes.fromhex(header["salt"]), bytes.fromhex(header["data_key"])
    stretching = Scrypt(salt=salt, length=32, n=header["n"], r=header["r"], p=header["p"])
    key = stretching.derive(passphrase_path.read_bytes().removesuffix(b"\n"))
    binding = b"|".join((header["format"].encode(), b"\x01", bytes.fromhex(header["file_id"]), b"data-key"))
    return {"passphrase key": key, "data key": ChaCha20Poly1305(key).decrypt(sealed[:12], sealed[12:], binding)}


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


def files_in(home: Path) -> Iterable[tuple[str, bytes]]:
    """Name and content of every file; while the tower runs, the first name of a file that replaces another may go."""
    for path in home.iterdir():
        with suppress(FileNotFoundError):
            yield path.name, path.read_bytes()


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
            with urllib.request.urlopen(request, timeout=60) as answer:
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


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT])
def test_no_secret_leaves_its_file(rpc_node: RegtestNode, tmp_path: Path, profile: int) -> None:
    """Log, views, debug log, answers, problems, metrics, settings and command output of a life with a breach."""
    home = tmp_path / "tower"
    changes = {"rpc_user": "tower", "rpc_password": PASSWORD, "rpc_cookie_path": ""}
    chosen = settings_for(rpc_node, **changes) | {"": {"taproot_enabled": profile == TAPROOT}}
    made = create(home, home / "config.toml", "regtest", chosen)
    scoped = json.loads(command(made, "token", "create", "canary", "--scope", "channels:read", "--json"))["token"]
    service = ServiceProcess(made.config_path, {"STATE_CHANNEL_LOG__LEVEL": "debug"})
    try:
        service.wait_watching()
        api = Listener(service, made.token_path.read_text().strip())
        pair = live_and_cheat(rpc_node, service, api, profile)
        ask_everything(api, pair)
        service.wait_for("penalty_confirmed")
        metrics = service.get("admin", "/metrics")[1]
        process = Path(f"/proc/{service.process.pid}")
        limits, places = (process / "limits").read_text(), {"arguments": (process / "cmdline").read_bytes()}
        places |= {f"running {name}": content for name, content in files_in(home)}
        backup = command(made, "keys", "backup", str(tmp_path / "backup"))
        assert 0 == service.terminate()
        while service.next_line(30) is not None:  # what was asked last may be told behind what was waited for
            pass
    finally:
        service.close()
    secrets = secrets_of_owner(pair) | secrets_of_tower(made) | {"scoped token": scoped.encode()}
    places = {name: content for name, content in places.items() if name.removeprefix("running ") not in KEPT_IN_FILES}
    places |= {name: content for name, content in files_in(home) if name not in KEPT_IN_FILES}
    places |= {"log": json.dumps(service.lines).encode(), "answers": api.answers, "metrics": metrics}
    places |= commands(made, pair) | {"backup": (tmp_path / "backup").read_bytes(), "told": backup}
    shown = (load({}, config_path=str(made.config_path)), made, pair.b, pair.secrets(Side.B), pair.registration(Side.B))
    places["repr"] = repr(shown).encode()
    assert {"events.db", "views.db", "running events.db-wal"} <= set(places)
    assert [] == found_in(secrets, places)
    assert ["0", "0"] == next(line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core"))


def test_the_search_finds_what_is_there() -> None:
    """Every form of a secret is found, so that finding none means something."""
    secret = {"seed": seed_of("alice")}
    places = {str(number): b"before " + form + b" behind" for number, form in enumerate(forms(secret["seed"]))}
    assert len(places) == len(found_in(secret, places)) == 7
    assert [] == found_in(secret, {"other": seed_of("bob")})


def live_and_cheat(node: RegtestNode, service: ServiceProcess, api: Listener, profile: int) -> Pair:
    """Refused and accepted registrations, updates, every question, and a breach that is punished."""
    pair = open_pair(lambda spk, amount: node.fund(spk, amount, broadcast=False), profile=profile)
    registration = pair.registration(Side.B)
    refused = [api.ask("/v1/channels", raw) for raw in bad_registrations(to_plain(registration))]
    assert {400, 422} == set(refused)
    assert 201 == api.ask("/v1/channels", to_json(registration))
    node.send_raw(pair.funding.raw)
    node.mine(1)
    service.wait_for("funding_confirmed")
    name = pair.channel_id.hex()
    node.wait_until(lambda: b'"confirmed":true' in api.latest(f"/v1/channels/{name}/funding"))
    pair.updates(UPDATES - 1)
    a, b = pair.balances
    pair.update((a - 20_000, b), (htlc(Side.A, PENDING, 20_000, 900_000),))
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


def ask_everything(api: Listener, pair: Pair) -> None:
    """Every address of the table, with a body that holds secrets where none belongs: nothing is taken."""
    name, registration = pair.channel_id.hex(), to_json(pair.registration(Side.B))
    questions = [row for row in ENDPOINTS if row.path not in STREAMS]
    for row in questions:
        path = row.path.replace("{id}", name)
        statuses = (
            [api.ask(path)] if row.method == "GET" else [api.ask(path, b"[" + registration), api.ask(path, b"{}")]
        )
        assert set(statuses) <= {200, 400, 404, 409, 415, 422}, (path, statuses)
    posts = [row.path for row in questions if row.method == "POST" and row.body is not RegisterRequest]
    assert {400, 422} >= {api.ask(path.replace("{id}", name), registration) for path in posts}


def command(made: NewTower, *words: str) -> bytes:
    """What one command prints."""
    line = [sys.executable, "-m", "watchtower", "--config", str(made.config_path), *words]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, check=True, timeout=60)
    return done.stdout + done.stderr


def commands(made: NewTower, pair: Pair) -> dict[str, bytes]:
    """What the read-only commands print."""
    name = pair.channel_id.hex()
    asked = [
        ("config", "show"),
        ("config", "show", "--json"),
        ("channel", "list", "--json"),
        ("channel", "show", name, "--json"),
        ("channel", "history", name, "--json"),
        ("channel", "liquidity", name),
        ("keys", "check", "--json"),
        ("token", "list", "--json"),
        ("replay", "--json"),
    ]
    return {" ".join(words[:2]): command(made, *words) for words in asked}
