"""Who is told when something happens. Nothing is sent, and targets are not named: their addresses are secrets."""

from __future__ import annotations

from collections.abc import Iterator

from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok, warn
from watchtower.notify.sending import SendFailed
from watchtower.notify.targets import make_targets


def look(case: Case) -> Iterator[Finding]:
    """Findings about `[notify]`. Targets that lack something are refused when the settings are loaded."""
    chosen = case.settings.notify
    targets = {"webhook": chosen.webhook_url, "ntfy": chosen.ntfy_url, "mail": chosen.smtp_url}
    found = [name for name, target in targets.items() if target is not None]
    if not found:
        mend = "set notify.webhook_url, notify.ntfy_url or notify.smtp_url, or watch the alerts of Prometheus"
        yield warn("notifications.targets", "the tower tells nobody about a breach by itself", mend)
        return
    try:
        make_targets(chosen)
    except SendFailed as error:
        yield fail("notifications.targets", str(error), "mend it, or remove it: the tower does not start with this")
        return
    yield ok("notifications.targets", f"{' and '.join(found)}, from severity {chosen.min_severity} on")
