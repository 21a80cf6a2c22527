"""`watchtower demo`: the whole story on a private chain."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, the story on stderr.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep the data of node and tower here.")
@click.option("--knots-defaults", is_flag=True, help="Run the node with Knots' default policy.")
def command(as_json: bool, keep: Path | None, knots_defaults: bool) -> None:
    """Play six acts on a private regtest node: updates, three breaches, two honest closes.

    Needs no configuration. Finds a bitcoind in $BITCOIND, on the PATH or in the cache, or downloads Debian's. Exit code
    0 only if the node's own chain shows every outcome.

    \b
    Examples:
      watchtower demo
      watchtower demo --json
      watchtower demo --keep ./demo
    """
    from watchtower.demo.play import play

    # The default action of SIGTERM would end this process alone and leave node and tower running; that of SIGINT in a
    # loop cancels the task once, and a wait that ends in the same moment may swallow that.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    sys.exit(0 if play(as_json=as_json, keep=keep, knots_defaults=knots_defaults) else 1)
