"""`watchtower notify`: do messages arrive?"""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context


@click.group("notify", cls=Group)
def command() -> None:
    """Messages of the tower itself, by webhook, ntfy and mail."""


@command.command("test")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def test(context: Context, as_json: bool) -> None:
    """Send a test message to each configured target and say what became of it.

    It needs neither a node nor a running tower. Exit code 1 if a target did not take it, 2 if none is configured.

    \b
    Examples:
      watchtower notify test
      watchtower notify test --json
    """
    from watchtower.notify.message import Sender
    from watchtower.notify.targets import make_targets
    from watchtower.notify.trial import try_targets

    settings = context.load().settings
    targets = make_targets(settings.notify)
    results = try_targets(targets, Sender("", settings.network), int(time.time()))
    found: list[dict[str, Any]] = [
        {"transport": one.transport, "sent": one.sent, "seconds": one.seconds, "reason": one.reason} for one in results
    ]
    if as_json:
        emit_json({"targets": found})
    elif results:
        rows = [
            (one.transport, "sent" if one.sent else "failed", f"{one.seconds:.2f} s", one.reason) for one in results
        ]
        context.table("notifications", ("transport", "result", "time", "reason"), rows)
    if not results:
        click.echo("notify: no target is set; set notify.webhook_url, notify.ntfy_url or notify.smtp_url", err=True)
        sys.exit(2)
    sys.exit(0 if all(one.sent for one in results) else 1)
