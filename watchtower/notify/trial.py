"""One message to each target, at once and without a second try: what `watchtower notify test` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from watchtower.notify.message import Message, Sender, encode, trial_message
from watchtower.notify.sending import SendFailed, Target


class Trial(msgspec.Struct, frozen=True):
    """What became of one message; `reason` is empty if the target took it."""

    transport: str
    sent: bool
    seconds: float
    reason: str = ""


def try_targets(targets: Sequence[Target], sender: Sender, now: int) -> list[Trial]:
    """Send to all targets side by side; in their order. `now` is Unix time in seconds."""
    if not targets:
        return []
    message = trial_message(sender, now)
    with ThreadPoolExecutor(len(targets)) as pool:
        return list(pool.map(lambda target: _try(target, message), targets))


def _try(target: Target, message: Message) -> Trial:
    began = time.monotonic()
    try:
        target.send(message, encode(message))
    except SendFailed as error:
        return Trial(target.transport, sent=False, seconds=round(time.monotonic() - began, 3), reason=str(error))
    return Trial(target.transport, sent=True, seconds=round(time.monotonic() - began, 3))
