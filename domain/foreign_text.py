"""Texts of somebody else (a peer, an application) on their way into errors, logs and terminals."""

from __future__ import annotations

MARK = "?"
"""Stands for a character that is none, or that could steer a terminal or begin a new line of a log."""


def one_line(text: str, most: int) -> str:
    """The first `most` characters, those that cannot be printed as `MARK`; a lone surrogate is among them."""
    return "".join(letter if letter.isprintable() else MARK for letter in text[:most])
