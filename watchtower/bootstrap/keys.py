"""The keystore: the file, and with a log on a server the sealed copies beside it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from watchtower.config import Settings
from watchtower.keystore import PASSPHRASE_NAME, FileKeystore, TransportSeal, open_with_file
from watchtower.keystore.shared import SharedKeystore
from watchtower.receipts.tower_key import TowerKey
from watchtower.store.places import open_secrets


def open_keystore(settings: Settings) -> FileKeystore:
    """The keystore's file with the passphrase of the settings, else with the one beside it."""
    path, secret = Path(settings.keystore_path), settings.keystore.passphrase
    if secret is None:
        return open_with_file(path, Path(settings.data_dir) / PASSPHRASE_NAME)
    return FileKeystore.open(path, secret.reveal().encode())


def share_keystore(
    settings: Settings, own: FileKeystore, key: TowerKey, log_id: bytes, stack: ExitStack
) -> SharedKeystore | None:
    """The keystore with sealed copies beside a log on a server; None for a log in a file."""
    table = open_secrets(settings)
    if table is None:
        return None
    stack.callback(table.close)
    return SharedKeystore(own, table, TransportSeal(key.derive(b"sealed-secrets/1/" + log_id)))
