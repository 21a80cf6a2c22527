"""`watchtower health`: for container checks. Loads as little as can be."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context

NOT_READY, UNREACHABLE = 3, 4


@click.command("health")
@click.option("--ready", is_flag=True, help="Ask whether states can be stored, not only whether it lives.")
@click.option("--watching", is_flag=True, help="Ask whether it watches: a node that is away is a failure, too.")
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=3.0, show_default=True, help="Longest wait.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, ready: bool, watching: bool, seconds: float, as_json: bool) -> None:
    """Ask the running tower for a sign of life. Exit code 0: it answers; 3: it is not ready; 4: nobody answers.

    Restart a tower for 4 only: one that waits for its node is better left alone.

    \b
    Examples:
      watchtower health
      watchtower health --ready
    """
    from watchtower.doctor.asking import TowerAway, ask

    settings = context.load().settings
    try:
        reply = ask(settings, "/readyz" if ready or watching else "/healthz", seconds=seconds)
        document = reply.document()
    except TowerAway as error:
        _tell({"alive": False, "error": str(error)}, f"{error.slug}: {error}", as_json=as_json, code=UNREACHABLE)
    told = document if isinstance(document, dict) else {}
    well = reply.status == 200 and (not watching or told.get("watching") is True)
    sentence = " ".join(f"{name}={value}" for name, value in told.items() if name != "reasons") or str(reply.status)
    _tell(told, sentence, as_json=as_json, code=0 if well else NOT_READY)


def _tell(document: dict[str, object], sentence: str, *, as_json: bool, code: int) -> NoReturn:
    if as_json:
        emit_json(document)
    else:
        click.echo(sentence, err=code != 0)
    sys.exit(code)
