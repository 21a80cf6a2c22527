"""A message as text for a phone or a mail."""

from __future__ import annotations

from watchtower.notify.message import Message

TEXT_MAX = 1_500
"""Characters; ntfy makes an attachment of more than 4,096 bytes, and nobody reads that much at night."""


def plain_text(message: Message, *, link: bool = True) -> str:
    """What happened, whether to act, and where to read on."""
    text = message.text if len(message.text) <= TEXT_MAX else message.text[: TEXT_MAX - 1] + "…"
    lines = [text, "You have to act." if message.act else ""]
    if link and message.runbook_url:
        lines.append(message.runbook_url)
    lines.append(f"{message.network} tower {message.tower[:16]}".strip())
    return "\n".join(line for line in lines if line)
