"""`watchtower run`: the service."""

from __future__ import annotations

import sys

import click

from watchtower.cli.output import Context, config_option, pass_context


@click.command("run")
@click.option("--network", help="Overrides `network`.")
@click.option("--data-dir", help="Overrides `data_dir`.")
@click.option("--log-level", help="Overrides `log.level`.")
@click.option("--standby", is_flag=True, help="Follow the tower that leads the log on the server; take over from it.")
@config_option
@pass_context
def command(context: Context, network: str | None, data_dir: str | None, log_level: str | None, standby: bool) -> None:
    """Watch: follow the chain, answer breaches, serve the API. Ends with Ctrl-C or SIGTERM.

    Logs go to stdout, one JSON object per line unless it is a terminal.

    \b
    Examples:
      watchtower run
      watchtower run --standby
      watchtower --config ./tower/config.toml run
      STATE_CHANNEL_NETWORK=regtest watchtower run
    """
    from watchtower.bootstrap import begin, open_parts
    from watchtower.run import run

    flag = "true" if standby else None
    loaded = context.load(network=network, data_dir=data_dir, log__level=log_level, store__standby=flag)
    settings, metrics = loaded.settings, begin(loaded)
    if not settings.store.standby:
        sys.exit(run(open_parts(settings, metrics)))
    from watchtower.standby import stand_by

    ended, board = stand_by(settings, metrics)
    sys.exit(ended.code if ended.turn is None else run(open_parts(settings, metrics, turn=ended.turn, board=board)))
