"""`watchtower store migrate`: make or update the schema of the database that keeps the log."""

from __future__ import annotations

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context


@click.command("migrate")
@click.option("--url", help="Address with the owner's user. Default: store.url, whose user may only append.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, url: str | None, as_json: bool) -> None:
    """Make the roles, tables and triggers of an event log on PostgreSQL, or bring them to this version.

    Everything happens in one transaction, as a user who may make roles and a schema (the owner of the database). The
    tower itself uses another user, a member of wt_app, who can only append and read. A log in a file needs no
    migration: then only its schema number is checked. Doing it twice changes nothing.

    \b
    Examples:
      watchtower store migrate --url postgresql://owner@db.example/watchtower
      watchtower store migrate
    """
    from watchtower.store.ends import SERVER, end_of, log_url

    address = url or log_url(context.load().settings)
    if address.startswith(SERVER):
        from watchtower.store.postgres.migrate import migrate

        done = migrate(address)
        before, after, applied, roles = done.before, done.after, list(done.applied), list(done.roles)
    else:
        before = after = end_of(address).meta().schema
        applied, roles = [], []
    if as_json:
        emit_json({"before": before, "after": after, "applied": applied, "roles": roles})
    elif applied:
        click.echo(f"schema {after} is in place{'; made the roles ' + ', '.join(roles) if roles else ''}")
    else:
        click.echo(f"nothing to do: the log has schema {after}")
