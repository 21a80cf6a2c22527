"""What one row of the table of endpoints says, and what its callable gets and returns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import msgspec
from msgspec import inspect

from domain.errors import MalformedInput
from watchtower.access import Scope
from watchtower.http.principal import OPERATOR, Principal
from watchtower.http.services import Services
from watchtower.wire.hexes import readable
from watchtower.wire.queries import Query

Method = Literal["GET", "POST"]


class Call(msgspec.Struct, frozen=True):
    """A request that was found good: `{id}` of the path, query and body as structs of the row's types.

    `last_event_id` is where a client of an event stream goes on, `number` the `{number}` of the path.
    """

    name: str = ""
    query: Any = None
    body: Any = None
    last_event_id: int | None = None
    principal: Principal = OPERATOR
    number: str = ""


class Reply(msgspec.Struct, frozen=True):
    """An answer that is more than a body: another status, or one to bytes that were stored before."""

    body: Any
    status: int | None = None
    replayed: bool = False


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one address.

    `name` is the operation id. `call` runs in a worker thread and returns a body of the type `answer`, or a `Reply`.
    `scope` is what a token must allow; None needs none. An address with `{id}` also answers a party that signs with its
    key, for its own channel only. Any other address takes parties only with `parties=True`, and must then look at
    `Call.principal` itself if it shows or changes what belongs to somebody.
    With `is_stream`, `call` returns a `Subscription` and `answer` is the body of one event.
    `problems` are the slugs of this use case; those of every address (token, body, limits, store) are added.
    """

    name: str
    method: Method
    path: str
    summary: str
    description: str = ""
    scope: Scope | None
    query: type[Query] = Query
    body: type[Any] | None = None
    answer: type[Any]
    statuses: tuple[int, ...] = (200,)
    problems: tuple[str, ...] = ()
    is_stream: bool = False
    parties: bool = False
    call: Callable[[Services, Call], Any]

    @property
    def names_channel(self) -> bool:
        """True if the address has `{id}`."""
        return "{id}" in self.path

    @property
    def takes_parties(self) -> bool:
        """True if a party may call."""
        return self.names_channel or self.parties


def read_query(pairs: list[tuple[str, str]], form: type[Query]) -> Query:
    """Query parameters as a struct; `MalformedInput` names the parameter."""
    kinds = _kinds(form)
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name not in kinds:
            raise MalformedInput(f"query parameter {name[:40]!r} is not known here")
        if name in found:
            raise MalformedInput(f"query parameter {name} stands twice")
        found[name] = _read(name, text, kinds[name])
    try:
        return msgspec.convert(found, form)
    except msgspec.ValidationError as error:
        raise MalformedInput(readable(error)) from None


def _read(name: str, text: str, kinds: list[inspect.Type]) -> str | int:
    for kind in kinds:
        if isinstance(kind, inspect.IntType):
            if not (text.isascii() and text.isdecimal() and len(text) <= 18):
                raise MalformedInput(f"query parameter {name} is a whole number")
            return int(text)
        if isinstance(kind, inspect.LiteralType) and text not in kind.values:
            raise MalformedInput(f"query parameter {name} is one of {', '.join(map(str, kind.values))}")
    return text


@cache
def _kinds(form: type[Query]) -> dict[str, list[inspect.Type]]:
    info = inspect.type_info(form)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: _plain(field.type) for field in info.fields}


def _plain(kind: inspect.Type) -> list[inspect.Type]:
    """The alternatives of a type, without descriptions."""
    if isinstance(kind, inspect.Metadata):
        return _plain(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [plain for each in kind.types for plain in _plain(each)]
    return [kind]
