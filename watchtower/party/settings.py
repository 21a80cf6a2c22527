"""The settings of a party, in `party.toml` in its directory, and the peers that it knows, in `peers`.

`party.toml` holds no secret: tokens and passwords are in files of their own, which it names. The six documented
variables override it. `peers` has one peer per line: KEY@host:port is dialed and let in, KEY alone is let in.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from watchtower.client.config import VARIABLES, StateChannelConfig
from watchtower.client.errors import ConfigurationError
from watchtower.client.fee_children import FeeChildPolicy
from watchtower.client.payments.routing import ForwardingPolicy
from watchtower.client.transport.curve_key import PeerAddress

SETTINGS_NAME = "party.toml"
PEERS_NAME = "peers"
SOCKET_NAME = "party.sock"
DEFAULT_TOWER = "http://127.0.0.1:9815"

_KEY = re.compile(r"[0-9a-f]{64}")


class TowerPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The own tower. Without `token_file` requests are signed with the channels' keys, for which `id` is needed.

    `id` is the tower's x-only key, 64 hexadecimal digits; it is pinned.
    """

    url: str = DEFAULT_TOWER
    token_file: str = ""
    id: str = ""


class WalletPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A wallet of bitcoind. `node` is its RPC address; credentials are in `cookie_file`, or `user` and `password_file`.

    `name` may be left out if the node has one wallet only.
    """

    node: str = ""
    name: str = ""
    cookie_file: str = ""
    user: str = ""
    password_file: str = ""


class ChildFees(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whether children are attached to own closes whose fixed fee is too small, and the most that one pays (sat)."""

    attach: bool = True
    max_fee: int = FeeChildPolicy().max_fee


class PartyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`party.toml`. The first six are the documented options; None leaves the default.

    `listen` is host:port, empty for a party that only dials. `anyone` lets unknown peers connect. `applications` are
    package.module:name. With a section `forwarding` it forwards payments of others on these terms. `fee_children` holds
    for closes, if there is a wallet.
    """

    network: str | None = None
    timeout_ms: int | None = None
    challenge_period: int | None = None
    funding_threshold: int | None = None
    max_channel_value: int | None = None
    taproot_enabled: bool | None = None
    listen: str = ""
    anyone: bool = False
    applications: tuple[str, ...] = ()
    tower: TowerPlace = TowerPlace()
    wallet: WalletPlace = WalletPlace()
    forwarding: ForwardingPolicy | None = None
    fee_children: ChildFees = ChildFees()

    def config(self, environ: Mapping[str, str]) -> StateChannelConfig:
        """The six options: variables first, then the file, then the defaults; raises `ConfigurationError`."""
        own = {name: getattr(self, name) for name in VARIABLES if getattr(self, name) is not None}
        given = StateChannelConfig.from_env(environ)
        told = {name: getattr(given, name) for name, variable in VARIABLES.items() if environ.get(variable)}
        return StateChannelConfig(**(own | told))

    @property
    def fee_policy(self) -> FeeChildPolicy:
        """The section `fee_children`, with what the terms of forwarding say about time."""
        preemptive = self.forwarding is not None and self.forwarding.preemptive
        own = self.fee_children
        return FeeChildPolicy(attach=own.attach, max_fee=own.max_fee, preemptive=preemptive)

    @property
    def listen_address(self) -> tuple[str, int] | None:
        """Host and port, None if the party does not listen."""
        if not self.listen:
            return None
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise ConfigurationError(f"listen is host:port, for example 127.0.0.1:9735; got {self.listen!r}")
        return host.strip("[]"), int(port)

    @property
    def tower_id(self) -> bytes | None:
        """The key of the tower that is pinned, None if none is."""
        if self.tower.id and _KEY.fullmatch(self.tower.id) is None:
            raise ConfigurationError(
                f"the id of a tower has 64 hexadecimal digits, `watchtower init` tells it; got {self.tower.id[:100]!r}"
            )
        return bytes.fromhex(self.tower.id) or None


def read_settings(home: Path) -> PartyFile:
    """The file in `home`; raises `ConfigurationError` with what is wrong and where."""
    path = home / SETTINGS_NAME
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(document, PartyFile)
    except FileNotFoundError:
        raise ConfigurationError(f"{home} is no party's directory; make one with `watchtower party init`") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError, msgspec.ValidationError) as error:  # no TOML, no text, or without end
        raise ConfigurationError(f"{path}: {error}") from None


def write_settings(home: Path, settings: PartyFile) -> None:
    """Write the file; it must not exist yet."""
    document = msgspec.to_builtins(settings)
    lines = [_line(name, value) for name, value in document.items() if value is not None and value != {}]
    plain = [line for line in lines if not line.startswith("[")]
    sections = [line for line in lines if line.startswith("[")]
    _write_new(home / SETTINGS_NAME, "\n".join([*plain, *sections]) + "\n")


def read_peers(home: Path) -> tuple[str, ...]:
    """The lines of the file of peers; empty ones and comments are left out."""
    try:
        lines = (home / PEERS_NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def remember_peer(home: Path, peer: str) -> None:
    """Add a peer, so that it is dialed again after a restart; durable on return."""
    check_peer(peer)
    if peer in read_peers(home):
        return
    try:
        with (home / PEERS_NAME).open("a", encoding="utf-8") as file:
            Path(file.name).chmod(0o600)
            file.write(peer + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigurationError(f"{home / PEERS_NAME} cannot be written ({error.strerror})") from None


def addresses(peers: Iterable[str]) -> list[PeerAddress]:
    """Those that can be dialed."""
    return [PeerAddress.parse(peer) for peer in peers if "@" in peer]


def identities(peers: Iterable[str]) -> frozenset[bytes]:
    """All of them."""
    return frozenset(check_peer(peer) for peer in peers)


def check_peer(peer: str) -> bytes:
    """The identity in KEY or KEY@host:port; `ConfigurationError` says how it should look."""
    if "@" in peer:
        return PeerAddress.parse(peer).key
    if _KEY.fullmatch(peer) is None:
        raise ConfigurationError(f"a peer is KEY@host:port, or KEY (64 hexadecimal digits); got {peer[:100]!r}")
    return bytes.fromhex(peer)


def _line(name: str, value: Any) -> str:
    """A setting, or a section with its settings."""
    if isinstance(value, dict):
        return "\n".join([f"[{name}]", *(_line(inner, item) for inner, item in value.items() if item is not None)])
    return f"{name} = {json.dumps(value)}"


def _write_new(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{path} exists already and is not overwritten") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
