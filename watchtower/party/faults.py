"""What went wrong with a call, in a form that can cross a socket and end a command."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from watchtower.ports import WatchtowerError

FAILED, USAGE, NOT_READY, UNREACHABLE = 1, 2, 3, 4
"""Exit codes of commands."""


class Fault(msgspec.Struct, frozen=True):
    """Kind of the failure, a sentence about it, and the exit code of the command that hears it."""

    slug: str
    text: str
    exit_code: int = FAILED


class CallFailed(WatchtowerError):
    """A call to a party or tower failed; `fault` says how."""

    slug: ClassVar[str] = "call-failed"

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault
