"""The command `watchtower`: one verb per file, loaded when it is used.

Exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 not ready (the log is locked by another instance or fails a
check), 4 the node or service cannot be reached, 70 the read models do not follow from the log, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

import watchtower
from domain.errors import DomainError, UnknownPoint
from watchtower.cli.output import Context, LazyGroup, printable
from watchtower.config import ConfigError
from watchtower.host.hygiene import forbid_core_dumps
from watchtower.party.faults import CallFailed
from watchtower.ports import NodeUnavailable, StoreLocked, WatchtowerError

VERBS = (
    "init",
    "run",
    "doctor",
    "health",
    "status",
    "top",
    "info",
    "demo",
    "party",
    "channel",
    "htlc",
    "proof",
    "tx",
    "breach",
    "events",
    "client",
    "token",
    "keys",
    "api",
    "chain",
    "store",
    "audit",
    "replay",
    "notify",
    "config",
    "version",
)


INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal."""

ALIASES = {"check": "doctor", "simulate": "demo"}
"""Second names of verbs; lists of commands leave them out."""


class _Verbs(LazyGroup):
    """Imports a verb only when it is asked for: `channel list` must not pay for the web server."""

    package, verbs = "watchtower.cli.", VERBS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name or second name, or None."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb. Ctrl-C is how many of them end: without words, with the code that a signal has."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings: --config FILE or STATE_CHANNEL_* variables; `watchtower config example` lists all.",
)
@click.option("--config", "config_path", type=click.Path(dir_okay=False), help="Configuration file (TOML).")
@click.option("-v", "--verbose", is_flag=True, help="Log details (level debug).")
@click.option("--no-color", is_flag=True, help="No colors; NO_COLOR does the same.")
@click.version_option(watchtower.__version__, prog_name="watchtower")
@click.pass_context
def _main(ctx: click.Context, config_path: str | None, verbose: bool, no_color: bool) -> None:
    """Watch Bitcoin state channels and answer every revoked closure with a penalty.

    \b
    Begin with:
      watchtower demo          six acts on a private chain; needs no configuration
      watchtower init          make a tower of your own
      watchtower run           watch
    """
    ctx.obj = Context(config_path, verbose, no_color or bool(os.environ.get("NO_COLOR")))


def main() -> None:
    """The console script: runs the verb and turns typed errors into a sentence and an exit code.

    Verbs may hold keys, passphrases and tokens: whichever it is leaves no core file.
    """
    forbid_core_dumps()
    try:
        _main.main(prog_name="watchtower", standalone_mode=True)
    except ConfigError as error:
        for finding in error.findings:
            click.echo(f"configuration: {finding}", err=True)
        sys.exit(2)
    except CallFailed as error:
        click.echo(printable(f"{error.fault.slug}: {error.fault.text}"), err=True)
        sys.exit(error.fault.exit_code)
    except (WatchtowerError, DomainError) as error:
        click.echo(f"{error.slug}: {error}", err=True)
        sys.exit(_exit_code(error))
    except OSError as error:
        # A service logs what nobody foresaw in its own way; and what is about no file is a fault of this program.
        if error.filename is None or sys.excepthook is not sys.__excepthook__:
            raise
        click.echo(printable(f"file-error: {error.filename}: {error.strerror}"), err=True)
        sys.exit(1)


def _exit_code(error: WatchtowerError | DomainError) -> int:
    from watchtower.store.errors import StoreCheckFailed  # the event library: not for a command that goes well

    if isinstance(error, UnknownPoint):
        return 2
    if isinstance(error, StoreLocked | StoreCheckFailed):
        return 3
    return 4 if isinstance(error, NodeUnavailable) else 1


__all__ = ["VERBS", "main"]
