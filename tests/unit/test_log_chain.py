"""The published vectors of the log's hashes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.log_chain import entry, first_head, leaf, leaves, next_head

LOG_ID = bytes(range(16))
STREAM = "cAAECAwQFBgcICQoLDA0ODw"
STATE = bytes.fromhex("930102c403616263")
LEAF_0 = "5c9495aac4ccbdc30923362f6adc016649eb36ecd92e0900465b34dd86ebc5b1"
LEAF_1 = "ad9c8dbcf730993f16eca8153c9a6e952cec2588f0e8566d351dac915a00dc4a"
HEAD_0 = "a241b658021d914a255b02a53b06b6a1fec033d89618c47dd5acb03edebfb117"


def test_entry_has_the_published_bytes() -> None:
    """An entry is magic, stream, version, topic and the hash of the state."""
    expected = (
        "77746c6f672f763101176341414543417751464267634943516f4c4441304f4477000000000000000700047374303100000008"
        "d9598b2fefede6b2b9cbecd09ae69bab147708f475f2add766da9dba013aa910"
    )

    assert expected == entry(STREAM, 7, "st01", STATE).hex()


def test_leaves_have_the_published_hashes() -> None:
    """Leaf 0 is an empty `lg01`, leaf 1 a `st01`."""
    assert [LEAF_0, LEAF_1] == [leaf("log", 1, "lg01", b"").hex(), leaf(STREAM, 7, "st01", STATE).hex()]


@given(
    st.lists(
        st.tuples(st.integers(), st.text(max_size=60), st.integers(0, 2**64 - 1), st.text(max_size=9), st.binary()),
        max_size=8,
    )
)
def test_many_leaves_are_those_of_each(events: list[tuple[int, str, int, str, bytes]]) -> None:
    """The fast way gives the same bytes, also for names that are no ASCII."""
    assert b"".join(leaf(*event[1:]) for event in events) == leaves(events)


def test_first_head_binds_origin_and_log_id() -> None:
    """The head before the first commit."""
    assert HEAD_0 == first_head("tower.example/log1", LOG_ID, 0, 1, bytes(32)).hex()


def test_heads_after_two_commits() -> None:
    """Two commits of one event each."""
    first = next_head(bytes.fromhex(HEAD_0), 0, 1, bytes.fromhex(LEAF_0))
    second = next_head(first, 1, 2, bytes.fromhex(LEAF_1))

    assert "1f660f6cd903ecfce71c8956af1062ea4278f8fb9228bb6c773edd93dcfc132e" == first.hex()
    assert "277d94dea42f4a6b41f3590224789814c6df30c268ffcb14676ebfb4d2024dce" == second.hex()


def test_head_after_one_commit_of_two_events() -> None:
    """The same events in one commit give another head: the grouping is bound."""
    head = next_head(bytes.fromhex(HEAD_0), 0, 1, bytes.fromhex(LEAF_0 + LEAF_1))

    assert "9ae243aaaf33ef7c49d2ab2f05df54da719f48d503153dadec10d1e10431e834" == head.hex()
