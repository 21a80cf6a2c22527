"""Every key of the settings as a flat list, and the one conversion from text or TOML to its type."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args, get_type_hints

import msgspec

from watchtower.config.sections import Secret
from watchtower.config.settings import Settings

PREFIX = "STATE_CHANNEL_"

RELOADABLE = frozenset(
    {
        "log.level",
        "api.max_connections",
        "api.max_connections_per_ip",
        "api.max_requests_per_ip",
        "api.max_requests_per_key",
        "api.max_bytes_per_key",
        "policy.max_channels",
        "policy.max_total_capacity",
    }
)
"""Keys that SIGHUP reads again, beside those of `[notify]`: how much is told, to whom, and how much one may use."""

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Field(msgspec.Struct, frozen=True):
    """One key: its dotted name, its type with bounds, default, unit and meaning."""

    name: str
    type: Any
    default: Any
    description: str
    unit: str
    secret: bool
    alias: str

    @property
    def section(self) -> str:
        """Name of the section, empty at the top level."""
        return self.name.rpartition(".")[0]

    @property
    def key(self) -> str:
        """Name inside its section."""
        return self.name.rpartition(".")[2]

    @property
    def variable(self) -> str:
        """Name of the environment variable; two underscores stand for the dot."""
        return PREFIX + self.name.replace(".", "__").upper()

    @property
    def variable_alias(self) -> str:
        """Second name of the variable, or nothing."""
        return PREFIX + self.alias.upper() if self.alias else ""

    @property
    def reloadable(self) -> bool:
        """Whether SIGHUP takes a new value over; any other needs a restart."""
        return self.section == "notify" or self.name in RELOADABLE

    def value_in(self, settings: Settings) -> Any:
        """The value that it has there."""
        return getattr(getattr(settings, self.section) if self.section else settings, self.key)

    def from_text(self, text: str) -> Any:
        """Value of a variable, file or flag; raises ValueError in words."""
        if self.secret:
            return Secret(text)
        base = get_args(self.type)[0]
        if base is bool:
            if text.lower() not in _BOOLEANS:
                raise ValueError("must be true, false, 1 or 0")
            return _BOOLEANS[text.lower()]
        return _converted(text, self.type, strict=False)

    def from_toml(self, value: Any) -> Any:
        """Value of a TOML key; raises ValueError in words."""
        if self.secret:
            return Secret(_converted(value, str, strict=True))
        return _converted(value, self.type, strict=True)


def _converted(value: Any, wanted: Any, *, strict: bool) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        raise ValueError(_plain(str(error), wanted)) from None


def _plain(message: str, wanted: Any) -> str:
    """The library's sentence in the words of an operator."""
    base, meta = get_args(wanted)[:2] if get_args(wanted) else (wanted, None)
    if get_args(base) and base is not str:
        return "must be one of " + ", ".join(map(str, get_args(base)))
    if "matching regex" in message:
        return f"does not fit: {meta.description}" if meta else "does not fit"
    noun = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[base]
    if "<=" in message or ">" in message or "<" in message:
        if meta is None:
            return f"must be {noun}"
        limits = f"above {meta.gt} and at most {meta.le}" if meta.ge is None else f"from {meta.ge} to {meta.le}"
        return f"must be {noun} {limits}"
    return f"must be {noun}"


def _fields_of(struct: type[msgspec.Struct], section: str) -> list[Field]:
    hints = get_type_hints(struct, include_extras=True)
    found = []
    for info in msgspec.structs.fields(struct):
        wanted = hints[info.name]
        if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
            found += _fields_of(wanted, info.name)
            continue
        base, meta = get_args(wanted)[0], get_args(wanted)[1]
        extra = meta.extra or {}
        found.append(
            Field(
                name=f"{section}.{info.name}" if section else info.name,
                type=wanted,
                default=info.default,
                description=meta.description or "",
                unit=extra.get("unit", ""),
                secret=Secret in get_args(base),
                alias=extra.get("alias", ""),
            )
        )
    return found


@lru_cache(maxsize=1)
def all_fields() -> tuple[Field, ...]:
    """Every key, top level first, in the order of the structs."""
    return tuple(_fields_of(Settings, ""))
