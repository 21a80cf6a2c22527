"""Where events stand in the log: what receipts say about them."""

import pytest

from domain.log_chain import HASH_SIZE
from watchtower.ports import Place
from watchtower.store import place as places
from watchtower.store.place import CommitRow, RecentCommits, find_commit


def leaf_of(event_id: int) -> bytes:
    """A leaf that tells its event."""
    return event_id.to_bytes(HASH_SIZE, "big")


def row(first: int, count: int) -> CommitRow:
    """The commit of `count` events from `first` on; its head tells the last one."""
    last = first + count - 1
    return CommitRow(last, last.to_bytes(32, "little"), b"".join(leaf_of(each) for each in range(first, last + 1)))


ROWS = [row(1, 1), row(2, 3), row(5, 1), row(6, 7), row(13, 2)]


@pytest.mark.parametrize("event_id", range(1, 15))
def test_every_event_is_found_in_its_commit(event_id: int) -> None:
    """The leaf is that of the event, the head that of the commit that holds it; memory and search agree."""
    recent = RecentCommits()
    for each in ROWS:
        recent.note(each)
    found = find_commit(lambda number: ROWS[number - 1], len(ROWS), event_id)

    assert found is not None
    assert found.first_id <= event_id <= found.last_id
    assert Place(event_id, leaf_of(event_id), found.head) == found.place(event_id)
    assert found.place(event_id) == recent.place(event_id)


@pytest.mark.parametrize("event_id", range(1, 15))
def test_a_commit_of_earlier_is_found_by_halves(event_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the newest commits, which are looked at one by one, nothing is passed over."""
    monkeypatch.setattr(places, "NEWEST", 1)
    recent = RecentCommits()
    for each in ROWS:
        recent.note(each)
    found = next(each for each in ROWS if event_id <= each.last_id)

    assert Place(event_id, leaf_of(event_id), found.head) == recent.place(event_id)


@pytest.mark.parametrize("event_id", [-1, 0, 15, 1_000])
def test_an_event_that_does_not_exist_is_not_found(event_id: int) -> None:
    """Neither in memory nor by the search."""
    recent = RecentCommits()
    for each in ROWS:
        recent.note(each)

    assert recent.place(event_id) is None
    assert find_commit(lambda number: ROWS[number - 1], len(ROWS), event_id) is None


def test_a_chain_with_a_missing_row_answers_nothing() -> None:
    """The search ends instead of guessing."""
    assert find_commit(lambda _number: None, 5, 3) is None


def test_only_the_newest_commits_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped beyond the limit of leaves; the newest stays however large it is."""
    monkeypatch.setattr(places, "RECENT_LEAVES", 4)
    recent = RecentCommits()
    recent.note(row(1, 2))
    recent.note(row(3, 2))
    recent.note(row(5, 1))

    assert recent.place(2) is None
    assert recent.place(3) is not None
    recent.note(row(6, 9))
    assert recent.place(5) is None
    assert recent.place(14) is not None


def test_the_search_takes_few_steps() -> None:
    """A million commits: twenty rows are read."""
    asked: list[int] = []

    def read(number: int) -> CommitRow:
        asked.append(number)
        return row(number, 1)

    find_commit(read, 1_000_000, 765_432)

    assert len(asked) <= 20
