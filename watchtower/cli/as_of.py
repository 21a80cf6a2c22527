"""The options by which a command is told a point of the log: `--position`, `--id`, `--at`, `--height`, `--block`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from domain.as_of import MAX_POINT, one_point
from domain.errors import MalformedInput
from watchtower.audit.progress import Style

_NUMBER = click.IntRange(0, MAX_POINT)

_OPTIONS = (
    click.option("--position", type=_NUMBER, metavar="P", help="As of the first P events of the log."),
    click.option("--id", "event_id", type=_NUMBER, metavar="N", help="As of all events with an id of at most N."),
    click.option(
        "--at", metavar="TIME", help="As of a time in UTC, as in 2026-01-31T12:00:00Z: before anything recorded later."
    ),
    click.option(
        "--height", type=_NUMBER, metavar="H", help="As of the connected block of height H, with all that it caused."
    ),
    click.option("--block", metavar="HASH", help="As of the block with this hash, also if it was disconnected later."),
)

keep_option = click.option(
    "--keep",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Leave the read models of that point in this file; a later point goes on from them.",
)
progress_option = click.option(
    "--progress", "style", type=click.Choice(get_args(Style)), help="How to tell how far it is, on stderr."
)


def as_of_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command gets `as_of`: the point, or None. Two of the options are a wrong usage."""

    @functools.wraps(command)
    def told(
        *arguments: Any,
        position: int | None,
        event_id: int | None,
        at: str | None,
        height: int | None,
        block: str | None,
        **options: Any,
    ) -> Any:
        try:
            as_of = one_point(position=position, id=event_id, at=at, height=height, block=block)
        except MalformedInput as error:
            raise click.UsageError(str(error)) from None
        return command(*arguments, as_of=as_of, **options)

    decorated: Callable[..., Any] = told
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
