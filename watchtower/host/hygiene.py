"""What the process can do for its secrets: private files and directories, no memory image on disk.

Not promised: memory is not locked against swapping, and Python keeps copies of `bytes` and `str` that nobody can
wipe. Whoever may read this process's memory reads its keys.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from watchtower.ports import WatchtowerError

PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
"""Numbers of prctl(2)."""


class Exposed(WatchtowerError):
    """A file or directory with secrets can be opened by others than its owner."""

    slug: ClassVar[str] = "exposed"


def forbid_core_dumps() -> bool:
    """No core file, and no other program of this user may read the memory; returns whether both took effect.

    The limit of core files is 0 for good. Being dumpable is a notion of Linux; elsewhere only the limit is set.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)


def is_dumpable() -> bool:
    """Whether a core dump of this process could be made (Linux)."""
    return bool(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)


OPERATOR_CONNECTIONS = 16
OWN_FILES = 40 + OPERATOR_CONNECTIONS
"""Files and sockets that the tower itself needs at the worst moment: log, views, node, notifications, operator."""

LEAST_CONNECTIONS = 8


def room_for_connections(wanted: int) -> int:
    """How many of `wanted` connections the limit of open files allows beside the tower's own files.

    The limit is raised as far as the system allows. Without this bound strangers could take the last descriptor, and
    the tower could not reach its node any more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OWN_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    raised = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    if raised > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return max(LEAST_CONNECTIONS, min(wanted, max(soft, raised) - OWN_FILES))


PRIVATE_FILES = (
    "events.db",
    "copy.db",
    "views.db",
    "notify.db",
    "tower.key",
    "api.token",
    "access.json",
    "keystore.passphrase",
    "config.toml",
)
"""Files of the data directory that nobody else may open; the keystore looks after its own."""


def exposed(directory: Path, names: Iterable[str]) -> Iterator[tuple[Path, int, int]]:
    """Path, mode and wanted mode of everything that others may open, the directory first; raises `Exposed`.

    A file that does not exist is no finding: the part that needs it says so.
    """
    for path, wanted in ((directory, 0o700), *((directory / name, 0o600) for name in names)):
        try:
            found = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Exposed(
                f"{path} cannot be looked at ({error.strerror}); it must belong to the user of this program"
            ) from None
        if found & 0o077:
            yield path, found, wanted


def give_to_owner(descriptor: int, directory: Path) -> None:
    """Give a file that root made the owner of the directory in which it lies.

    Commands that root gave would otherwise leave files that the service, which has a user of its own, cannot open: a
    list of tokens of root's shuts everybody out. Raises OSError.
    """
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def require_private(directory: Path, names: Iterable[str]) -> None:
    """Raise `Exposed`, with the command that mends it, unless the directory and these files in it are the owner's."""
    for path, found, wanted in exposed(directory, names):
        raise Exposed(f"{path} may be opened by others (mode {found:04o}); run: chmod {wanted:o} {path}")
