"""`watchtower api`: what the HTTP API says about itself."""

from __future__ import annotations

import click

from watchtower.cli.output import Group, always_json, emit_json


@click.group("api", cls=Group)
def command() -> None:
    """What the HTTP API says about itself."""


@command.command("openapi")
@always_json
def openapi() -> None:
    """Print the OpenAPI 3.1 document that a running tower serves at /openapi.json.

    \b
    Example:
      watchtower api openapi > docs/openapi.json
    """
    from watchtower.http.openapi import document

    emit_json(document())
