"""Where bitcoind comes from: `$BITCOIND`, then PATH, then a cache, then Debian's signed archive.

One function, `find`, serves the tests, the demo and `python -m watchtower.devnode`. A wrong `$BITCOIND` is an
error and never a fall-through. Parallel callers share one download.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import msgspec

from watchtower.devnode import debian
from watchtower.ports import WatchtowerError

PACKAGES = ("bitcoin-knots", "systemd-standalone-sysusers")
"""The node, and the small alternative to systemd that its package accepts as a dependency."""

OLDEST_MAJOR = 28
"""Version-3 relay, pay-to-anchor and packages of one parent and one child came with Bitcoin Core 28."""


class NodeNotFound(WatchtowerError):
    """No usable bitcoind; the text says why and what the three ways out are."""

    slug: ClassVar[str] = "node-not-found"


class Found(msgspec.Struct, frozen=True):
    """A usable bitcoind: its file, where it came from, and the first line that it prints for `-version`."""

    path: Path
    origin: str
    version: str


def find(
    *,
    offline: bool | None = None,
    environment: Mapping[str, str] | None = None,
    explain: Callable[[str], None] | None = None,
) -> Found:
    """A usable bitcoind, downloaded if need be; raises `NodeNotFound`.

    `offline` None means: as `STATE_CHANNEL_OFFLINE` says. `explain` is told each step in one line.
    """
    env = os.environ if environment is None else environment
    say = explain or (lambda _line: None)
    if "BITCOIND" in env:
        return _from_variable(env["BITCOIND"])
    say("BITCOIND is not set")
    if (found := _from_path(env, say)) is not None:
        return found
    no_download = env.get("STATE_CHANNEL_OFFLINE", "") not in ("", "0") if offline is None else offline
    return provide(PACKAGES, "bitcoind", area="node", offline=no_download, environment=env, explain=say)


def provide(
    packages: tuple[str, ...],
    program: str,
    *,
    area: str,
    offline: bool = False,
    environment: Mapping[str, str] | None = None,
    explain: Callable[[str], None] | None = None,
) -> Found:
    """A program from Debian packages, from the cache `area` or downloaded into it; raises `NodeNotFound`."""
    env = os.environ if environment is None else environment
    say = explain or (lambda _line: None)
    try:
        target = cache_root(env) / area / f"debian-{debian.SUITE}-{debian.architecture()}"
        if (found := _from_cache(target, program)) is not None:
            return found
        say(f"the cache {target} holds no {program}")
        if offline:
            raise debian.ArchiveError("downloads are switched off (STATE_CHANNEL_OFFLINE or --offline)")
        with locked(target.with_suffix(".lock"), say):
            if (found := _from_cache(target, program)) is not None:
                return found
            say(f"downloading {', '.join(packages)} from Debian {debian.SUITE} (about 35 MB, once)")
            debian.unpack(debian.Request(packages, mirror=env.get("STATE_CHANNEL_DEBIAN_MIRROR")), target)
        wrapper = target / "bin" / program
        return Found(wrapper, "download", _version(wrapper))
    except (debian.ArchiveError, OSError, subprocess.SubprocessError) as error:
        raise NodeNotFound(_ways_out(program, str(error))) from error


def cache_root(environment: Mapping[str, str]) -> Path:
    """Directory of everything this program keeps for later in the user's cache."""
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".cache")
    return Path(base) / "state-channel-watchtower"


def _from_variable(value: str) -> Found:
    path = Path(value)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise NodeNotFound(f"BITCOIND={value!r} is not an executable file; give the full path of bitcoind or unset it")
    try:
        version = _version(path)
    except (OSError, subprocess.SubprocessError) as error:
        raise NodeNotFound(f"BITCOIND={value!r} cannot be run: {error}") from error
    if (major := _major(version)) is None:
        raise NodeNotFound(f"BITCOIND={value!r} does not answer -version like bitcoind: {version[:80]!r}")
    if major < OLDEST_MAJOR:
        raise NodeNotFound(f"BITCOIND={value!r} is {version}; Bitcoin Core {OLDEST_MAJOR} or later is needed")
    return Found(path.absolute(), "BITCOIND", version)


def _from_path(env: Mapping[str, str], say: Callable[[str], None]) -> Found | None:
    name = shutil.which("bitcoind", path=env.get("PATH"))
    if name is None:
        say("no bitcoind on PATH")
        return None
    try:
        version = _version(Path(name))
    except (OSError, subprocess.SubprocessError) as error:
        say(f"{name} cannot be run: {error}")
        return None
    major = _major(version)
    if major is None or major < OLDEST_MAJOR:
        say(f"{name} is {version[:80]!r}: Bitcoin Core {OLDEST_MAJOR} or later is needed")
        return None
    return Found(Path(name).absolute(), "PATH", version)


def _from_cache(target: Path, program: str) -> Found | None:
    wrapper = target / "bin" / program
    if not wrapper.is_file() or not (target / debian.MANIFEST).is_file():
        return None
    return Found(wrapper, "cache", _version(wrapper))


def _version(path: Path) -> str:
    """First line of what the program prints about its version; raises `OSError` or `SubprocessError`."""
    said = ""
    for option in ("-version", "--version"):
        done = subprocess.run([path, option], capture_output=True, text=True, timeout=30, check=False)
        lines = done.stdout.strip().splitlines()
        if done.returncode == 0 and lines:
            return lines[0]
        said = f"code {done.returncode}: {done.stderr.strip()[-200:]}"
    raise subprocess.SubprocessError(f"{path} does not tell its version: {said}")


def _major(version: str) -> int | None:
    match = re.search(r"version v?(\d+)\.\d+", version)
    return int(match[1]) if match else None


@contextmanager
def locked(path: Path, say: Callable[[str], None] = lambda _line: None) -> Iterator[None]:
    """Hold an exclusive lock, so that parallel callers make one download."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another download to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ways_out(program: str, reason: str) -> str:
    return f"""\
no usable {program} was found: {reason}

Three ways out:
  1. set BITCOIND to the full path of a bitcoind (Bitcoin Core {OLDEST_MAJOR} or later, or Bitcoin Knots 29.3 or later);
  2. install bitcoind so that it is on PATH;
  3. run on a Debian-family Linux with network access: Debian's packaged node is then downloaded, without root.

STATE_CHANNEL_OFFLINE=1 forbids the download; STATE_CHANNEL_DEBIAN_MIRROR names another Debian archive.
Tests that need a node are skipped without one; STATE_CHANNEL_REQUIRE_NODE=1 turns that skip into a failure."""
