"""Where the runbook is: the one base of the links in alerts and notifications."""

from __future__ import annotations

RUNBOOK = "https://github.com/state-channel-watchtower/state-channel-watchtower/blob/main/docs/runbook.md"


def runbook_url(alert: str) -> str:
    """The section of an alert, for example `WatchtowerBreachOpen`."""
    return f"{RUNBOOK}#{alert.lower()}"
