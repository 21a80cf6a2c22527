"""A user's program against the public SDK: `mypy --strict` agrees with it, finds its mistakes, and it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import watchtower.client as sdk

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MARK = re.compile(r"# wrong: ([a-z-]+)$")


def mypy(path: Path, cache: Path) -> str:
    """What `mypy --strict` says about one file, by itself and without this project's settings."""
    arguments = ["--strict", "--config-file=", "--follow-imports=silent", "--no-error-summary", f"--cache-dir={cache}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments, str(path.relative_to(ROOT))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the checks of this file."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
def test_a_users_program_is_typed(cache: Path) -> None:
    """No complaint under --strict."""
    assert "" == mypy(HERE / "user_program.py", cache)


@pytest.mark.slow
def test_a_users_mistakes_are_found(cache: Path) -> None:
    """Each wrong line has its error: nothing on the way is `Any`."""
    path = HERE / "wrong_program.py"
    lines = path.read_text().splitlines()
    wanted = {(number, found[1]) for number, line in enumerate(lines, 1) if (found := MARK.search(line))}
    said = mypy(path, cache)
    found = {(int(line), code) for line, code in re.findall(r":(\d+): error: .*\[([a-z-]+)\]", said)}

    assert wanted == found
    assert 9 == len(wanted)


def test_a_users_program_runs() -> None:
    """It prints what the SDK refuses without a connection."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.typing.user_program"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert ("NotConnected\nNotConnected\n", "") == (done.stdout, done.stderr)


def test_every_public_name_exists_and_is_documented() -> None:
    """`__all__` is sorted and complete, and each class and function says what it is."""
    assert sorted(sdk.__all__) == list(sdk.__all__)
    assert [] == [name for name in sdk.__all__ if not (getattr(sdk, name).__doc__ or "").strip()]
