"""Private files, and a process that leaves no image of its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from watchtower.host.hygiene import Exposed, give_to_owner, require_private

ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A private directory with a private file."""
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    (made / "log").touch(mode=0o600)
    return made


def test_private_things_pass(directory: Path) -> None:
    """Owner only; what does not exist is no finding here."""
    require_private(directory, ("log", "absent"))
    require_private(directory / "absent", ("log",))


@pytest.mark.parametrize("mode", [0o710, 0o750, 0o755, 0o701])
def test_an_open_directory_is_refused(directory: Path, mode: int) -> None:
    """The refusal says which command mends it, and after that command it passes."""
    directory.chmod(mode)

    with pytest.raises(Exposed, match=f"chmod 700 {directory}"):
        require_private(directory, ())

    directory.chmod(0o700)
    require_private(directory, ())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_an_open_file_is_refused(directory: Path, mode: int) -> None:
    """Read, write or execute for anybody else."""
    (directory / "log").chmod(mode)

    with pytest.raises(Exposed, match=f"chmod 600 {directory / 'log'}"):
        require_private(directory, ("log",))


def test_no_core_dump_is_possible() -> None:
    """Limit 0, which the process cannot raise again without privileges, and not dumpable."""
    program = (
        "import resource; from watchtower.host.hygiene import forbid_core_dumps, is_dumpable\n"
        "before = is_dumpable(); done = forbid_core_dumps()\n"
        "print(before, done, is_dumpable(), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "True True False (0, 0)" == told.stdout.strip()


def test_no_command_leaves_a_core_file() -> None:
    """Not the service alone: whoever changes a passphrase or opens a channel from the shell holds secrets as well."""
    program = (
        "import resource; from watchtower import cli; from watchtower.host.hygiene import is_dumpable\n"
        "cli._main.main = lambda **_: print(is_dumpable(), resource.getrlimit(resource.RLIMIT_CORE))\n"
        "cli.main()"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "False (0, 0)" == told.stdout.strip()


@pytest.mark.parametrize(("limits", "room"), [((64, 64), 8), ((64, 300), 244), ((256, 256), 200), ((4096, 4096), 512)])
def test_fault_P16_connections_leave_files_for_the_tower(limits: tuple[int, int], room: int) -> None:
    """Of the limit of open files the tower's own are kept back; a limit that may be raised is raised."""
    program = (
        "import resource, sys; from watchtower.host.hygiene import room_for_connections; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2]))); "
        "print(room_for_connections(512))"
    )
    arguments = [sys.executable, "-c", program, *map(str, limits)]

    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True)

    assert room == int(done.stdout)


@pytest.mark.parametrize(("user", "expected"), [(0, 1), (1000, 0)])
def test_a_file_of_roots_gets_the_owner_of_its_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch, user: int, expected: int
) -> None:
    """Root's commands leave nothing that the service cannot open; other users may give nothing away."""
    given: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "fchown", lambda *arguments: given.append(arguments))
    owner = directory.stat()

    give_to_owner(7, directory)

    assert [(7, owner.st_uid, owner.st_gid)] * expected == given
