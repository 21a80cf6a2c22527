"""`watchtower top`: a live view of the tower on a terminal."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context, printable
from watchtower.cli.status import BREACH_COLUMNS, UNREACHABLE, breach_rows, clock, rows

if TYPE_CHECKING:
    from rich.console import Group

    from watchtower.doctor.overview import Overview

RATES = (
    ("state_updates_total", "states"),
    ("http_requests_total", "requests"),
    ("chain_blocks_processed_total", "blocks"),
    ("node_rpc_requests_total", "node calls"),
    ("zmq_messages_total", "notifications"),
    ("event_store_events_total", "events"),
    ("log_messages_total", "warnings and errors"),
)
"""Counters that are shown as a rate, and as what."""


@click.command("top")
@click.option(
    "--interval", type=click.FloatRange(0.2, 60), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Draw one picture and end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document; with it --once is meant.")
@config_option
@pass_context
def command(context: Context, interval: float, once: bool, as_json: bool) -> None:
    """Show phase, lag, canary, node, tasks, rates and open breaches with their countdown, live. Ends with Ctrl-C.

    Stays when the tower goes away, and goes on when it is back. Without a terminal it draws once.

    \b
    Examples:
      watchtower top
      watchtower top --interval 0.5
      watchtower top --once
    """
    from watchtower.doctor.asking import TowerAway

    look = Looking(context)
    if once or as_json or not sys.stdout.isatty():
        try:
            seen = look.once()
        except TowerAway as error:
            click.echo(f"{error.slug}: {error}", err=True)
            sys.exit(UNREACHABLE)
        if as_json:
            emit_json(seen.document())
        else:
            _print(context, draw(seen, None, ""))
        return
    watch(context, look, interval)


class Looking:
    """Asks the tower again and again; a look that fails keeps the last one, and says since when."""

    def __init__(self, context: Context) -> None:
        from watchtower.doctor.asking import token_of

        self._settings = context.load().settings
        self._token = token_of(self._settings)
        self.before: Overview | None = None
        self.seen: Overview | None = None
        self.trouble = ""

    def once(self) -> Overview:
        """Look; raises `TowerAway`."""
        from watchtower.doctor.overview import overview

        return overview(self._settings, time.time(), token=self._token)

    def again(self) -> None:
        """Look, or note what is wrong."""
        from watchtower.doctor.asking import TowerAway

        try:
            found = self.once()
        except TowerAway as error:
            self.trouble = f"{error}; last seen {clock(self.seen.at) if self.seen else 'never'}"
            self.before = None  # a rate over the time of an absence would mean nothing
            return
        self.before, self.seen, self.trouble = (None if self.trouble else self.seen), found, ""


def watch(context: Context, look: Looking, interval: float) -> None:
    """Draw on the terminal's second screen until Ctrl-C or SIGTERM; the first one is back afterwards."""
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=context.no_color)
    with _signals() as signals, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            look.again()
            live.update(draw(look.seen, look.before, look.trouble), refresh=True)
            with suppress(Empty):
                signals.get(timeout=interval)
                return


@contextmanager
def _signals() -> Iterator[SimpleQueue[int]]:
    """Where Ctrl-C, SIGTERM and a closed terminal are told, so that the block ends in order.

    A handler may run in the midst of the waiting for it: that of an event would wait for a lock that is held below it.
    """
    told: SimpleQueue[int] = SimpleQueue()
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, lambda number, _: told.put(number))
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def draw(seen: Overview | None, before: Overview | None, trouble: str) -> Group:
    """The whole picture; `before` is the look that rates are counted from."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.text import Text

    if seen is None:
        return Group(Text(trouble or "looking for the tower", style="bold red"))
    mood = "bold white on red" if not seen.watching or trouble else "bold black on green"
    words = "PROTECTED" if seen.watching and not trouble else "NOT PROTECTED" if not trouble else "UNKNOWN"
    parts: list[Any] = [Text(f" {words}: {seen.phase} ", style=mood) + Text(f"  {clock(seen.at)}", style="dim")]
    if trouble:
        parts.append(Text(printable(trouble), style="red"))
    parts += [Text(printable(reason), style="yellow") for reason in seen.reasons]
    parts.append(Columns([_table("tower", ("", ""), rows(seen)[2:]), _rates(seen, before), _tasks(seen)]))
    if seen.breaches:
        parts.append(_table("open breaches", BREACH_COLUMNS, breach_rows(seen)))
    return Group(*parts)


def _rates(seen: Overview, before: Overview | None) -> Any:
    return _table("per second", ("", ""), [(name, rate(seen, before, metric)) for metric, name in RATES])


def rate(seen: Overview, before: Overview | None, metric: str) -> str:
    """How fast a counter grew between two looks; a dash at the first look and after a restart of the tower."""
    now, then = seen.total(metric), None if before is None else before.total(metric)
    if before is None or now is None or then is None or now < then or seen.at <= before.at:
        return "-"
    return f"{(now - then) / (seen.at - before.at):.1f}"


def _tasks(seen: Overview) -> Any:
    told = []
    for task, up in seen.by_label("task_up").items():
        age = seen.age("task_last_progress_timestamp_seconds", task=task)
        told.append((task, "up" if up else "DOWN", "-" if age is None else f"{age:.0f} s"))
    return _table("tasks", ("task", "is", "moved"), told)


def _table(title: str, columns: tuple[str, ...], told: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(column)
    for row in told:
        table.add_row(*(Text(printable("-" if cell is None else str(cell))) for cell in row))
    return table


def _print(context: Context, picture: Group) -> None:
    from rich.console import Console

    with suppress(BrokenPipeError):
        Console(no_color=context.no_color).print(picture)
