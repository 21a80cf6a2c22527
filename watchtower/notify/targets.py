"""From the settings to the ways to people."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from watchtower.config import NotifySettings
from watchtower.config.targets import http_address, recipients, smtp_address
from watchtower.notify.mail import Mail
from watchtower.notify.ntfy import Ntfy
from watchtower.notify.sending import Target, trust
from watchtower.notify.webhook import Webhook


def make_targets(settings: NotifySettings, now: Callable[[], float] = time.time) -> list[Target]:
    """One per configured way, none without settings. Raises `SendFailed` if the authorities cannot be read."""
    chosen = (settings.webhook_url, settings.ntfy_url, settings.smtp_url)
    if all(value is None for value in chosen):
        return []
    context: ssl.SSLContext = trust(settings.ca_path)
    targets: list[Target] = []
    if settings.webhook_url is not None and settings.webhook_secret is not None:
        address = http_address(settings.webhook_url.reveal())
        targets.append(Webhook(address, settings.webhook_secret, context, now))
    if settings.ntfy_url is not None:
        targets.append(Ntfy(http_address(settings.ntfy_url.reveal()), settings.ntfy_token, context))
    if settings.smtp_url is not None:
        server = smtp_address(settings.smtp_url.reveal())
        targets.append(Mail(server, settings.mail_from, recipients(settings), context))
    return targets
