"""What travels over a link: the messages of the parties, and the link's own refusal.

A party answers an offer with `update_reject`; everything else that it refuses would leave the peer waiting. The
link says so with `refused`, which changes nothing in any channel and is never answered.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from domain.errors import DomainError, MalformedInput
from watchtower.client.protocol.messages import MAX_MESSAGE, AnyMessage, Message, encode_message
from watchtower.wire.hexes import Hex32, decoder, readable

Slug = Annotated[str, Meta(pattern=r"^[a-z-]{1,40}$")]


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """The sender did not take a message of type `about`; `slug` and `reason` are those of its error."""

    about: Slug
    slug: Slug
    reason: Annotated[str, Meta(max_length=400)]


AnyLinkMessage = AnyMessage | Refused

_decoder = decoder(AnyLinkMessage)


def refused(message: Message, error: DomainError) -> Refused:
    """The answer to a message that the own party refuses."""
    about = kind_of(message).replace("_", "-")
    return Refused(channel_id=Hex32(message.channel_id), about=about, slug=error.slug, reason=str(error)[:400])


def kind_of(message: Message) -> str:
    """The wire name of a message."""
    return str(message.__struct_config__.tag)


def encode(message: Message) -> bytes:
    """The JSON bytes of a message."""
    return encode_message(message)


def decode(raw: bytes) -> AnyLinkMessage:
    """Read a message; `MalformedInput` if it is too long, unknown or has a wrong field."""
    if len(raw) > MAX_MESSAGE:
        raise MalformedInput(f"a message has at most {MAX_MESSAGE} bytes, got {len(raw)}")
    try:
        message: AnyLinkMessage = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedInput(readable(error)) from None
    return message
