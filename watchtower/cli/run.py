"""`watchtower run`: the service."""

from __future__ import annotations

import os
import sys

import click

from watchtower.cli.output import Context, config_option, pass_context

NAMES = {"network": "network", "data_dir": "data_dir", "log_level": "log__level", "log_format": "log__format"}
"""Option -> setting."""


@click.command("run")
@click.option("--network", help="Overrides `network`.")
@click.option("--data-dir", help="Overrides `data_dir`.")
@click.option("--log-level", help="Overrides `log.level`.")
@click.option("--log-format", help="Overrides `log.format`: json, console, or auto (JSON unless a terminal).")
@click.option("--standby", is_flag=True, help="Follow the tower that leads the log on the server; take over from it.")
@config_option
@pass_context
def command(context: Context, /, standby: bool, **flags: str | None) -> None:
    """Watch: follow the chain, answer breaches, serve the API. Ends with Ctrl-C or SIGTERM.

    Logs go to stdout, one JSON object per line unless it is a terminal. SIGHUP reads log level, notification targets
    and quotas again.

    \b
    Examples:
      watchtower run
      watchtower run --standby
      watchtower --config ./tower/config.toml run
      STATE_CHANNEL_NETWORK=regtest watchtower run
    """
    from watchtower.bootstrap.parts import begin, open_parts
    from watchtower.host.supervisor import Supervisor
    from watchtower.reload import Reload
    from watchtower.run import run
    from watchtower.telemetry.logging import log_unforeseen

    chosen = {NAMES[name]: text for name, text in flags.items()} | {"store__standby": "true" if standby else None}
    loaded = context.load(**chosen)
    metrics, control = begin(loaded)
    log_unforeseen()
    reload = Reload(loaded, lambda: context.load(**chosen), control)
    reload.listen()
    opening = Supervisor(os.environ).opening
    if not loaded.settings.store.standby:
        with opening():
            parts = open_parts(loaded.settings, metrics)
        sys.exit(run(parts, reload))
    from watchtower.standby import stand_by

    ended, board = stand_by(loaded.settings, metrics, reload)
    if ended.turn is None:
        sys.exit(ended.code)
    # What was read again while another tower led counts from now on.
    parts = open_parts(reload.settings, metrics, turn=ended.turn, board=board)
    sys.exit(run(parts, reload))
