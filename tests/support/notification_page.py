"""docs/notification.schema.json, made from the struct: `python -m tests.support.notification_page > FILE`."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from watchtower.notify.message import FORMAT, Message


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the webhook's body."""
    (top,), parts = msgspec.json.schema_components([Message], ref_template="#/$defs/{name}")
    body = parts.pop("Message")
    assert top == {"$ref": "#/$defs/Message"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": FORMAT,
        **body,
        "required": list(Message.__struct_fields__),
        "$defs": parts,
    }


def page() -> str:
    """The file."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
