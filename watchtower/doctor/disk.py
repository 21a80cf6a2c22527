"""The disk of the data directory: space, kind of file system, and whether a commit really reaches it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec

from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok, warn

MEGABYTE = 1 << 20
NETWORK = frozenset(("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "beegfs"))
FUSE = "fuse."
"""File systems of programs: sshfs, s3fs, and what else there is; none of them keeps SQLite's promises for sure."""

VOLATILE = frozenset(("tmpfs", "ramfs"))
LAYERED = frozenset(("overlay", "aufs"))
WITHOUT_BARRIER = frozenset(("nobarrier", "barrier=0"))

TRIES = 5
TOO_FAST = 15e-6
"""Seconds: no disk has kept anything after so short a time; somebody answers for it."""

TOO_SLOW = 0.5
"""Seconds: each state that a client sends waits for one of these."""


class Mount(msgspec.Struct, frozen=True):
    """Where a directory is: the mount point, the kind of file system, and its options."""

    point: str
    kind: str
    options: frozenset[str]


def look(case: Case) -> Iterator[Finding]:
    """Findings about the disk of `data_dir`, and of the log if that is elsewhere."""
    directory = case.log_path.parent
    if not directory.is_dir():
        yield fail("disk.directory", f"{directory} does not exist", "run `watchtower init`, or set data_dir")
        return
    yield _space(case, directory)
    mount = mount_of(directory.resolve(), case.mounts())
    if mount is not None:
        yield _kind(mount)
        if mount.options & WITHOUT_BARRIER:
            what = f"{mount.point} is mounted without write barriers: a power cut can lose what was acknowledged"
            yield warn("disk.barriers", what, "mount it without nobarrier")
    yield _syncing(directory)


def _space(case: Case, directory: Path) -> Finding:
    store, free = case.settings.store, shutil.disk_usage(directory).free // MEGABYTE
    mend = f"free some space on the disk of {directory}, or move data_dir to a larger one"
    if free < store.reserve_mb:
        return fail("disk.space", f"{free} MiB are free: states will be refused", mend)
    if free < store.low_space_mb:
        return warn("disk.space", f"{free} MiB are free, less than store.low_space_mb ({store.low_space_mb})", mend)
    return ok("disk.space", f"{free} MiB are free")


def _kind(mount: Mount) -> Finding:
    if mount.kind in NETWORK or mount.kind.startswith(FUSE):
        mend = "keep the log on a disk of this machine, or on PostgreSQL: locks and syncs over a network are not sure"
        return warn("disk.filesystem", f"{mount.kind} at {mount.point} is a network file system", mend)
    if mount.kind in VOLATILE:
        mend = "move data_dir to a disk: everything is lost with the next restart of the machine"
        return warn("disk.filesystem", f"{mount.kind} at {mount.point} is memory", mend)
    if mount.kind in LAYERED:
        mend = "mount a volume at data_dir, unless this container is never replaced"
        return warn("disk.filesystem", f"{mount.kind} at {mount.point} goes with its container", mend)
    return ok("disk.filesystem", f"{mount.kind} at {mount.point}")


def _syncing(directory: Path) -> Finding:
    try:
        seconds = sync_seconds(directory)
    except OSError as error:
        mend = "let the user of the tower write there; mount it read-write"
        return fail("disk.sync", f"{directory} cannot be written: {error.strerror}", mend)
    shown = f"a write is on the disk after {seconds * 1e3:.2f} ms"
    if seconds < TOO_FAST:
        mend = "look for a cache that answers for the disk, or an option like libeatmydata or eatmydata"
        return warn("disk.sync", f"{shown}: no disk is that fast", mend)
    if seconds > TOO_SLOW:
        return warn("disk.sync", f"{shown}: each update waits for one", "use a faster disk, or see what else loads it")
    return ok("disk.sync", shown)


def sync_seconds(directory: Path) -> float:
    """The median time of `fsync` after a small write, in a file that exists for this measurement; raises `OSError`."""
    times = []
    with tempfile.TemporaryFile(dir=directory, prefix="doctor-") as file:
        for _ in range(TRIES):
            file.write(os.urandom(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times)


def mount_of(directory: Path, mounts: str) -> Mount | None:
    """Where a directory is mounted, from the text of /proc/self/mountinfo; None if that does not say."""
    found: Mount | None = None
    for line in mounts.splitlines():
        left, separator, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if not separator or len(fields) < 6 or len(kind) < 3:
            continue
        point = fields[4].encode().decode("unicode_escape")  # a blank in a path is written \040
        if directory.is_relative_to(point) and (found is None or len(point) >= len(found.point)):
            found = Mount(point, kind[0], frozenset(fields[5].split(",")) | frozenset(kind[2].split(",")))
    return found
