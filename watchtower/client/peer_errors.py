"""What can go wrong between two parties, apart from the refusals of the protocol itself.

StateChannelError
└── PeerError
    ├── PeerUnreachable     nobody answers at the address, or another program than the one that was asked for
    ├── PeerNotAllowed      one of both sides does not want to talk with the other's key
    ├── TransportClosed     the connection ended; dial again, then `PeerLink.reconnect`
    ├── PeerSilent          no answer within timeout_ms; the same call may be repeated
    ├── PeerRefused         the peer says no, with its reason
    └── Overtaken           the peer completed another state under the number that was offered
"""

from __future__ import annotations

from domain.foreign_text import one_line
from watchtower.client.errors import StateChannelError


class PeerError(StateChannelError):
    """Base of everything that concerns the other party."""


class PeerUnreachable(PeerError):
    """No connection to the address, or the program there does not hold the expected key."""


class PeerNotAllowed(PeerError):
    """The other side refused this key."""


class TransportClosed(PeerError):
    """The connection ended. Messages that the other side had not received by then are lost."""


class PeerSilent(PeerError):
    """The call did not end within `timeout_ms`. Repeating the same call is harmless.

    `may_be_signed` = the peer may have this side's signatures for the next state: repeat the same call to finish it, or
    close the channel; no other content can become that state (rule U5). False: the channel stands where it stood.
    """

    def __init__(self, sentence: str, *, may_be_signed: bool = False) -> None:
        super().__init__(sentence)
        self.may_be_signed = may_be_signed


class PeerRefused(PeerError):
    """The peer refused; `reason` is its own text, in printable characters, and `slug` the kind; both are untrusted.

    `advice` is this side's: what is left if the refused state is bound by own signatures already.
    """

    def __init__(self, reason: str, slug: str = "", advice: str = "") -> None:
        self.reason = one_line(reason, len(reason))
        super().__init__(f"the peer refuses: {self.reason}" + (f". {advice}" if advice else ""))
        self.slug = slug


class Overtaken(PeerError):
    """The peer made the next state first, with other content. Look at the channel and decide again."""
