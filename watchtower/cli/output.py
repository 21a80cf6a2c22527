"""How commands speak: one JSON document on stdout, or a table on a terminal; messages go to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from watchtower.config import Loaded, load


class Context:
    """The options before the verb."""

    def __init__(self, config_path: str | None, verbose: bool = False, no_color: bool = False) -> None:
        self.config_path = config_path
        self.verbose = verbose
        self.no_color = no_color

    def load(self, **flags: str | None) -> Loaded:
        """The settings; flags are dotted keys with `__` for the dot. Raises `ConfigError`."""
        named = {name.replace("__", "."): text for name, text in flags.items()}
        if self.verbose:
            named.setdefault("log.level", "debug")
        return load(os.environ, config_path=self.config_path, flags=named)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table on a terminal, tab-separated lines elsewhere; empty is said in words on stderr."""
        if not rows:
            click.echo(f"no {title}", err=True)
            return
        if not sys.stdout.isatty():
            for row in (columns, *rows):
                click.echo("\t".join(_text(cell) for cell in row))
            return
        from rich.console import Console
        from rich.table import Table

        drawn = Table(title=title, title_justify="left")
        for column in columns:
            drawn.add_column(
                column, justify="right" if _numeric(rows, columns.index(column)) else "left", overflow="fold"
            )
        for row in rows:
            drawn.add_row(*(_text(cell) for cell in row))
        Console(no_color=self.no_color).print(drawn)


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) and sys.stdout.isatty() else str(cell)


def _numeric(rows: Sequence[Sequence[Any]], index: int) -> bool:
    return all(isinstance(row[index], int | float) or row[index] is None for row in rows)


def emit_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


pass_context = click.make_pass_decorator(Context)


def _remember_config(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.find_object(Context).config_path = value  # type: ignore[union-attr]


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False),
    expose_value=False,
    callback=_remember_config,
    help="Configuration file; may also stand before the verb.",
)
"""`--config` after the verb means the same as before it."""
