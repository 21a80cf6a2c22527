"""Programs with which the deployment is checked: from the host's PATH, else a cache, else Debian's archive.

`program("promtool")` gives the file that a test starts. Nothing is installed: what the host lacks is unpacked without
root into the user's cache, one area per set of packages, downloaded once however many workers ask at the same time.
Without a program its tests are skipped; STATE_CHANNEL_REQUIRE_NODE=1 turns the skip into a failure.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from tests.support import chromium
from watchtower.devnode import debian
from watchtower.devnode.provision import cache_root, locked


class ProgramNotFound(Exception):
    """The program could not be had; the text says why and what helps."""


class Area(msgspec.Struct, frozen=True):
    """One tree in the cache: its packages, and what has to be mended after unpacking.

    `in_place` as in `debian.Request`. `libraries` is a pattern of libraries outside the directory that the packaged
    loader searches; they are linked into it. `mend` is called with the tree, under its lock.
    """

    packages: tuple[str, ...]
    in_place: str | None = None
    libraries: str | None = None
    mend: Callable[[Path], None] = lambda _tree: None


class Program(msgspec.Struct, frozen=True):
    """Names of the program on a PATH, best first; its area; its file below the area.

    One on the PATH whose version is below `oldest` is passed over.
    """

    names: tuple[str, ...]
    area: str
    file: str
    oldest: tuple[int, int] = (0, 0)


def _use_own_templates(tree: Path) -> None:
    """Debian's Alertmanager reads its templates from /usr/share; let it read those that came with it.

    The path in the program becomes a relative one of the same length, and the wrapper starts it in the tree.
    """
    program, wrapper = tree / "usr/bin/prometheus-alertmanager", tree / "bin/prometheus-alertmanager"
    text = wrapper.read_text()
    if "\ncd " in text:
        return
    path = b"/usr/share/prometheus/alertmanager"
    program.write_bytes(program.read_bytes().replace(path, path[1:] + b"/"))
    wrapper.write_text(text.replace("\nexec ", '\ncd -- "$here"\nexec '))


AREAS = {
    "prometheus": Area(("prometheus",)),
    "alertmanager": Area(("prometheus-alertmanager",), mend=_use_own_templates),
    "kubernetes": Area(("kubernetes-client",)),
    "openssl": Area(("openssl",)),
    "systemd": Area(("systemd",), libraries="usr/lib/*/systemd/libsystemd-*.so"),
    "chromium": Area(("chromium", "fonts-dejavu-core"), in_place="usr/lib/chromium", mend=chromium.mend),
}
PROGRAMS = {
    "prometheus": Program(("prometheus",), "prometheus", "bin/prometheus"),
    "promtool": Program(("promtool",), "prometheus", "bin/promtool"),
    "alertmanager": Program(  # 0.26 brought `url_file`
        ("alertmanager", "prometheus-alertmanager"), "alertmanager", "bin/prometheus-alertmanager", (0, 26)
    ),
    "amtool": Program(("amtool",), "alertmanager", "bin/amtool", (0, 26)),
    "kubectl": Program(("kubectl",), "kubernetes", "bin/kubectl"),
    "openssl": Program(("openssl",), "openssl", "bin/openssl"),
    "systemd-analyze": Program(("systemd-analyze",), "systemd", "bin/systemd-analyze"),
    "chromium": Program(("chromium", "chromium-browser"), "chromium", chromium.START),
}


def missing(reason: object) -> NoReturn:
    """Something that a test needs is not there: skip it, or fail it under STATE_CHANNEL_REQUIRE_NODE=1."""
    if os.environ.get("STATE_CHANNEL_REQUIRE_NODE", "") not in ("", "0"):
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


@functools.cache
def program(name: str) -> Path:
    """File of one of `PROGRAMS`; skips the test that asks, or fails it under STATE_CHANNEL_REQUIRE_NODE=1."""
    try:
        return find_program(name)
    except ProgramNotFound as error:
        missing(error)


def find_program(name: str, environment: Mapping[str, str] | None = None) -> Path:
    """File of one of `PROGRAMS`, downloaded if need be. Raises `ProgramNotFound`."""
    env = os.environ if environment is None else environment
    wanted = PROGRAMS[name]
    for each in wanted.names:
        on_path = shutil.which(each, path=env.get("PATH"))
        if on_path is not None and _is_new_enough(on_path, wanted.oldest):
            return Path(on_path).absolute()
    try:
        tree = _tree(wanted.area, env)
    except (debian.ArchiveError, OSError) as error:
        raise ProgramNotFound(_ways_out(name, str(error))) from error
    if not (tree / wanted.file).is_file():
        raise ProgramNotFound(_ways_out(name, f"Debian's packages in {tree} hold no {wanted.file}"))
    return tree / wanted.file


def _is_new_enough(path: str, oldest: tuple[int, int]) -> bool:
    if oldest == (0, 0):
        return True
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    match = re.search(r"version v?(\d+)\.(\d+)", done.stdout + done.stderr)
    return match is not None and (int(match[1]), int(match[2])) >= oldest


def _tree(name: str, env: Mapping[str, str]) -> Path:
    area = AREAS[name]
    target = cache_root(env) / name / f"debian-{debian.SUITE}-{debian.architecture()}"
    with locked(target.with_suffix(".lock")):
        if not (target / debian.MANIFEST).is_file():
            if env.get("STATE_CHANNEL_OFFLINE", "") not in ("", "0"):
                raise debian.ArchiveError(f"{target} is empty, and STATE_CHANNEL_OFFLINE forbids the download")
            mirror = env.get("STATE_CHANNEL_DEBIAN_MIRROR")
            debian.unpack(debian.Request(area.packages, mirror=mirror, in_place=area.in_place), target)
        if area.libraries is not None:
            _link_libraries(target, area.libraries)
        area.mend(target)
    return target


def _link_libraries(tree: Path, pattern: str) -> None:
    for library in tree.glob(pattern):
        link = library.parent.parent / library.name
        if not link.exists():
            link.symlink_to(library.relative_to(link.parent))


def _ways_out(name: str, reason: str) -> str:
    return (
        f"no usable {name} was found: {reason}\n"
        f"Install it so that one of {', '.join(PROGRAMS[name].names)} is on PATH, or allow the download from Debian "
        "(a Debian-family Linux with network access, STATE_CHANNEL_OFFLINE unset). "
        "STATE_CHANNEL_REQUIRE_NODE=1 turns the skip of its tests into a failure."
    )
