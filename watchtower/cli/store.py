"""`watchtower store`: care of the event log; one file per verb."""

from __future__ import annotations

import click

from watchtower.cli.output import LazyGroup


class _Verbs(LazyGroup):
    package, verbs = (
        "watchtower.cli.store_",
        (
            "verify",
            "backup",
            "restore",
            "accept-rollback",
            "rebuild",
            "copy",
            "migrate",
            "close-segment",
            "archive-segment",
        ),
    )


@click.group("store", cls=_Verbs)
def command() -> None:
    """Check, copy, back up and restore the event log."""
