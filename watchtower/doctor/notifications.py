"""Who is told when something happens. Nothing is sent: that is what `watchtower notify` is for."""

from __future__ import annotations

from collections.abc import Iterator

from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, ok, warn


def look(case: Case) -> Iterator[Finding]:
    """Findings about `[notify]`."""
    chosen = case.settings.notify
    targets = {"webhook": chosen.webhook_url, "ntfy": chosen.ntfy_url, "mail": chosen.smtp_url}
    found = [name for name, target in targets.items() if target is not None]
    if not found:
        mend = "set notify.webhook_url, notify.ntfy_url or notify.smtp_url, or watch the alerts of Prometheus"
        yield warn("notifications.targets", "the tower tells nobody about a breach by itself", mend)
    else:
        yield ok("notifications.targets", f"{' and '.join(found)}, from severity {chosen.min_severity} on")
    if chosen.webhook_url is not None and chosen.webhook_secret is None:
        what = "messages to the webhook are not signed: who knows its address can make up breaches"
        yield warn("notifications.signature", what, "set notify.webhook_secret")
    if chosen.smtp_url is not None and not (chosen.mail_from and chosen.mail_to):
        yield warn(
            "notifications.mail",
            "a mail server is set, but no sender or no receiver",
            "set notify.mail_from and notify.mail_to",
        )
