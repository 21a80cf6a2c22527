"""Where a command's call goes: to a party in a directory, or to a tower alone."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING, Any

import click

from watchtower.cli.output import Context, config_option

if TYPE_CHECKING:
    from watchtower.party.calls import Call

STDIN = "-"
HOME_VARIABLE = "STATE_CHANNEL_PARTY_HOME"
FILE = click.Path(dir_okay=False, allow_dash=True)
MOST_DIGITS = 18
"""Of a number in an option: all amounts, heights and rates have fewer, and what has more may be too long for `int`."""


def whole_number(text: str) -> int | None:
    """A number of plain digits, or None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else None


class Balances(click.ParamType[tuple[int, int]]):
    """Two amounts in satoshi, A first."""

    name = "A,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read `50000000,50000000`."""
        if isinstance(value, tuple):
            return value
        of_a, _, of_b = (whole_number(part) for part in str(value).partition(","))
        if of_a is None or of_b is None:
            self.fail(f"write the balances of A and B in satoshi, as in 50000000,50000000; got {value!r}", param, ctx)
        return of_a, of_b


class AppId(click.ParamType[bytes]):
    """The id of an application: 32 bytes, not all zero."""

    name = "HEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Read 64 hexadecimal digits."""
        if isinstance(value, bytes):
            return value
        if len(value) != 64 or set(value) <= {"0"} or set(value) - set(hexdigits):
            self.fail(f"an application's id is 64 hexadecimal digits, not all zero; got {value!r}", param, ctx)
        return bytes.fromhex(value)


class Place:
    """A party's directory, or a tower's address; nothing is opened before a call."""

    def __init__(
        self,
        context: Context,
        home: Path | None,
        passphrase_file: str | None,
        tower: str | None,
        token_file: str | None,
    ) -> None:
        if home is not None and (tower or token_file):
            raise click.UsageError("--tower and --token-file stand in party.toml; leave them out with --home")
        self._context = context
        self.home = home
        self._passphrase_file = passphrase_file
        self._tower = tower
        self._token_file = token_file

    def ask(self, call: Call) -> Any:
        """The document that a call gives; raises `CallFailed`."""
        from watchtower.party.program import PartyPlace, ask, ask_tower

        if self.home is not None:
            return ask(PartyPlace(self.home, self.passphrase), call)
        return ask_tower(*self._tower_address(), call)

    def follow(self, channel: str | None, after: int | None) -> Generator[dict[str, Any], None, None]:
        """Events as the tower stores them; see `follow_tower`."""
        from watchtower.party.program import follow_tower

        return follow_tower(*self._tower_address(), channel, after)

    def ask_party(self, call: Call) -> Any:
        """As `ask`, for calls that a tower cannot answer."""
        if self.home is None:
            raise click.UsageError(f"name the party's directory with --home or {HOME_VARIABLE}")
        return self.ask(call)

    def passphrase(self) -> bytes:
        """From --passphrase-file, else the service's credential, else the file beside the keystore."""
        assert self.home is not None, "only a party has one here"
        return find_passphrase(self.home, self._passphrase_file)

    def _tower_address(self) -> tuple[str, int, str, str]:
        """Network, milliseconds, address and file with the token: as given, else those of the tower of the settings."""
        if self.home is not None:
            return self._tower_of_party(self.home)
        settings = self._context.load().settings
        beside = Path(settings.data_dir) / "api.token"
        token_file = self._token_file or (str(beside) if self._tower is None else "")
        url = self._tower or f"http://{settings.api.listen}"
        return settings.network, settings.timeout_ms, url, token_file

    def _tower_of_party(self, home: Path) -> tuple[str, int, str, str]:
        from watchtower.party.program import PartyPlace, tower_of

        return tower_of(PartyPlace(home, self.passphrase))


def find_passphrase(home: Path, given: str | None) -> bytes:
    """The passphrase of a party's keystore; raises `KeystoreError` if there is none."""
    from watchtower.keystore import PASSPHRASE_NAME, fitting_passphrase, read_passphrase, read_passphrase_line

    if given == STDIN:
        return read_passphrase_line()
    if given is not None:
        return read_passphrase(Path(given))
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere")) / PASSPHRASE_NAME
    if credential.is_file():
        return read_passphrase(credential)
    return fitting_passphrase(home / "keystore", home / PASSPHRASE_NAME)


home_option = click.option(
    "--home",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar=HOME_VARIABLE,
    help=f"The party's directory. Default: {HOME_VARIABLE}.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=FILE,
    help="File with the party's passphrase; - reads a line. Default: the service's credential, or the file in --home.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


def party_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--home`, `--passphrase-file`, `--json`: the command gets a context, a place, and `as_json`."""
    return home_option(passphrase_option(json_option(_placed(command))))


def tower_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """As `party_options`, and `--tower`, `--token-file`, `--config` for a call that needs no party."""
    told = "Address of the tower. Default: that of the settings, with its own token."
    tower = click.option("--tower", help=told)
    token = click.option("--token-file", type=click.Path(dir_okay=False), help="File with a token of the tower.")
    return home_option(passphrase_option(tower(token(config_option(json_option(_placed(command)))))))


def _placed(command: Callable[..., Any]) -> Callable[..., Any]:
    @click.pass_context
    @functools.wraps(command)
    def placed(
        ctx: click.Context,
        /,
        home: Path | None,
        passphrase_file: str | None,
        tower: str | None = None,
        token_file: str | None = None,
        **options: Any,
    ) -> Any:
        context = ctx.find_object(Context)
        assert context is not None, "the group makes one"
        return command(context, Place(context, home, passphrase_file, tower, token_file), **options)

    return placed


def read_bytes(name: str) -> bytes:
    """The content of a file, or of standard input for -; `click.UsageError` if it cannot be read."""
    try:
        if name == STDIN:
            return sys.stdin.buffer.read()
        return Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"the file {name} cannot be read ({error.strerror})") from None


def read_hex(name: str) -> str:
    """A file that holds bytes, or their hexadecimal text, as that text."""
    raw = read_bytes(name)
    text = raw.strip()
    if text and all(byte in b"0123456789abcdefABCDEF" for byte in text):
        if len(text) % 2:
            raise click.UsageError(f"{name} holds an odd number of hexadecimal digits")
        return text.decode().lower()
    return raw.hex()


def read_data(given: str) -> bytes:
    """`TEXT`, or with `@FILE` the bytes of a file."""
    return read_bytes(given[1:]) if given.startswith("@") else given.encode()


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; without a terminal `--yes` is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this cannot be undone; say --yes")
    click.confirm(question, abort=True, err=True)
