"""`watchtower events`: the log as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from watchtower.cli.output import Context, Group, always_json, config_option, emit_line, pass_context

if TYPE_CHECKING:
    from watchtower.store.reader import LogReader

PAGE = 500
WAIT = 1.0
"""Seconds of one wait for news; Ctrl-C is heard in between."""

REGISTRATION = 2
"""First events of a channel's stream, stored together: the second one has the constants with the funding outpoint."""


@click.group("events", cls=Group)
def command() -> None:
    """Events of the log, from the store itself; no running tower is needed."""


@command.command("tail")
@click.option("--from", "first", type=click.IntRange(1), help="Begin with this id; 1 is the beginning of the log.")
@click.option("--count", type=click.IntRange(1), help="End after so many events. Default: with Ctrl-C.")
@click.option("--no-follow", is_flag=True, help="End at the end of the log.")
@always_json
@config_option
@pass_context
def tail(context: Context, first: int | None, count: int | None, no_follow: bool) -> None:
    """Print one JSON document per event, and go on with those that come. Without --from: those that come.

    `id` is the place in the log, times are Unix seconds. Secrets and signatures are not in it; `watchtower audit show`
    shows what an event holds.

    \b
    Examples:
      watchtower events tail
      watchtower events tail --from 1 --no-follow
    """
    from watchtower.store.places import open_log_reader

    with open_log_reader(context.load().settings) as log:
        after = log.last_id() if first is None else first - 1
        told, names = 0, _Names(log)
        while count is None or told < count:
            page = log.read_log(after, PAGE if count is None else min(PAGE, count - told))
            for recorded in page:
                emit_line(_line(recorded, names))
            told += len(page)
            if page:
                after = page[-1].id
            elif no_follow:
                return
            else:
                _wait(log, after)


def _wait(log: LogReader, after: int) -> None:
    while not log.wait_beyond(after, WAIT):
        continue


class _Names:
    """Channel ids by the names of streams, from the first events of each."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._known: dict[str, str | None] = {}

    def of(self, stream: str) -> str | None:
        """The id in hexadecimal; None for a stream that is not a channel's."""
        if stream not in self._known:
            self._known[stream] = self._look(stream)
        return self._known[stream]

    def _look(self, stream: str) -> str | None:
        from domain.channel_fold import fold
        from projections.channels import is_channel_stream

        if not is_channel_stream(stream):
            return None
        channel = fold(None, self._log.read_stream(stream, limit=REGISTRATION))
        return None if channel is None else channel.params.channel_id.hex()


def _line(recorded: object, names: _Names) -> dict[str, object]:
    from domain.chain import display
    from domain.events import Recorded
    from projections.timeline import row_of

    assert isinstance(recorded, Recorded)
    row = row_of(recorded)
    return {
        "id": row.id,
        "stream": row.stream,
        "channel_id": names.of(row.stream),
        "version": row.version,
        "recorded_at": row.recorded_at / 1e6,
        "height": row.height,
        "kind": row.kind,
        "text": row.line,
        "txid": None if row.txid is None else display(row.txid),
    }
