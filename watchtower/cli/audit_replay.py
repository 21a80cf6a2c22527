"""`watchtower audit replay`: the read models as they follow from the log, at any point of it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from domain.as_of import MAX_POINT, AsOf
from projections.catalog import PROJECTIONS, TABLES
from watchtower.audit.findings import ExitCode
from watchtower.audit.progress import Style
from watchtower.cli.as_of import as_of_options, keep_option, progress_option
from watchtower.cli.output import Context, config_option, pass_context

NAMES = tuple(dict.fromkeys([*(projection.name for projection in PROJECTIONS), *TABLES]))


@click.command("replay")
@click.option(
    "--projection",
    "names",
    multiple=True,
    metavar="NAME",
    help="Show the rows of this projection or table; repeatable.",
)
@as_of_options
@click.option("--until", type=click.IntRange(0, MAX_POINT), metavar="P", help="The same as --position.")
@click.option("--stream", metavar="ID", help="Fold only this stream.")
@click.option("--channel", metavar="ID", help="Fold only the stream of this channel; the id may be shortened.")
@click.option("--check", is_flag=True, help="Compare with the live read models, at their position, row by row.")
@click.option(
    "--out",
    type=click.Path(exists=False, path_type=Path),
    help="Write the rows to this new file, one JSON document per line.",
)
@keep_option
@progress_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(
    context: Context,
    names: tuple[str, ...],
    as_of: AsOf | None,
    until: int | None,
    stream: str | None,
    channel: str | None,
    check: bool,
    out: Path | None,
    keep: Path | None,
    style: Style | None,
    as_json: bool,
) -> None:
    """Fold the log up to a point, and show or write the read models of then; or compare them with the live ones.

    Without names and without a stream: number of rows and digest of each table. Works beside a running tower and
    changes nothing. Exit code 70 if a live row does not follow from the log, 71 if the log cannot be folded.

    \b
    Examples:
      watchtower audit replay --check
      watchtower audit replay --projection channel_info --height 812345 --json
      watchtower audit replay --channel 3f9a --at 2026-01-31T12:00:00Z
      watchtower audit replay --until 120000 --out ./then.jsonl --keep ./then.db
    """
    from watchtower.cli import replaying

    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise click.UsageError(f"there is no projection {unknown[0]}; the names are {', '.join(NAMES)}")
    if until is not None and as_of is not None:
        raise click.UsageError(f"give one point of the log only, not both until and {next(iter(as_of.query()))}")
    if stream is not None and channel is not None:
        raise click.UsageError("give one of --stream and --channel")
    if out is not None and out.exists():
        raise click.UsageError(f"{out} exists already; name another file")
    point = as_of if until is None else AsOf(position=until)
    if check and (point is not None or out is not None or keep is not None):
        raise click.UsageError("--check compares at the position of the live read models: leave point and files out")
    wish = replaying.Wish(point, names, stream, channel, out, keep, style, as_json)
    try:
        sys.exit(replaying.run(context, context.load().settings, wish, check=check))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
