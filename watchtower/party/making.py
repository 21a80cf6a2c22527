"""A new party on disk: keys, log, settings, and the passphrase beside them unless its owner keeps it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from watchtower.client.errors import ConfigurationError, StateChannelError
from watchtower.client.party.home import create_home, export_seed
from watchtower.client.transport.curve_key import TransportKey
from watchtower.keystore import PASSPHRASE_NAME, SCRYPT_COST, new_passphrase
from watchtower.party.faults import CallFailed, Fault
from watchtower.party.settings import SETTINGS_NAME, PartyFile, check_peer, remember_peer, write_settings
from watchtower.party.wire import fault_of


def make_party(
    home: Path,
    settings: PartyFile,
    environ: Mapping[str, str],
    *,
    passphrase: bytes | None = None,
    peers: Sequence[str] = (),
    cost: int | None = None,
) -> dict[str, Any]:
    """Make everything; what was made, without a secret. Raises `CallFailed`, `KeystoreError` or `StoreError`.

    The network in effect is written down: the log belongs to it.
    """
    try:
        network = _check(home, settings, environ, peers)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        chosen = passphrase if passphrase is not None else _make_passphrase(home)
    except OSError as error:
        raise CallFailed(Fault("cannot-make", f"{home}: {error.strerror}; choose another --home")) from None
    except StateChannelError as error:
        raise CallFailed(fault_of(error)) from None
    create_home(home, network, chosen, cost=SCRYPT_COST if cost is None else cost)
    for peer in peers:
        remember_peer(home, peer)
    write_settings(home, msgspec.structs.replace(settings, network=network))
    key = TransportKey.from_seed(export_seed(home, chosen)).public.hex()
    return {
        "key": key,
        "home": str(home.absolute()),
        "network": network,
        "listen": settings.listen or None,
        "settings": str((home / SETTINGS_NAME).absolute()),
        "next": f"watchtower party run --home {home}",
    }


def _check(home: Path, settings: PartyFile, environ: Mapping[str, str], peers: Sequence[str]) -> str:
    """Refuse before any file is written; the network in effect."""
    if home.exists() and any(home.iterdir()):
        raise ConfigurationError(f"{home} is not empty; a party needs a directory of its own")
    for peer in peers:
        check_peer(peer)
    settings.listen_address, settings.tower_id, settings.fee_policy  # noqa: B018 - reads them, and raises
    if not settings.tower.url.startswith(("http://", "https://")):
        raise ConfigurationError(f"a tower's address begins with http:// or https://, got {settings.tower.url[:100]!r}")
    given = {name: value for name, value in environ.items() if name != "STATE_CHANNEL_NETWORK" or not settings.network}
    return settings.config(given).network


def _make_passphrase(home: Path) -> bytes:
    made = new_passphrase()
    descriptor = os.open(home / PASSPHRASE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(made + "\n")
    return made.encode()
