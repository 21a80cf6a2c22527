"""`watchtower chain`: decisions about the chain that the tower leaves to a person."""

from __future__ import annotations

import click

from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context


@click.group("chain", cls=Group)
def command() -> None:
    """Decide about the chain when the tower waits for a person. Stop the tower first."""


@command.command("rescan")
@click.option("--from", "first", type=click.IntRange(min=0), help="First height. Default: the oldest open channel.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def rescan(context: Context, first: int | None, as_json: bool) -> None:
    """Go to the node's tip, however many blocks that undoes, and read all blocks of open channels again.

    For `cursor_unknown` (a reorganization deeper than the tower undoes by itself) and `audit_mismatch`. Facts that the
    log knows are not written again, so this may be repeated. The node must have all these blocks.

    \b
    Examples:
      watchtower chain rescan
      watchtower chain rescan --from 840000
    """
    from watchtower.repair import opened

    with opened(context.load().settings) as repair:
        connected, undone = repair.follow()
        report = repair.rescan.run(first)
    if as_json:
        emit_json(
            {
                "connected": connected,
                "undone": undone,
                "first": report.first,
                "last": report.last,
                "missing": report.missing,
            }
        )
        return
    click.echo(f"{undone} blocks undone, {connected} connected; the tower is at height {report.last}")
    if report.first is None:
        click.echo("no open channel: no block was read again")
    else:
        click.echo(f"read again from {report.first} to {report.last}: {report.missing} facts were missing")


@command.command("accept")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def accept(context: Context, as_json: bool) -> None:
    """Take the node's chain although the tower has seen one with more work.

    For `node_behind` that does not end by itself. Look at other nodes first: if the network is on the chain with more
    work, repair the node instead. The blocks that the node does not have are undone, then the tower follows it.

    \b
    Example:
      watchtower chain accept
    """
    from watchtower.repair import opened

    with opened(context.load().settings) as repair:
        undone = repair.follower.step_back()
        connected, more = repair.follow()
        height = repair.follower.cursor.height
    if as_json:
        emit_json({"undone": undone + more, "connected": connected, "height": height})
        return
    click.echo(f"{undone + more} blocks undone, {connected} connected; the tower is at height {height}")
