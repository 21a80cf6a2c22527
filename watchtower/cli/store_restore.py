"""`watchtower store restore`: a tower from a backup, in a new directory."""

from __future__ import annotations

from pathlib import Path

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context

STDIN = "-"


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", "directory", type=click.Path(path_type=Path), required=True, help="New or empty directory.")
@click.option("--accept-rollback", is_flag=True, help="The newer log is lost: begin a new epoch.")
@click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, allow_dash=True),
    default=STDIN,
    help="File with the passphrase of the backup; - (default) reads a line.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(
    context: Context, file: Path, directory: Path, accept_rollback: bool, passphrase_file: str, as_json: bool
) -> None:
    """Unpack the backup FILE to a directory, prove it, and say whether it is the newest state of this log.

    All of it appears at once, or nothing. The backup is compared with the high-water file of the settings: one of
    another tower is refused. With --accept-rollback receipts are signed again at once, and clients upload what is
    missing; without it the tower protects, and waits for `watchtower store accept-rollback`. Stop the old tower first.

    \b
    Examples:
      watchtower store restore /mnt/usb/tower-2026-11-22 --to ./tower --accept-rollback --passphrase-file ./passphrase
    """
    from watchtower.continuity.restoring import restore_tower
    from watchtower.keystore import read_passphrase, read_passphrase_line

    passphrase = read_passphrase_line() if passphrase_file == STDIN else read_passphrase(Path(passphrase_file))
    done = restore_tower(context.load().settings, file, directory, passphrase, accept=accept_rollback)
    if as_json:
        emit_json(done)
        return
    click.echo(f"{directory}: {done.events} events, {done.secrets} secrets, checked")
    if done.epoch is not None:
        click.echo(f"epoch {done.epoch} begins; {done.channels} channels wait for their owners")
    elif done.high_water is None:
        click.echo("there is no high-water file: nobody knows how far the log had come", err=True)
    elif done.missing:
        click.echo(f"the log had reached event {done.high_water}: it is an older copy", err=True)
    click.echo("set data_dir to this directory, put the passphrase beside the keystore, then start the service")
