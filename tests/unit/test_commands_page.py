"""docs/cli.md says what the commands say, and the commands say enough."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.support import commands_page
from watchtower.cli import _main

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
ALL = {" ".join(words[1:]): command for words, command in commands_page.commands()}
SECRET = ("passphrase", "token", "preimage", "password", "seed")


def test_the_page_is_made_from_the_commands() -> None:
    """After a change: python -m tests.support.commands_page docs/cli.md."""
    assert commands_page.page() == PAGE.read_text(), test_the_page_is_made_from_the_commands.__doc__


@pytest.mark.parametrize("name", ALL)
def test_every_command_shows_itself_to_copy(name: str) -> None:
    """Its help ends with an example that begins with the command."""
    text = ALL[name].help or ""
    assert f"watchtower {name}" in text.partition("\b\n")[2]


def test_lists_of_commands_are_not_cut() -> None:
    """The first sentence of every command is whole."""
    groups = ["", *sorted({name.split()[0] for name in ALL if " " in name})]
    texts = [CliRunner().invoke(_main, [*group.split(), "--help"]).stdout for group in groups]

    lists = [text.partition("Commands:")[2] for text in texts]

    assert [] == [group for group, each in zip(groups, lists, strict=True) if "..." in each or not each]


def test_secrets_are_named_by_their_file() -> None:
    """No option takes a secret itself."""
    options = [
        (name, option)
        for name, command in ALL.items()
        for option in command.params
        if any(word in (option.name or "") for word in SECRET)
    ]
    assert len(options) > 20
    assert [] == [(name, option.name) for name, option in options if not isinstance(option.type, click.Path)]


def test_every_answer_can_be_a_document() -> None:
    """All commands have --json but the service itself, whose log has a format of its own."""
    without = {name for name, command in ALL.items() if not any("--json" in each.opts for each in command.params)}
    assert {"run"} == without
