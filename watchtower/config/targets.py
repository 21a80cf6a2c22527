"""Addresses that notifications go to: what they must look like, and what is wrong with those that do not.

They are secrets (a topic of ntfy, the path of a webhook, the password of a mail account), so no sentence repeats one.
"""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from watchtower.config.sections import NotifySettings

Encryption = Literal["tls", "starttls", "none"]

SECRET_LENGTH = 16
"""Least characters of the webhook's secret: a shorter one can be guessed from one signed message."""

_MAIL = {"smtps": ("tls", 465), "smtp+starttls": ("starttls", 587), "smtp": ("none", 25)}
_HTTP_FORM = "must look like https://host/path"
_MAIL_FORM = "must look like smtps://user:password@host, smtp+starttls://user:password@host:587 or smtp://localhost"


class HttpAddress(msgspec.Struct, frozen=True):
    """Where to post to. `path` begins with a slash and has the query."""

    tls: bool
    host: str
    port: int
    path: str


class SmtpAddress(msgspec.Struct, frozen=True):
    """A mail server; without a `user` nobody logs in."""

    encryption: Encryption
    host: str
    port: int
    user: str
    password: str


def http_address(text: str) -> HttpAddress:
    """Read a URL; raises ValueError in words that do not repeat it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(_HTTP_FORM) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not _is_plain(text):
        raise ValueError(_HTTP_FORM)
    if "@" in parts.netloc:
        raise ValueError("holds a user; give the token or the secret in its own setting")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpAddress(tls, parts.hostname, port or (443 if tls else 80), path)


def smtp_address(text: str) -> SmtpAddress:
    """Read the address of a mail server; raises ValueError in words that do not repeat it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(_MAIL_FORM) from None
    if parts.scheme not in _MAIL or not parts.hostname or parts.path.strip("/") or parts.query or not _is_plain(text):
        raise ValueError(_MAIL_FORM)
    encryption, usual = _MAIL[parts.scheme]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(user) != bool(password):
        raise ValueError("needs both a user and a password, or none of them")
    if user and encryption == "none" and not is_here(parts.hostname):
        raise ValueError("would send a password unencrypted; write smtps:// or smtp+starttls://")
    return SmtpAddress(encryption, parts.hostname, port or usual, user, password)  # type: ignore[arg-type]


def is_here(host: str) -> bool:
    """True for names and addresses of this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def recipients(settings: NotifySettings) -> tuple[str, ...]:
    """The addresses of `mail_to`."""
    return tuple(part.strip() for part in settings.mail_to.split(",") if part.strip())


def bad_targets(settings: NotifySettings) -> list[str]:
    """Findings that keep a tower from starting, in words."""
    found = []
    for name, value in (("webhook_url", settings.webhook_url), ("ntfy_url", settings.ntfy_url)):
        if value is not None and (problem := _problem(value.reveal())):
            found.append(f"notify.{name} {problem}")
    if settings.webhook_url is not None and settings.webhook_secret is None:
        found.append("notify.webhook_url needs notify.webhook_secret: without it anybody could forge a message")
    if settings.webhook_secret is not None and len(settings.webhook_secret.reveal()) < SECRET_LENGTH:
        found.append(f"notify.webhook_secret is too short; make one of at least {SECRET_LENGTH} random characters")
    if settings.ntfy_token is not None and not _is_plain(settings.ntfy_token.reveal()):
        found.append("notify.ntfy_token holds blanks or other characters that no token has")
    if settings.ntfy_url is not None and not found and http_address(settings.ntfy_url.reveal()).path.strip("/") == "":
        found.append("notify.ntfy_url names no topic; write https://host/topic")
    return found + _bad_mail(settings)


def doubtful_targets(settings: NotifySettings) -> list[str]:
    """Warnings about settings that can be used; call it when there are no findings."""
    warned = []
    for name, value in (("webhook_url", settings.webhook_url), ("ntfy_url", settings.ntfy_url)):
        if value is None:
            continue
        address = http_address(value.reveal())
        if not (address.tls or is_here(address.host) or address.host.endswith(".onion")):
            warned.append(f"notify.{name} is not https: whoever is on the way can read what the tower says")
    if settings.smtp_url is not None:
        server = smtp_address(settings.smtp_url.reveal())
        if server.encryption == "none" and not is_here(server.host):
            warned.append("notify.smtp_url is not encrypted: whoever is on the way can read what the tower says")
    return warned


def _problem(text: str) -> str:
    try:
        http_address(text)
    except ValueError as error:
        return str(error)
    return ""


def _bad_mail(settings: NotifySettings) -> list[str]:
    if settings.smtp_url is None:
        return []
    found = []
    try:
        smtp_address(settings.smtp_url.reveal())
    except ValueError as error:
        found.append(f"notify.smtp_url {error}")
    if not settings.mail_from or not settings.mail_to:
        found.append("notify.smtp_url needs notify.mail_from and notify.mail_to")
    for name, addresses in (("mail_from", (settings.mail_from,)), ("mail_to", recipients(settings))):
        bad = [text for text in addresses if text and not _is_mail_address(text)]
        found += [f"notify.{name}: {text!r} is no mail address; write name@host" for text in bad]
    return found


def _is_mail_address(text: str) -> bool:
    name, at, host = text.rpartition("@")
    return bool(name and at and host) and _is_plain(text) and not set(text) & set('<>,;:"()[]\\')


def _is_plain(text: str) -> bool:
    """Nothing that could end a line of a request or a mail."""
    return all("!" <= character <= "~" for character in text)
