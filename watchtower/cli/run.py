"""`watchtower run`: the service."""

from __future__ import annotations

import sys

import click

from watchtower.cli.output import Context, config_option, pass_context


@click.command("run")
@click.option("--network", help="Overrides `network`.")
@click.option("--data-dir", help="Overrides `data_dir`.")
@click.option("--log-level", help="Overrides `log.level`.")
@config_option
@pass_context
def command(context: Context, network: str | None, data_dir: str | None, log_level: str | None) -> None:
    """Watch: follow the chain, answer breaches, serve the API. Ends with Ctrl-C or SIGTERM.

    Logs go to stdout, one JSON object per line unless it is a terminal.

    \b
    Examples:
      watchtower run
      watchtower --config ./tower/config.toml run
      STATE_CHANNEL_NETWORK=regtest watchtower run
    """
    from watchtower.bootstrap import start
    from watchtower.run import run

    sys.exit(run(start(context.load(network=network, data_dir=data_dir, log__level=log_level))))
