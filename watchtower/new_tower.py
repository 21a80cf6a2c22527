"""Everything that a new tower needs on disk: directory, keys, passphrase, keystore, event log, configuration.

Made once. Nothing that exists is overwritten: a key or a log may be the only copy. Secrets are random, mode 0600, and
leave this module only as files; the node's password is shown as the salted line that bitcoind wants.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import msgspec

from domain.contract import keys
from watchtower.config import Settings, StoreSettings
from watchtower.keystore import SCRYPT_COST, FileKeystore
from watchtower.ports import WatchtowerError
from watchtower.store.places import create_log

RPC_USER = "watchtower"
TOKEN_PREFIX = "wt_"  # noqa: S105 - the public prefix, not a token


class AlreadyThere(WatchtowerError):
    """A tower's file exists already; a new tower needs an empty directory."""

    slug: ClassVar[str] = "already-there"


class CannotMake(WatchtowerError):
    """A directory cannot be made or written."""

    slug: ClassVar[str] = "cannot-make"


class NewTower(msgspec.Struct, frozen=True):
    """What was made. `pubkey` is the tower's identity; `rpcauth` the line for bitcoin.conf."""

    data_dir: Path
    config_path: Path
    token_path: Path
    passphrase_path: Path
    pubkey: bytes
    rpc_user: str
    rpcauth: str


def create(
    data_dir: Path,
    config_path: Path,
    network: str,
    settings: Mapping[str, Mapping[str, str | int | float | bool]] | None = None,
    store: StoreSettings | None = None,
    *,
    cost: int = SCRYPT_COST,
) -> NewTower:
    """Make all files; raises `AlreadyThere` or `CannotMake` before any file is written.

    `settings` are further values for the configuration file by section ("" is the top level); without a
    `rpc_cookie_path` among them, the tower gets an RPC user of its own. `store` may name a server for the log, on which
    `store migrate` was run; the log is begun there before any file is written, so a `StoreError` leaves nothing. Its
    password is not written anywhere. `cost` is scrypt's n for the keystore.
    """
    store = store or StoreSettings()
    on_server = store.url.startswith("postgres")
    for folder in (data_dir, config_path.parent):
        _make_folder(folder)
    names = ("tower.key", "keystore.passphrase", "keystore", "copy.db" if on_server else "events.db", "api.token")
    made = {name: data_dir / name for name in names}
    taken = [str(path) for path in (config_path, *made.values()) if path.exists()]
    if taken:
        raise AlreadyThere(
            f"{taken[0]} exists already and is not overwritten; choose another --data-dir and --config, "
            "or move the old tower away (its keys may be needed to punish)"
        )
    tower_key = _tower_key()
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    passphrase = secrets.token_urlsafe(32)
    password = secrets.token_urlsafe(24)
    if on_server:
        _make_log(Settings(network=network, data_dir=str(data_dir), store=store), keys.public_key(tower_key))  # type: ignore[arg-type]
    _write(made["tower.key"], tower_key.hex())
    _write(made["keystore.passphrase"], passphrase)
    _write(made["api.token"], token)
    FileKeystore.create(made["keystore"], passphrase.encode(), cost=cost).close()
    if not on_server:
        _make_log(Settings(network=network, data_dir=str(data_dir)), keys.public_key(tower_key))  # type: ignore[arg-type]
    extra = {name: dict(values) for name, values in (settings or {}).items()}
    if on_server:
        extra.setdefault("store", {})["url"] = store.url
    sections = _sections(data_dir, network, token, password, extra)
    _write(config_path, _toml(sections))
    return NewTower(
        data_dir=data_dir,
        config_path=config_path,
        token_path=made["api.token"],
        passphrase_path=made["keystore.passphrase"],
        pubkey=keys.public_key(tower_key),
        rpc_user=str(sections["node"].get("rpc_user", "")),
        rpcauth=rpcauth_line(RPC_USER, password, secrets.token_hex(16)),
    )


def rpcauth_line(user: str, password: str, salt: str) -> str:
    """The line `rpcauth=user:salt$hash` of bitcoin.conf (share/rpcauth in Bitcoin Core)."""
    digest = hmac.new(salt.encode(), password.encode(), hashlib.sha256).hexdigest()
    return f"rpcauth={user}:{salt}${digest}"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = error.strerror
    else:
        if os.access(folder, os.W_OK | os.X_OK):
            return
        reason = "not writable"
    raise CannotMake(f"{folder}: {reason}; choose another --data-dir or --config, or make it yours first") from None


def _tower_key() -> bytes:
    while not keys.secret_in_range(key := secrets.token_bytes(32)):
        continue
    return key


def _make_log(settings: Settings, pubkey: bytes) -> None:
    create_log(
        settings,
        origin=f"watchtower/{settings.network}/{pubkey.hex()[:16]}",
        log_id=secrets.token_bytes(16),
        stream_key=secrets.token_bytes(32),
        recorded_at=time.time_ns() // 1000,
    )


def _sections(
    data_dir: Path,
    network: str,
    token: str,
    password: str,
    extra: Mapping[str, Mapping[str, str | int | float | bool]],
) -> dict[str, dict[str, str | int | float | bool]]:
    sections: dict[str, dict[str, str | int | float | bool]] = {
        "": {"network": network, "data_dir": str(data_dir)},
        "node": {},
        "api": {"token_hash": hashlib.sha256(token.encode()).hexdigest()},
    }
    for name, values in extra.items():
        sections.setdefault(name, {}).update(values)
    if not {"rpc_cookie_path", "rpc_user"} & set(sections["node"]):
        sections["node"] |= {"rpc_user": RPC_USER, "rpc_password": password}
    return sections


def _toml(sections: Mapping[str, Mapping[str, str | int | float | bool]]) -> str:
    lines = ["# Made by `watchtower init`. `watchtower config example` lists every setting."]
    for name, values in sections.items():
        if not values:
            continue
        if name:
            lines.append(f"\n[{name}]")
        lines += [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text if text.endswith("\n") else text + "\n")
        file.flush()
        os.fsync(file.fileno())
