"""Mails through a server, encrypted from the start, after STARTTLS, or not at all on this host."""

from __future__ import annotations

import smtplib
import socket
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate

import structlog

from watchtower.config.targets import SmtpAddress
from watchtower.notify.message import Message
from watchtower.notify.sending import SendFailed, Transport, connect, sending
from watchtower.notify.words import plain_text

_log = structlog.get_logger(__name__)

GREETING = 220
"""What a mail server says first."""


class Mail:
    """One mail per message to all recipients. The Message-ID stays the same when a mail is sent again."""

    transport: Transport = "email"

    def __init__(
        self, server: SmtpAddress, sender: str, recipients: tuple[str, ...], context: ssl.SSLContext | None
    ) -> None:
        self._server, self._sender, self._recipients, self._context = server, sender, recipients, context

    def send(self, message: Message, body: bytes) -> None:
        """Hand the mail to the server; raises `SendFailed`."""
        del body
        held: list[socket.socket] = []
        client = smtplib.SMTP(local_hostname=socket.gethostname())
        try:
            with sending(held):
                self._deliver(client, held, self._mail(message))
        finally:
            client.close()
            for sock in held:
                sock.close()

    def _deliver(self, client: smtplib.SMTP, held: list[socket.socket], mail: EmailMessage) -> None:
        server = self._server
        assert self._context is not None or server.encryption == "none"  # smtplib would trust anybody
        client.sock = connect(server.host, server.port, self._context if server.encryption == "tls" else None, held)
        client._host = server.host  # type: ignore[attr-defined] # the name that STARTTLS checks the certificate for
        try:
            code, _ = client.getreply()
            if code != GREETING:
                raise SendFailed(f"the mail server greets with {code}")
            if server.encryption == "starttls":
                client.starttls(context=self._context)
            if server.user:
                client.login(server.user, server.password)
            refused = client.send_message(mail)
        except smtplib.SMTPException as error:
            raise _refusal(error) from None
        if refused:
            # The others have it; to send it again would tell them twice.
            _log.warning("notification_failed", transport="email", reason=f"{len(refused)} recipients are refused")
        with suppress(smtplib.SMTPException):
            client.quit()

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        urgency = "" if message.status == "ends" else f"[{message.severity}] "
        mail["Subject"] = urgency + message.title
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._recipients)
        mail["Date"] = formatdate(message.created_at)
        mail["Message-ID"] = f"<{message.id}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        if message.severity == "page" and message.status != "ends":
            mail["X-Priority"] = "1"
        mail.set_content(plain_text(message) + "\n")
        return mail


def _refusal(error: smtplib.SMTPException) -> SendFailed:
    """What the server's refusal means; its own words may repeat what it was sent, so only the number is told."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return SendFailed("the mail server refuses user or password")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return SendFailed("the mail server refuses all recipients")
    if isinstance(error, smtplib.SMTPSenderRefused):
        return SendFailed(f"the mail server refuses the sender ({error.smtp_code})")
    if isinstance(error, smtplib.SMTPDataError):
        return SendFailed(f"the mail server refuses the mail ({error.smtp_code})", about_message=error.smtp_code >= 500)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return SendFailed("the mail server has no STARTTLS, or no login")
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return SendFailed("the mail server ended the connection")
    return SendFailed(f"the mail server refuses ({type(error).__name__})")
