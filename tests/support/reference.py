"""docs/reference.md, made from the docstrings of the public SDK: `python -m tests.support.reference docs/reference.md`.

Every name of `watchtower.client.__all__`, `domain.application` and the exceptions, each with its signature.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import msgspec

import domain.application
import domain.errors
import watchtower.applications
import watchtower.client
import watchtower.client.errors
import watchtower.client.payments
import watchtower.client.payments.errors
import watchtower.client.peer_errors
import watchtower.client.wallet
import watchtower.testing

OWN = ("domain", "watchtower")
FRONTS = (watchtower.client, watchtower.client.payments, watchtower.testing, domain.application)
WIDTH = 120
_SINGLE, _DOUBLE = "'", '"'
LONG = 24
"""Longest text of a default value; longer ones are shown as dots."""

HEAD = """# Reference

Made from the docstrings (`python -m tests.support.reference docs/reference.md`); a test compares both. What belongs
together is told in [workflow.md](workflow.md), [api.md](api.md) and [applications.md](applications.md); every setting
is in [configuration.md](configuration.md), every address of the HTTP API in [openapi.json](openapi.json).

Amounts are satoshi, heights and periods blocks, identifiers hexadecimal texts unless the type is `bytes`. Methods with
`async` have a twin without it in `SyncStateChannelClient`.
"""


class Bare:
    """Stands in a signature as plain text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def page() -> str:
    """The whole page."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join([HEAD, *_sections()])).rstrip() + "\n"


def _sections() -> Iterator[str]:
    public = {name: getattr(watchtower.client, name) for name in watchtower.client.__all__}
    errors = {name for name, found in public.items() if isinstance(found, type) and issubclass(found, BaseException)}
    clients = [name for name in public if name.endswith("StateChannelClient")]
    functions = [name for name, found in public.items() if isinstance(found, FunctionType)]
    values = [name for name, found in public.items() if _is_value(found)]
    rest = [name for name in public if name not in {*errors, *clients, *functions, *values}]
    for title, names in (
        ("Clients", [*clients, *functions]),
        ("Types and results", values),
        ("Parties, peers, wallets", rest),
    ):
        yield f"## {title}\n"
        yield from (_entry(name, public[name]) for name in names)
    yield "## Payments and swaps\n"
    yield "Names of `watchtower.client.payments`.\n"
    yield from _module(watchtower.client.payments)
    yield "## For your own tests\n"
    yield "Names of `watchtower.testing`.\n"
    yield from _module(watchtower.testing)
    yield "## Applications\n"
    yield "Names of `domain.application` and `watchtower.applications`.\n"
    yield from _module(domain.application)
    yield _entry("GuardedApplication", watchtower.applications.GuardedApplication)
    yield "## Errors\n"
    yield "Of applications, the SDK, the other party, payments and the wallet, and the refusals of the rules.\n"
    for module in (
        domain.application,
        watchtower.client.errors,
        watchtower.client.peer_errors,
        watchtower.client.payments.errors,
        watchtower.client.wallet,
        domain.errors,
    ):
        yield from _error_table(module)


def _is_value(found: object) -> bool:
    return isinstance(found, type) and (issubclass(found, msgspec.Struct | enum.Enum))


def _module(module: ModuleType) -> Iterator[str]:
    """The names that a module offers; its exceptions stand in a table of their own."""
    for name in module.__all__:
        found = getattr(module, name)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            yield _entry(name, found)


def _error_table(module: ModuleType) -> Iterator[str]:
    own = [found for found in vars(module).values() if getattr(found, "__module__", "") == module.__name__]
    rows = [found for found in own if isinstance(found, type) and issubclass(found, BaseException)]
    yield f"### {module.__name__}\n"
    yield "| exception | is a | when |\n|---|---|---|"
    yield from (f"| `{row.__name__}` | `{row.__bases__[0].__name__}` | {_one_line(row)} |" for row in rows)
    yield ""


def _one_line(found: object) -> str:
    return " ".join((inspect.getdoc(found) or "").split())


def _entry(name: str, found: Callable[..., object]) -> str:
    """One name: signature, docstring, fields or members."""
    if not isinstance(found, type):
        return f"### {name}\n\n{_code(_signed(name, found))}\n{_text(found)}\n"
    parts = [f"### {name}\n", _code(f"from {_home(name, found)} import {name}"), f"{_text(found)}\n"]
    if issubclass(found, msgspec.Struct):
        parts.append(_code("\n".join(_fields(found))))
    elif issubclass(found, enum.Enum):
        parts.append(f"Values: {', '.join(f'`{member.name}`' for member in found)}.\n")
    elif not getattr(found, "_is_protocol", False):
        parts.append(_code(_signed("__init__", found.__init__, skip_self=True)))
        parts += [f"{_text(found.__init__)}\n"] if _is_own(found.__init__) else []
    if name.startswith("Sync"):
        members = [(member, each) for member, each in _members(found) if member in ("of", "close", "follow")]
    else:
        members = list(_members(found))
    parts += [f"{_code(text)}{_text(each)}\n" for text, each in ((_member(m, e), e) for m, e in members)]
    return "\n".join(parts)


def _home(name: str, found: type) -> str:
    """The module that a user imports it from."""
    offering = (each.__name__ for each in FRONTS if getattr(each, name, None) is found)
    return next(offering, found.__module__)


def _fields(struct: type[msgspec.Struct]) -> Iterator[str]:
    hints: dict[str, object] = {}
    for base in reversed(struct.__mro__):
        hints |= inspect.get_annotations(base)
    for field in msgspec.structs.fields(struct):
        default = "" if field.required else f" = {_default(field.default, field.default_factory)!r}"
        yield f"{field.name}: {_hint(hints[field.name])}{default}"


def _default(value: object, factory: object) -> Bare:
    if value is msgspec.NODEFAULT:
        return Bare(f"{getattr(factory, '__name__', '...')}()")
    return _shown(value)


def _shown(value: object) -> Bare:
    if isinstance(value, FunctionType) and value.__name__.isidentifier():
        return Bare(value.__name__)
    if isinstance(value, enum.Enum):
        return Bare(f"{type(value).__name__}.{value.name}")
    text = repr(value)
    return Bare(text if len(text) <= LONG and "<" not in text else "...")


def _hint(hint: object) -> str:
    return hint if isinstance(hint, str) else inspect.formatannotation(hint)


def _members(owner: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties, bases first, each once in its newest form."""
    order: dict[str, object] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.split(".")[0] in OWN:
            order |= {name: each for name, each in vars(base).items() if not name.startswith("_")}
    for name, each in order.items():
        wrapped = each.__func__ if isinstance(each, classmethod | staticmethod) else each
        if isinstance(wrapped, FunctionType | property) and inspect.getdoc(wrapped):
            yield name, wrapped


def _member(name: str, found: object) -> str:
    if isinstance(found, property):
        assert found.fget is not None
        return f"{name}: {_hint(found.fget.__annotations__.get('return', 'object'))}"
    assert isinstance(found, FunctionType)
    return _signed(name, found, skip_self=True)


def _signed(name: str, found: Callable[..., object], *, skip_self: bool = False) -> str:
    signature = inspect.signature(found)
    given = [each for each in signature.parameters.values() if not (skip_self and each.name in ("self", "cls"))]
    shown = [_parameter(each) for each in given]
    result = _hint(signature.return_annotation)
    begin = "async def" if inspect.iscoroutinefunction(inspect.unwrap(found)) else "def"
    line = f"{begin} {name}{inspect.Signature(shown)} -> {result}: ..."
    return line if len(line) <= WIDTH else f"{begin} {name}(\n{_lines(shown)}) -> {result}: ..."


def _parameter(each: inspect.Parameter) -> inspect.Parameter:
    empty = inspect.Parameter.empty
    hint = empty if each.annotation is empty else Bare(_hint(each.annotation))
    return each.replace(annotation=hint, default=empty if each.default is empty else _shown(each.default))


def _lines(shown: Iterable[inspect.Parameter]) -> str:
    lines, starred = [], False
    for each in shown:
        if each.kind is each.KEYWORD_ONLY and not starred:
            lines.append("    *,\n")
            starred = True
        starred = starred or each.kind is each.VAR_POSITIONAL
        lines.append(f"    {each},\n")
    return "".join(lines)


def _is_own(found: object) -> bool:
    """True if our own code says what it does; the standard library's words are left out."""
    return (getattr(found, "__module__", None) or "").split(".")[0] in OWN and bool(found.__doc__)


def _text(found: object) -> str:
    return inspect.getdoc(found) or ""


def _code(text: str) -> str:
    return f"```python\n{text.replace(_SINGLE, _DOUBLE)}\n```\n\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
