"""Amounts as a program gives them. Python keeps no fraction out, so it is refused before anything is built or sent."""

from __future__ import annotations

from domain.errors import MalformedInput


def require_whole(name: str, *amounts: object) -> None:
    """Raise `MalformedInput` unless all are whole satoshi; `5.0` is not, for it equals 5 but has no bytes."""
    for amount in amounts:
        if type(amount) is not int:
            raise MalformedInput(f"{name}: whole satoshi as int, got {amount!r:.80}")
