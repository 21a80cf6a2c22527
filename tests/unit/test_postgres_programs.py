"""Where the tests' PostgreSQL server comes from, with made-up programs; nothing is downloaded."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.postgres import NEEDED, PostgresNotFound, find_programs
from watchtower.devnode import debian

LOADER = debian.LOADERS["amd64"]
TRIPLET = debian.TRIPLETS["amd64"]


def programs(directory: Path) -> Path:
    """Executables with the right names."""
    directory.mkdir(parents=True)
    for name in NEEDED:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


def test_path_comes_first(tmp_path: Path) -> None:
    """A server on PATH wins over an installed one."""
    mine = programs(tmp_path / "mine")
    programs(tmp_path / "installed" / "17" / "bin")

    assert mine == find_programs({"PATH": str(mine)}, tmp_path / "installed")


def test_newest_installation_comes_second(tmp_path: Path) -> None:
    """Versions are compared as numbers, and one without a server does not count."""
    programs(tmp_path / "9" / "bin")
    newest = programs(tmp_path / "17" / "bin")
    (tmp_path / "18" / "bin").mkdir(parents=True)

    assert newest == find_programs({"PATH": "", "STATE_CHANNEL_OFFLINE": "1"}, tmp_path)


def test_without_server_and_network_it_is_said_so(tmp_path: Path) -> None:
    """No download where downloads are forbidden."""
    with pytest.raises(PostgresNotFound, match="STATE_CHANNEL_OFFLINE"):
        find_programs({"PATH": "", "STATE_CHANNEL_OFFLINE": "1"}, tmp_path)


def test_programs_that_stay_in_place_are_started_where_they_lie(tmp_path: Path) -> None:
    """A wrapper takes the place of the program, so that the program finds its own files beside it."""
    library, place = tmp_path / "tree/usr/lib" / TRIPLET, tmp_path / "tree/usr/lib/postgresql/17/bin"
    library.mkdir(parents=True)
    place.mkdir(parents=True)
    (library / LOADER).write_text('#!/bin/sh\necho "$@"\n')
    (library / LOADER).chmod(0o755)
    (place / "postgres").write_bytes(b"\x7fELF")
    (place / "script").write_text("#!/bin/sh\n")

    debian.wrap_in_place(tmp_path / "tree", "usr/lib/postgresql/*/bin", "amd64")
    said = subprocess.run([place / "postgres", "-V"], capture_output=True, text=True, check=True).stdout.split()

    assert ["--argv0", str(place / "postgres"), "--library-path"] == said[:3]
    assert [".postgres.program", "-V"] == [Path(said[4]).name, said[5]]
    assert "#!/bin/sh\n" == (place / "script").read_text()
