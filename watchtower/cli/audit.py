"""`watchtower audit`: what the event log says and whether it can be believed; one file per verb."""

from __future__ import annotations

import click

from watchtower.cli.output import LazyGroup


class _Verbs(LazyGroup):
    package, verbs = "watchtower.cli.audit_", ("verify", "export", "verify-export", "show", "replay", "state")


@click.group("audit", cls=_Verbs)
def command() -> None:
    """Verify, replay and export the event log; works beside a running tower and changes nothing."""
