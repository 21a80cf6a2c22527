"""A wheel carries its types: the same programs are judged alike where only the wheel is installed."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEEDED = ("msgspec", "httpx", "httpcore", "anyio", "zmq", "structlog", "coincurve")


def run(*command: str, cwd: Path = ROOT) -> str:
    """Output of a command, its errors included."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter that has the wheel, and of this environment only what the wheel needs."""
    pytest.importorskip("hatchling")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    site = tmp_path / "env" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in NEEDED:
        (site / name).symlink_to(Path(sysconfig.get_paths()["purelib"]) / name)
    return tmp_path / "env" / "bin" / "python"


@pytest.mark.slow
def test_the_wheel_is_typed(python: Path, tmp_path: Path) -> None:
    """A good program passes, and a bad one has as many errors as it is marked with."""
    good, bad = (HERE / name for name in ("user_program.py", "wrong_program.py"))
    arguments = ["--strict", "--config-file=", f"--python-executable={python}", f"--cache-dir={tmp_path / 'cache'}"]
    for source in (good, bad):
        (tmp_path / source.name).write_text(source.read_text())

    said = [run(sys.executable, "-m", "mypy", *arguments, source.name, cwd=tmp_path) for source in (good, bad)]

    assert "Success: no issues found in 1 source file\n" == said[0]
    assert bad.read_text().count("# wrong:") == said[1].count(" error: ")
