"""How commands speak: one JSON document on stdout, or a table on a terminal; messages go to stderr."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from watchtower.config import Loaded, load

if TYPE_CHECKING:
    from rich.table import Table

LEAST = 20
"""Characters per line to which the widest column of a table may be folded."""


class Context:
    """The options before the verb."""

    def __init__(self, config_path: str | None, verbose: bool = False, no_color: bool = False) -> None:
        self.config_path = config_path
        self.verbose = verbose
        self.no_color = no_color

    def load(self, **flags: str | None) -> Loaded:
        """The settings; flags are dotted keys with `__` for the dot. Raises `ConfigError`."""
        named = {name.replace("__", "."): text for name, text in flags.items()}
        if self.verbose and not named.get("log.level"):
            named["log.level"] = "debug"
        return load(os.environ, config_path=self.config_path, flags=named)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table on a terminal, aligned text elsewhere; empty is said in words on stderr.

        A terminal that is too narrow for the table gets the aligned text, or one field per line: no number is broken.
        """
        if not rows:
            click.echo(f"no {title}", err=True)
            return
        plain = _aligned(columns, rows)
        if not sys.stdout.isatty():
            click.echo(plain)
            return
        from rich.console import Console

        console = Console(no_color=self.no_color)
        if _table_width(columns, rows) <= console.width:
            console.print(_drawn(title, columns, rows))
        elif max(map(len, plain.splitlines())) <= console.width:
            click.echo(plain)
        else:
            click.echo(_upright(columns, rows))


def _drawn(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    foldable = _foldable(columns, rows)
    drawn = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        drawn.add_column(
            column,
            justify="right" if _numeric(rows, place) else "left",
            overflow="fold",
            min_width=None if place == foldable else _widths(columns, rows, separated=True)[place],
        )
    for row in rows:
        drawn.add_row(*(Text(_text(cell, separated=True)) for cell in row))  # a plain string would be read as markup
    return drawn


def _table_width(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """What the drawn table needs at least: one column of words may be folded, frames are three wide."""
    widths, foldable = _widths(columns, rows, separated=True), _foldable(columns, rows)
    return 1 + sum(min(width, LEAST) + 3 if place == foldable else width + 3 for place, width in enumerate(widths))


def _foldable(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int | None:
    """The widest column, if it holds words."""
    widths = _widths(columns, rows, separated=True)
    widest = widths.index(max(widths))
    return None if _numeric(rows, widest) else widest


def _widths(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, separated: bool) -> list[int]:
    return [
        max(len(column), *(len(_text(row[place], separated=separated)) for row in rows))
        for place, column in enumerate(columns)
    ]


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns two blanks apart, numbers to the right, nothing behind the last word of a line."""
    widths = _widths(columns, rows, separated=False)
    adjusted = [str.rjust if _numeric(rows, place) else str.ljust for place in range(len(columns))]
    return "\n".join(
        "  ".join(
            adjust(_text(cell), width) for adjust, cell, width in zip(adjusted, line, widths, strict=True)
        ).rstrip()
        for line in (columns, *rows)
    )


def _upright(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """One field per line, an empty line between rows."""
    width = max(map(len, columns))
    return "\n\n".join(
        "\n".join(
            f"{column.ljust(width)}  {_text(cell, separated=True)}" for column, cell in zip(columns, row, strict=True)
        )
        for row in rows
    )


def _text(cell: Any, *, separated: bool = False) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}" if separated else str(cell)
    return printable(str(cell))


def printable(text: str) -> str:
    """Without control characters: a peer's words must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _numeric(rows: Sequence[Sequence[Any]], index: int) -> bool:
    return all(isinstance(row[index], int | float) or row[index] is None for row in rows)


def emit_document(context: Context, title: str, document: dict[str, Any], *, as_json: bool) -> None:
    """The JSON document; without `as_json` a table of its fields, and one for each list of things in it."""
    if as_json:
        emit_json(document)
        return
    flat = list(_flat(document))
    fields = [(name, value) for name, value in flat if not _is_list(value)]
    if fields or not flat:
        context.table(title, ("field", "value"), fields)
    for name, value in flat:
        if _is_list(value):
            columns = list(value[0])
            context.table(name, columns, [[_cell(row.get(column)) for column in columns] for row in value])


def _flat(document: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Fields with a value; those of inner documents have their path as a name."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        elif value not in (None, "", [], ()):
            yield before + name, value if _is_list(value) else _cell(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)


def _cell(value: Any) -> Any:
    """A list of plain values in one cell; a word for a flag."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) if isinstance(each, str | int | float | None) else str(each) for each in value)
    return value


def emit_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def emit_line(document: Any) -> None:
    """One JSON document on one line, at once: for streams."""
    click.echo(msgspec.json.encode(document).decode())
    sys.stdout.flush()


class Group(click.Group):
    """A list of commands with the whole first sentence of each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Click would cut the sentences."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(limit=400)) for name, each in found if each is not None]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


class LazyGroup(Group):
    """Commands of which each is a module with a `command`, imported when it is used."""

    package = ""
    """What stands before a verb in the name of its module."""

    verbs: tuple[str, ...] = ()

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In the order that was given."""
        return list(self.verbs)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, or None."""
        if cmd_name not in self.verbs:
            return None
        module = importlib.import_module(self.package + cmd_name.replace("-", "_"))
        command: click.Command = module.command
        return command


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

always_json = click.option("--json", is_flag=True, expose_value=False, help="What it prints in any case.")
"""`--json` of a command that prints JSON anyway, so that nobody has to know which ones do."""
