"""What the store remembers about the last versions of its streams."""

from __future__ import annotations

from watchtower.store import versions
from watchtower.store.versions import StreamVersions


class Rows:
    """A database that counts the questions."""

    def __init__(self, **versions: int) -> None:
        self.versions = versions
        self.questions = 0

    def read(self, stream: str) -> int:
        """The stored version."""
        self.questions += 1
        return self.versions.get(stream, 0)


def test_a_stream_is_asked_for_once() -> None:
    """The second question is answered from memory."""
    rows = Rows(c1=4)
    known = StreamVersions(rows.read)

    assert (4, 4, 1) == (known.get("c1"), known.get("c1"), rows.questions)


def test_a_commit_is_known_without_a_question() -> None:
    """What was committed here need not be read."""
    rows = Rows()
    known = StreamVersions(rows.read)

    known.note({"c1": 2})

    assert (2, 0) == (known.get("c1"), rows.questions)


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    """A note that comes late leaves the higher number."""
    known = StreamVersions(Rows().read)
    known.note({"c1": 7})

    known.note({"c1": 6})

    assert 7 == known.get("c1")


def test_a_stream_in_doubt_is_read_again() -> None:
    """After a commit that may have happened only the database knows."""
    rows = Rows(c1=3)
    known = StreamVersions(rows.read)
    known.note({"c1": 2})

    known.forget(["c1", "c9"])

    assert 3 == known.get("c1")


def test_the_memory_is_bounded() -> None:
    """Beyond the capacity the oldest stream is asked for again."""
    rows = Rows(c0=1)
    known = StreamVersions(rows.read)
    known.note({f"c{number}": 1 for number in range(versions.CAPACITY + 1)})

    assert (1, 1) == (known.get("c0"), rows.questions)
