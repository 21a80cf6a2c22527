"""Whether a party's directory is the one that it was, or a copy of it.

A copied log may be an old one: whoever publishes from it can lose the channel. The file `place` names the inode of
the log at its last use, and how far it had come. A copy, by whatever tool, has the old name and a new inode, or no such
file; an old log that was written over the newer one is shorter. What cannot be noticed is a whole file system that was
set back, as with snapshots of virtual machines, or a directory whose files were all overwritten by older ones.
"""

from __future__ import annotations

import os
from pathlib import Path

PLACE_NAME = "place"


def is_copy(log: Path, last_id: int) -> bool:
    """Whether the log with this last event was used elsewhere last, or was longer, or nobody knows where it was.

    A new home gets its place when it is made.
    """
    try:
        inode, known = (log.parent / PLACE_NAME).read_text("ascii").split()
        return inode != _inode(log) or int(known) > last_id
    except (FileNotFoundError, ValueError):
        return True


def write_place(log: Path, last_id: int) -> None:
    """Remember where the log is, durably and in one step; after the party knows what follows from the last place."""
    fresh = log.parent / f"{PLACE_NAME}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{_inode(log)} {last_id}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(log.parent / PLACE_NAME)


def _inode(log: Path) -> str:
    # The device number is left out: it may change with every start of the machine.
    return str(log.stat().st_ino)
