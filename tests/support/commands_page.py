"""The page of all commands, made from what click knows: python -m tests.support.commands_page docs/cli.md."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from watchtower.cli import _main

HEAD = """# Commands

Made from the commands' own help; do not edit. `watchtower COMMAND --help` says the same on a terminal.

A tower's commands (`init`, `run`, `token`, `keys`, `replay`, …) work on the machine of the tower. A party's commands
take `--home`, the directory of the party: if `watchtower party run` serves it, that program does the work, else the
command opens the directory itself, dials the peers, and closes it again. Questions that a tower answers alone take
`--tower` and `--token-file` instead; without both they go to the tower of this machine.

* A result is a table on a terminal, aligned text in a pipe, and with `--json` exactly one JSON document: amounts in
  satoshi, times in Unix seconds, ids in hexadecimal, txids as block explorers show them. Messages go to stderr.
* CHANNEL_ID may be shortened as long as it is unique.
* Passphrases, tokens and preimages are read from files or standard input, never from arguments. Commands that cannot be
  undone ask first, or need `--yes` where nobody can be asked.

| exit code | means |
|---|---|
| 0 | done |
| 1 | refused or failed: the sentence on stderr begins with the kind. Also: an invalid proof or transaction |
| 2 | wrong usage or configuration |
| 3 | not ready: another process holds the log, or it fails a check |
| 4 | node, tower or peer cannot be reached |
| 70 | the read models do not follow from the log |
"""


def commands(
    group: click.Command = _main, before: tuple[str, ...] = ("watchtower",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that is no group, with the words that call it."""
    if not isinstance(group, click.Group):
        yield before, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None, "it was listed"
        yield from commands(found, (*before, name))


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_entry(" ".join(words), command) for words, command in commands())])


def _entry(name: str, command: click.Command) -> str:
    told, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample")
    told = told.replace("\b\n", "")
    arguments = [_argument(each) for each in command.params if isinstance(each, click.Argument)]
    lines = [f"## {name.removeprefix('watchtower ')}", "", f"`{' '.join([name, *arguments])}`", "", told.strip(), ""]
    commands_shown = [line.strip() for line in example.splitlines()[1:] if line.strip()]
    lines += ["```sh", *commands_shown, "```", ""]
    rows = [_row(each) for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if rows:
        lines += ["| option | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{_value(option)}`"
    needed = " Required." if option.required else ""
    shown = f" Default: {option.default}." if option.show_default else ""
    text = re.sub(r"\s+", " ", option.help or "").replace("|", "\\|")
    return f"| {names}{value} | {text}{shown}{needed} |"


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar.replace("|", "\\|")
    if isinstance(option.type, click.Choice):
        return "\\|".join(option.type.choices)
    kind = option.type
    if isinstance(kind, click.types.IntParamType):
        return "NUMBER"
    if isinstance(kind, click.types.FloatParamType):
        return "NUMBER"
    return "FILE" if isinstance(kind, click.Path) and kind.dir_okay is False else kind.name.upper()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
