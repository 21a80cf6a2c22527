"""`watchtower config`: the settings in effect, and all there are."""

from __future__ import annotations

import json

import click

from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context
from watchtower.config import example_toml, shown


@click.group("config", cls=Group)
def command() -> None:
    """Show the settings, or print an example file."""


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def show(context: Context, as_json: bool) -> None:
    """Show every setting with its source; a secret is shown as [set].

    \b
    Examples:
      watchtower config show
      STATE_CHANNEL_NETWORK=regtest watchtower config show --json
    """
    loaded = context.load()
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    rows = shown(loaded)
    if as_json:
        emit_json({key: {"value": value, "source": source} for key, value, source in rows})
        return
    for key, value, source in rows:
        # A value in TOML's own form; what is not set has no form there, so its line is a comment.
        click.echo(f"# {key}  # {source}" if value is None else f"{key} = {json.dumps(value)}  # {source}")


@command.command("example")
def example() -> None:
    """Print a configuration file with every setting, its unit and its default.

    \b
    Example:
      watchtower config example > config.toml
    """
    click.echo(example_toml(), nl=False)
