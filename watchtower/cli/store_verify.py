"""`watchtower store verify`: is the database whole, and its end as it was committed?"""

from __future__ import annotations

from pathlib import Path

import click

from watchtower.cli import audit_verify
from watchtower.cli.output import Context, config_option, pass_context

TAIL = 10_000


@click.command("verify")
@click.option("--tail", type=click.IntRange(min=1), default=TAIL, show_default=True, help="Events that are checked.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@config_option
@pass_context
@click.pass_context
def command(ctx: click.Context, context: Context, tail: int, as_json: bool) -> None:
    """The database's own check, the last events against the commit chain, and the high-water file.

    Reads only; works beside a running tower. `watchtower audit verify` looks at everything; the exit codes are its.

    \b
    Examples:
      watchtower store verify
      watchtower store verify --tail 100000 --json
    """
    mark = Path(context.load().settings.high_water_path)
    ctx.invoke(
        audit_verify.command,
        tail=tail,
        known=(mark,) if mark.exists() else (),
        storage_check=True,
        as_json=as_json,
    )
