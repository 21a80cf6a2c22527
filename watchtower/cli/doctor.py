"""`watchtower doctor`: what could keep this tower from watching, and how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NoReturn

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context, printable

if TYPE_CHECKING:
    from watchtower.doctor.finding import Diagnosis, Finding

MARKS = {"ok": ("ok  ", "green"), "warn": ("WARN", "yellow"), "fail": ("FAIL", "red")}


@click.command("doctor")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3_600),
    default=10.0,
    show_default=True,
    help="How long notifications of the node are waited for.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, seconds: float, as_json: bool) -> None:
    """Examine configuration, node, notifications, rights, clock, disk, log, backups, keys and listeners.

    Changes nothing and takes no lock: it may run beside the tower. Every finding says how to mend it. Exit code 0: all
    is well, or there are warnings only; 3: something keeps the tower from watching; 2: the configuration cannot be
    used; 4: the node cannot be reached. `watchtower check` is the same.

    \b
    Examples:
      watchtower doctor
      watchtower doctor --seconds 60
      watchtower --config ./tower/config.toml doctor --json
    """
    from watchtower.config import ConfigError
    from watchtower.doctor.case import open_case
    from watchtower.doctor.configuration import refused
    from watchtower.doctor.examine import examine

    try:
        loaded = context.load()
    except ConfigError as error:
        tell(context, refused(error), as_json=as_json)
    tell(context, examine(open_case(loaded, seconds=seconds)), as_json=as_json)


VERDICTS = {
    0: "nothing keeps this tower from watching",
    2: "the configuration cannot be used",
    3: "something keeps this tower from watching",
    4: "the node or the database server cannot be reached",
}
"""What an exit code of the doctor means."""


def tell(
    context: Context, findings: Iterable[Finding], *, as_json: bool, verdicts: Mapping[int, str] = VERDICTS
) -> NoReturn:
    """Every finding as soon as it is known, then the sum; ends the program with the exit code."""
    from watchtower.doctor.finding import Diagnosis

    kept, group = [], ""
    for finding in findings:
        kept.append(finding)
        if as_json:
            continue
        if finding.group != group:
            group = finding.group
            click.echo(("\n" if len(kept) > 1 else "") + group.replace("_", " "))
        _tell_one(context, finding)
    diagnosis = Diagnosis(tuple(kept))
    if as_json:
        emit_json(diagnosis.document())
    else:
        click.echo("\n" + _sum(diagnosis, verdicts))
    sys.exit(diagnosis.exit_code)


def _tell_one(context: Context, finding: Finding) -> None:
    mark, color = MARKS[finding.level]
    shown = mark if context.no_color else click.style(mark, fg=color)
    click.echo(f"  {shown}  {printable(finding.what)}")
    if finding.mend:
        click.echo(f"        -> {printable(finding.mend)}")


def _sum(diagnosis: Diagnosis, verdicts: Mapping[int, str]) -> str:
    levels = [finding.level for finding in diagnosis.findings]
    counted = f"{levels.count('ok')} well, {levels.count('warn')} warnings, {levels.count('fail')} failures"
    return f"{counted}: {verdicts[diagnosis.exit_code]}"
