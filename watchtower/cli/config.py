"""`watchtower config`: the settings in effect, and all there are."""

from __future__ import annotations

import json

import click

from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context
from watchtower.config import example_toml, reference_rows, reference_table, shown


@click.group("config", cls=Group)
def command() -> None:
    """Show and check the settings, or print what there is to set."""


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


@command.command("check")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def check(context: Context, as_json: bool) -> None:
    """Check settings, files with secrets and addresses; asks no node. `watchtower doctor` looks at everything.

    Exit code 0: the tower can start with these; 2: a setting cannot be used; 3: a file or an address cannot.

    \b
    Examples:
      watchtower config check
      watchtower --config ./tower/config.toml config check --json
    """
    from watchtower.cli.doctor import VERDICTS, tell
    from watchtower.config import ConfigError
    from watchtower.doctor.case import open_case
    from watchtower.doctor.configuration import refused
    from watchtower.doctor.examine import examine_settings

    try:
        loaded = context.load()
    except ConfigError as error:
        tell(context, refused(error), as_json=as_json)
    verdicts = VERDICTS | {0: "the settings can be used; `watchtower doctor` looks at node, disk and log as well"}
    tell(context, examine_settings(open_case(loaded, seconds=0)), as_json=as_json, verdicts=verdicts)


@command.command("reference")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def reference(as_json: bool) -> None:
    """Print a table of every setting, as in docs/configuration.md.

    \b
    Examples:
      watchtower config reference
      watchtower config reference --json
    """
    if as_json:
        emit_json({"settings": reference_rows()})
    else:
        click.echo(reference_table(), nl=False)


@command.command("example")
@click.option("--json", "as_json", is_flag=True, help="The file as the text of a JSON document.")
def example(as_json: bool) -> None:
    """Print a configuration file with every setting, its unit and its default.

    \b
    Example:
      watchtower config example > config.toml
    """
    if as_json:
        emit_json({"toml": example_toml()})
    else:
        click.echo(example_toml(), nl=False)
