"""One example of every event and the file with its stored bytes. A line of that file never changes.

The file maps a topic to its stored forms, oldest first; an appended field adds a form. Examples depend on the
place and type of a field only, so they do not change when an enumeration grows.
`python -m tests.support.golden` prints the file with the forms that are missing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from domain.chain import BlockRef
from domain.events import EVENT_TYPES, Payload, SignatureSet, encode_payload

GOLDEN_FILE = Path(__file__).parent.parent / "unit" / "golden_events.json"

TIME = 1_700_000_000_000_000
SIGNATURES = SignatureSet(bytes(64), b"\x01" * 64, b"\x02" * 64, b"\x03" * 64)

SPECIAL: dict[str, Any] = {
    "st06.descriptors": ((7, "wpkh(key)", b"\x00\x14" + bytes(20)),),
    "fu02.buckets": ((2**48 - 1, b"\x0b" * 32), (2**48 - 2, b"\x0c" * 32)),
}
"""Fields whose example is not made from the type alone."""


def example(event: type[Payload]) -> Payload:
    """An event whose fields are all set, with values that differ by position."""
    info = msgspec.inspect.type_info(event)
    assert isinstance(info, msgspec.inspect.StructType)
    hints = {field.name: field for field in info.fields}
    values = {
        name: SPECIAL.get(f"{event.TOPIC}.{name}", value_of(hints[name].type, place))
        for place, name in enumerate(event.__struct_fields__)
    }
    return event(**{**values, "recorded_at": TIME})


def value_of(kind: Any, place: int) -> Any:
    """A value of an inspected type."""
    match kind:
        case msgspec.inspect.UnionType():
            return value_of(next(t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)), place)
        case msgspec.inspect.BytesType():
            return bytes((place,)) * (kind.min_length or min(kind.max_length or 5, 5))
        case msgspec.inspect.StrType():
            return f"text {place}"
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.IntType():
            return 1_000 + place
        case msgspec.inspect.EnumType():
            return kind.cls(1)
        case msgspec.inspect.TupleType():
            return tuple(value_of(item, place + i) for i, item in enumerate(kind.item_types))
        case msgspec.inspect.VarTupleType():
            return (value_of(kind.item_type, place),)
        case msgspec.inspect.StructType():
            return SIGNATURES if kind.cls is SignatureSet else BlockRef(800_000 + place, bytes((place,)) * 32)
        case _:
            raise TypeError(f"no example for {kind}")


EXAMPLES: dict[str, Payload] = {event.TOPIC: example(event) for event in EVENT_TYPES}


def main() -> None:
    """Print the golden file, completed."""
    forms: dict[str, list[str]] = json.loads(GOLDEN_FILE.read_text()) if GOLDEN_FILE.exists() else {}
    for topic, event in EXAMPLES.items():
        present = encode_payload(event).hex()
        if present not in forms.setdefault(topic, []):
            forms[topic].append(present)
    sys.stdout.write(json.dumps(forms, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
