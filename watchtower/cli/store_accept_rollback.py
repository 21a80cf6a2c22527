"""`watchtower store accept-rollback`: the log is an older copy, and goes on from where it is."""

from __future__ import annotations

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context


@click.command("accept-rollback")
@click.option("--from", "source", default="", help="Where the copy came from, for the log.")
@click.option("--stop-waiting", is_flag=True, help="Do not wait any longer for clients that have not come.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, source: str, stop_waiting: bool, yes: bool, as_json: bool) -> None:
    """Go on with a log that does not reach its high-water mark. Stop the service first.

    The log gets a new epoch, receipts are signed again, and clients upload what is missing by themselves. If the newer
    log still exists, use that one instead: what only it holds has to come from every client.

    \b
    Examples:
      watchtower store accept-rollback --from "backup of Monday"
      watchtower store accept-rollback --stop-waiting --yes
    """
    from watchtower.cli.places import confirm
    from watchtower.continuity import rollback

    settings = context.load().settings
    confirm("Give up what did not come?" if stop_waiting else "Is the newer log lost for good?", yes=yes)
    if stop_waiting:
        missing = rollback.stop_waiting(settings)
        if as_json:
            emit_json({"missing": missing})
        else:
            click.echo(f"nothing is waited for any more; {missing} channels were never compared")
        return
    done = rollback.accept_rollback(settings, source or "accepted by the operator")
    if as_json:
        emit_json(done)
        return
    click.echo(f"epoch {done.epoch} begins behind event {done.position}; the log had reached {done.high_water}")
    click.echo(f"{done.channels} channels wait for their owners; start the service again")
