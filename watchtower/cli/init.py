"""`watchtower init`: make a tower."""

from __future__ import annotations

import os
from pathlib import Path

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context
from watchtower.config import Loaded


@click.command("init")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Where keys and events are kept.")
@click.option("--network", help="mainnet (default), testnet, testnet4, signet or regtest.")
@click.option("--store-url", help="Keep the event log on a server: postgresql://user@host/database.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, data_dir: Path | None, network: str | None, store_url: str | None, as_json: bool) -> None:
    """Make a new tower: keys, keystore, event log and a configuration file.

    Nothing that exists is overwritten. Secrets are made at random and kept in files that only you can read. Prints the
    lines that bitcoind needs. With --store-url run `watchtower store migrate` first; a password is not written into the
    configuration file.

    \b
    Examples:
      watchtower init
      watchtower init --network regtest --data-dir ./tower
      watchtower init --store-url postgresql://tower@db.example/watchtower
    """
    from watchtower.config import load
    from watchtower.new_tower import create

    flags = {"network": network, "data_dir": str(data_dir) if data_dir else None, "store.url": store_url}
    # A configuration that exists belongs to another tower: only the environment and the flags speak.
    loaded = load(os.environ, flags=flags, read_file=False)
    settings, given = loaded.settings, given_credentials(loaded)
    config_path = _config_path(context, data_dir)
    made = create(
        Path(settings.data_dir), config_path, settings.network, {"node": given} if given else None, settings.store
    )
    lines = bitcoind_lines("" if given else made.rpcauth, made.rpc_user)
    start = _start_command(context, data_dir, config_path)
    if as_json:
        emit_json(
            {
                "config": str(made.config_path),
                "data_dir": str(made.data_dir),
                "token_path": str(made.token_path),
                "pubkey": made.pubkey.hex(),
                "bitcoin_conf": lines,
                "next": start,
            }
        )
        return
    click.echo(f"tower_id    {made.pubkey[1:].hex()}")
    click.echo(f"data        {made.data_dir}")
    click.echo(f"settings    {made.config_path}")
    click.echo(f"API token   {made.token_path}")
    click.echo("\nAdd these lines to bitcoin.conf and restart bitcoind:\n")
    click.echo("\n".join(lines))
    click.echo(f"\nThen start the tower:\n\n  {start}\n")
    click.echo(
        f"Keep a copy of {made.data_dir}: without the keystore and its passphrase nothing can be punished.", err=True
    )


def given_credentials(loaded: Loaded) -> dict[str, str | int | float | bool]:
    """User or cookie of the node, where the environment names one: then the new tower gets no user of its own.

    Without this an installation that is configured by its environment alone would have a cookie and, in the file, a
    user that the node does not know; and the user wins.
    """
    node = loaded.settings.node
    named = {"rpc_user": node.rpc_user, "rpc_cookie_path": node.rpc_cookie_path}
    return {key: value for key, value in named.items() if loaded.sources[f"node.{key}"] != "default"}


def bitcoind_lines(rpcauth: str, user: str) -> list[str]:
    """What bitcoin.conf needs: a user that may do what the tower does and no more, and the notifications.

    `rpcauth` is empty for a user that is there already, `user` for a cookie.
    """
    from watchtower.ports import ALLOWED_METHODS

    whitelist = [f"rpcwhitelist={user}:{','.join(ALLOWED_METHODS)}", "rpcwhitelistdefault=0"] if user else []
    return [
        "server=1",
        *([rpcauth] if rpcauth else []),
        *whitelist,
        "zmqpubsequence=tcp://127.0.0.1:28332",
        "zmqpubrawtx=tcp://127.0.0.1:28333",
    ]


def _config_path(context: Context, data_dir: Path | None) -> Path:
    if context.config_path:
        return Path(context.config_path).absolute()
    if data_dir is not None:
        return (data_dir / "config.toml").absolute()
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "state-channel-watchtower" / "config.toml"


def _start_command(context: Context, data_dir: Path | None, config_path: Path) -> str:
    if context.config_path is None and data_dir is None:
        return "watchtower run"
    return f"watchtower --config {config_path} run"
