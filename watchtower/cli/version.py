"""`watchtower version`: what exactly is running."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

import click

import watchtower
from watchtower.cli.output import Context, emit_json, pass_context
from watchtower.host.revision import revision

LIBRARIES = ("coincurve", "eventsourcing", "msgspec", "pyzmq", "python-bitcoinrpc")


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_context
def command(context: Context, as_json: bool) -> None:
    """Show the version of the tower, of Python and of the libraries that matter.

    \b
    Example:
      watchtower version --json
    """
    found = {"watchtower": watchtower.__version__, "revision": revision(), "python": platform.python_version()}
    found |= {name: version_of(name) for name in LIBRARIES}
    if as_json:
        emit_json(found)
    else:
        context.table("versions", ("part", "version"), list(found.items()))
