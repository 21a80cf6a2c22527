"""From what a page shows to bytes. Every value is escaped, and a name that a template misspells is an error."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from watchtower.web import words

FOLDER = Path(__file__).parent / "templates"
_FILTERS = (
    words.ago,
    words.bytes_size,
    words.clock,
    words.count,
    words.duration,
    words.machine_time,
    words.moment,
    words.sats,
    words.short,
    words.words,
)


class Renderer:
    """The templates. Safe for many threads."""

    def page(self, template: str, values: Mapping[str, Any]) -> bytes:
        """A whole page."""
        return _environment().get_template(template).render(values).encode()


@cache
def _environment() -> Environment:
    """One for the process: each template is read and compiled once."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({each.__name__: each for each in _FILTERS})
    return made
