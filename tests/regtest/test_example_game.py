"""The example application from its README: the commands are run as they stand there, the chain decides."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from watchtower.devnode.provision import Found

ROOT = Path(__file__).parents[2]
README = ROOT / "examples" / "tictactoe" / "README.md"
BLOCK = re.compile(
    r"(?:<!-- test: (?P<role>\w+) -->\n)?```sh\n(?P<commands>.*?)```(?:\n\n```text\n(?P<shown>.*?)```)?", re.DOTALL
)
SECONDS = 280


def told() -> dict[str, list[str]]:
    """The commands of the page, and the lines that it shows for each."""
    found = BLOCK.finditer(README.read_text())
    return {m["commands"].strip(): (m["shown"] or "").splitlines() for m in found if m["role"] != "skip"}


def run(command: str, bitcoind: Found, typed: str = "") -> list[str]:
    """Lines that a command prints in the root of the repository."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STATE_CHANNEL_")}
    environ |= {"PATH": f"{Path(sys.executable).parent}:{environ['PATH']}", "BITCOIND": str(bitcoind.path)}
    done = subprocess.run(
        command,
        shell=True,
        check=True,
        cwd=ROOT,
        env=environ,
        input=typed,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
    )
    return done.stdout.splitlines()


def test_the_page_has_the_commands_that_are_tried() -> None:
    """Four commands: at the keyboard, and three endings."""
    assert ["play", "fair", "silent", "cheat"] == [command.split()[-1] for command in told()]


@pytest.mark.parametrize("command", [command for command in told() if not command.endswith("play")])
def test_each_ending_shows_what_the_page_says(bitcoind_path: Found, command: str) -> None:
    """Every line of the page appears, in its order; amounts and owners on the chain are exact."""
    lines = run(command, bitcoind_path)

    missing = list(told()[command])
    for line in lines:
        if missing and missing[0].strip() in line:
            del missing[0]
    assert [] == missing


def test_a_game_at_the_keyboard(bitcoind_path: Found) -> None:
    """A reader who types all squares in order, some of them taken or nonsense, finishes a game and is paid."""
    typed = "\n".join(["nonsense", "0", *"987654321" * 3]) + "\n"

    lines = run("python -m examples.tictactoe play", bitcoind_path, typed)

    amounts = [int(line.split()[0].replace(",", "")) for line in lines[-2:]]
    assert "on the chain:" in lines
    assert sum(amounts) == 999_000
    assert any(line in ("a draw", "B wins") for line in lines)
