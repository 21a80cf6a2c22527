"""`watchtower replay`: do the read models follow from the log?"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context

DIFFERENT = 70
"""EX_SOFTWARE of sysexits.h: the program is wrong, not the operator."""


@click.command("replay")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, as_json: bool) -> None:
    """Fold the whole log again into fresh read models and compare them with the live ones.

    Works while the service runs and changes nothing. Exit code 70 if they differ. To make the read models anew, stop
    the service, delete views.db in the data directory and start it again.

    \b
    Examples:
      watchtower replay
      watchtower replay --json
    """
    from watchtower.store.rebuild import replay

    settings = context.load().settings
    with tempfile.TemporaryDirectory() as scratch:
        report = replay(Path(settings.event_log_path), Path(settings.views_path), Path(scratch) / "views.db")
    had_views = Path(settings.views_path).exists()
    if as_json:
        emit_json(
            {
                "identical": report.is_identical,
                "compared": had_views,
                "events": report.events,
                "position": report.position,
                "last_id": report.last_id,
                "differing": list(report.differing),
                "digests": report.digests,
            }
        )
    else:
        words = {name: "different" if name in report.differing else "same" for name in report.digests if had_views}
        rows = [(name, digest[:16], words.get(name)) for name, digest in report.digests.items()]
        context.table("read models", ("table", "digest", "live copy"), rows)
        verdict = "identical" if report.is_identical else "DIFFERENT"
        told = verdict if had_views else "no live read models to compare with"
        click.echo(f"{report.events} events replayed; {told}", err=True)
    if not report.is_identical:
        sys.exit(DIFFERENT)
