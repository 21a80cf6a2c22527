"""From the settings to the ways to people."""

from __future__ import annotations

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
    hook, topic, server = settings.webhook_url, settings.ntfy_url, settings.smtp_url
    http = [http_address(url.reveal()) for url in (hook, topic) if url is not None]
    mail = None if server is None else smtp_address(server.reveal())
    # Reading the authorities of the system takes a tenth of a second, so it is done once and only if it is needed.
    encrypted = any(address.tls for address in http) or (mail is not None and mail.encryption != "none")
    context = trust(settings.ca_path) if encrypted else None
    targets: list[Target] = []
    if hook is not None and settings.webhook_secret is not None:
        targets.append(Webhook(http[0], settings.webhook_secret, context, now))
    if topic is not None:
        targets.append(Ntfy(http[-1], settings.ntfy_token, context))
    if mail is not None:
        targets.append(Mail(mail, settings.mail_from, recipients(settings), context))
    return targets
