"""What can go wrong with a payment as a whole."""

from __future__ import annotations

from watchtower.client.errors import StateChannelError


class PaymentFailed(StateChannelError):
    """The payment ended without a preimage: what was offered came back. The text has the reason."""


class SwapRefused(StateChannelError):
    """The legs of a swap would not be safe; nothing was offered."""
