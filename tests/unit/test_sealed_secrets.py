"""The compact table of sealed secrets, beside a dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watchtower.keystore.sealed import SealedSecrets

NAMES = st.tuples(st.sampled_from([b"\x00" * 4, b"\x01" * 4, b"\xff" * 4]), st.binary(min_size=28, max_size=28))
"""Many of them begin alike."""

ENTRIES = st.dictionaries(NAMES.map(b"".join), st.binary(min_size=29, max_size=92), max_size=30)


@given(ENTRIES, st.integers(0, 30), st.binary(min_size=31, max_size=33))
def test_it_finds_what_a_dictionary_finds(entries: dict[bytes, bytes], loaded: int, stranger: bytes) -> None:
    """Some lines are read at once, the others come one by one; positions are those of the lines."""
    table, lines = SealedSecrets(), list(entries.items())
    for name, sealed in lines[:loaded]:
        table.append(name, sealed)
    assert 0 == table.sort()
    for name, sealed in lines[loaded:]:
        table.add(name, sealed)

    assert {name: (place, sealed) for place, (name, sealed) in enumerate(lines, start=1)} == {
        name: table.get(name) for name in entries
    }
    assert (lines, list(entries), len(lines)) == (list(table.items()), list(table), len(table))
    assert (stranger in entries) is (table.get(stranger) is not None)


@given(ENTRIES.filter(bool), st.integers(0, 30))
def test_a_doubled_name_is_found(entries: dict[bytes, bytes], which: int) -> None:
    """With the position of the second line."""
    table, names = SealedSecrets(), list(entries)
    for name, sealed in [*entries.items(), (names[which % len(names)], b"again")]:
        table.append(name, sealed)

    assert len(names) + 1 == table.sort()
