"""`watchtower keys`: passphrase, backup, restore and check of a keystore; no secret is an argument or an output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context

if TYPE_CHECKING:
    from watchtower.backup import Manifest, Sources
    from watchtower.config import Settings
    from watchtower.keystore import FileKeystore

STDIN = "-"
FILE = click.Path(dir_okay=False, allow_dash=True)


class Place:
    """Whose keystore is meant: the tower of the settings, or the party in `home`; and where its passphrase is."""

    def __init__(self, settings: Settings, home: Path | None, passphrase_file: str | None) -> None:
        from watchtower.keystore import PASSPHRASE_NAME

        self.settings = settings
        self.home = home
        self.directory = home or Path(settings.data_dir)
        self.keystore = home / "keystore" if home else Path(settings.keystore_path)
        self.beside = self.directory / PASSPHRASE_NAME
        self._given = passphrase_file

    @property
    def is_beside(self) -> bool:
        """Whether the passphrase is in the file beside the keystore, as `init` makes it."""
        return self._given is None and self.settings.keystore.passphrase is None

    def open(self, *, for_writing: bool) -> FileKeystore:
        """The keystore; without the lock unless it is to be written."""
        from watchtower.keystore import FileKeystore, open_with_file

        if self.is_beside:
            return open_with_file(self.keystore, self.beside, for_writing=for_writing)
        return (FileKeystore.open if for_writing else FileKeystore.open_copy)(self.keystore, self.passphrase())

    def passphrase(self) -> bytes:
        """From --passphrase-file, else as the setting keystore.passphrase says, else from the file beside."""
        from watchtower.keystore import fitting_passphrase

        if self._given is not None:
            return _read(self._given)
        secret = self.settings.keystore.passphrase
        return fitting_passphrase(self.keystore, self.beside) if secret is None else secret.reveal().encode()

    def sources(self, *, with_log: bool) -> Sources:
        """What a backup holds."""
        from watchtower.backup import party_sources, tower_sources

        if self.home is not None:
            return party_sources(self.home, with_log=with_log)
        return tower_sources(self.directory, Path(self.settings.event_log_path) if with_log else None)


def _read(name: str) -> bytes:
    from watchtower.keystore import read_passphrase, read_passphrase_line

    return read_passphrase_line() if name == STDIN else read_passphrase(Path(name))


def _place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    home = click.Path(exists=True, file_okay=False, path_type=Path)
    command = click.option("--home", type=home, help="A party's directory, instead of the tower's.")(command)
    told = "File with the passphrase; - reads a line. Default: keystore.passphrase, as set or in the directory."
    command = click.option("--passphrase-file", type=FILE, help=told)(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON document.")(command)


@click.group("keys", cls=Group)
def command() -> None:
    """Change the passphrase of a keystore, back it up, restore and check it."""


@command.command("passphrase")
@_place_options
@click.option(
    "--new-passphrase-file", type=FILE, help="File with the new passphrase; - reads a line (after the old one)."
)
@click.option("--cost", type=int, help="New scrypt cost, a power of two; 65536 takes 64 MiB.")
@config_option
@pass_context
def passphrase(
    context: Context,
    home: Path | None,
    passphrase_file: str | None,
    as_json: bool,
    new_passphrase_file: str | None,
    cost: int | None,
) -> None:
    """Change the passphrase; everything is sealed anew. Stop the service first.

    Without --new-passphrase-file a random one is made and kept in the file beside the keystore. Backups made before
    still open with the passphrase of their time.

    \b
    Examples:
      watchtower keys passphrase
      watchtower keys passphrase --home ./alice --passphrase-file old --new-passphrase-file new
    """
    from watchtower.keystore import KeystoreError, new_passphrase, replace_passphrase

    place = Place(context.load().settings, home, passphrase_file)
    if new_passphrase_file is None and not place.is_beside:
        raise KeystoreError(
            "the passphrase is not kept beside the keystore; give the new one with --new-passphrase-file"
        )
    keystore = place.open(for_writing=True)
    try:
        chosen = new_passphrase().encode() if new_passphrase_file is None else _read(new_passphrase_file)
        if place.is_beside:
            replace_passphrase(keystore, place.beside, chosen, cost)
        else:
            keystore.change_passphrase(chosen, cost=cost)
        kept = str(place.beside) if place.is_beside else None
        document = {"keystore": str(place.keystore), "cost": keystore.cost, "passphrase_file": kept}
    finally:
        keystore.close()
    if as_json:
        emit_json(document)
        return
    click.echo(f"{place.keystore} has a new passphrase")
    click.echo(f"it is in {kept}" if kept else "put it where keystore.passphrase is read from, before the next start")


@command.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@_place_options
@click.option("--keys-only", is_flag=True, help="Leave the event log out.")
@config_option
@pass_context
def backup_command(
    context: Context, file: Path, home: Path | None, passphrase_file: str | None, as_json: bool, keys_only: bool
) -> None:
    """Copy keystore, keys and event log into one encrypted FILE, and read it back. The service may run.

    The file opens with the present passphrase, which is not in it: keep that elsewhere. Nothing is overwritten.

    \b
    Examples:
      watchtower keys backup /mnt/usb/tower-2026-11-22
      watchtower keys backup --home ./alice --keys-only alice-keys
    """
    from watchtower.backup import backup

    place = Place(context.load().settings, home, passphrase_file)
    opened = place.passphrase()
    _told(backup(place.sources(with_log=not keys_only), file, opened, time.time_ns() // 1000), file, as_json=as_json)


@command.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--passphrase-file", type=FILE, help="File with the passphrase of the backup; - (default) reads a line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def restore_command(file: Path, directory: Path, passphrase_file: str | None, as_json: bool) -> None:
    """Unpack the backup FILE to DIRECTORY, which must be new or empty.

    A party comes back with every channel frozen: newer states may exist. The passphrase is not restored.

    \b
    Examples:
      watchtower keys restore /mnt/usb/tower-2026-11-22 ./tower --passphrase-file ./passphrase
    """
    from watchtower.backup import restore, verify
    from watchtower.client.party.home import restore_backup

    opened = _read(passphrase_file or STDIN)
    manifest = verify(file, opened)
    with_party_log = manifest.kind == "party" and manifest.log is not None
    (restore_backup if with_party_log else restore)(file, directory, opened)
    _told(manifest, directory, as_json=as_json)


@command.command("check")
@_place_options
@click.option(
    "--backup", "saved", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Check this backup."
)
@config_option
@pass_context
def check(context: Context, home: Path | None, passphrase_file: str | None, as_json: bool, saved: Path | None) -> None:
    """Open every secret of the keystore, or read a whole backup. Changes nothing; the service may run.

    For a tower, names the watched channels whose key is missing; exit code 1 if there are any.

    \b
    Examples:
      watchtower keys check
      watchtower keys check --backup /mnt/usb/tower-2026-11-22 --json
    """
    from watchtower.backup import verify

    place = Place(context.load().settings, home, passphrase_file)
    if saved is not None:
        _told(verify(saved, place.passphrase()), saved, as_json=as_json)
        return
    keystore = place.open(for_writing=False)
    missing = [] if home else _missing(place.settings, keystore.names())
    secrets = len(keystore.names())
    if as_json:
        emit_json({"keystore": str(place.keystore), "secrets": secrets, "cost": keystore.cost, "missing": missing})
    else:
        click.echo(f"{place.keystore}: {secrets} secrets can be opened, scrypt cost {keystore.cost}")
        for name in missing:
            click.echo(f"channel {name}: its key is missing, a breach could not be punished", err=True)
    if missing:
        sys.exit(1)


def _missing(settings: Settings, names: frozenset[bytes]) -> list[str]:
    """Channels that are still watched and have no key."""
    from domain.status import ChannelStatus
    from watchtower.cli import reading

    over = {ChannelStatus.RESOLVED.value, ChannelStatus.DOUBLE_SPENT.value}
    with reading.views(settings) as rows:
        alive = [row for row in reading.channels(rows) if row.status not in over]
    return [row.channel_id.hex() for row in alive if row.proposal_id not in names]


def _told(manifest: Manifest, path: Path, *, as_json: bool) -> None:
    events = manifest.log.last_id if manifest.log else None
    if as_json:
        emit_json(
            {
                "path": str(path),
                "kind": manifest.kind,
                "made_at": manifest.made_at / 1e6,
                "secrets": manifest.secrets,
                "events": events,
                "files": [stored.name for stored in manifest.files],
            }
        )
        return
    log = "no log" if events is None else f"{events} events"
    click.echo(f"{path}: {manifest.kind}, {manifest.secrets} secrets, {log}, read back whole")
