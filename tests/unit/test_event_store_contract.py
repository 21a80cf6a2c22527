"""The `EventStore` port: one suite for the fake and the real store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from domain.events import AlertCleared, AlertKind, Envelope, LogOpened, StateOffered, encode_payload
from domain.log_chain import leaf
from domain.units import Side
from tests.fakes.store import STREAM_KEY, MemoryEventStore
from watchtower.ports import StoreConflict, StoreError
from watchtower.store.create import create_store, open_store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A new store that holds `LogOpened` only."""
    if request.param == "memory":
        yield MemoryEventStore()
        return
    path = tmp_path / "log.db"
    create_store(path, origin="test/log", chain_hash=bytes(32), log_id=bytes(16), stream_key=STREAM_KEY, recorded_at=0)
    with open_store(path) as opened:
        yield opened


def note(stream: str, version: int, height: int = 0) -> Envelope:
    """A small event."""
    payload = AlertCleared(recorded_at=1, kind=AlertKind.SELF_BREACH, height=height)
    return Envelope(stream, version, AlertCleared.TOPIC, payload)


def test_a_new_log_starts_with_log_opened(store: Any) -> None:
    """The first event of a store says which log it is."""
    recorded = store.read_log(0, 10)

    assert [1] == [item.id for item in recorded]
    assert isinstance(recorded[0].envelope.payload, LogOpened)
    assert store.last_id() == 1


def test_appended_events_are_read_back_in_order(store: Any) -> None:
    """What append stored comes back from the stream and from the log."""
    job = [note("c1", 1), note("c1", 2, height=7), note("c2", 1)]

    last = store.append(job)

    assert last == 4
    assert store.read_stream("c1") == job[:2]
    assert store.read_stream("c1", after=1) == job[1:2]
    assert store.read_stream("c1", limit=1) == job[:1]
    assert [item.envelope for item in store.read_log(1, 10)] == job
    assert [item.id for item in store.read_log(2, 1)] == [3]


def test_version_is_the_last_one_of_the_stream(store: Any) -> None:
    """The version of a stream follows its appends and is not moved by refused ones."""
    before = store.version("c1")
    store.append([note("c1", 1), note("c1", 2), note("c2", 1)])
    with pytest.raises(StoreConflict):
        store.append([note("c1", 2, height=5), note("c1", 3)])

    assert 0 == before
    assert [2, 1, 0] == [store.version(stream) for stream in ("c1", "c2", "c3")]


def test_unknown_stream_is_empty(store: Any) -> None:
    """Reading a stream that does not exist is no error."""
    assert store.read_stream("c-none") == []


def test_ids_are_dense_over_conflicts(store: Any) -> None:
    """A refused job leaves no gap in the ids."""
    store.append([note("c1", 1)])
    with pytest.raises(StoreConflict):
        store.append([note("c1", 1, height=9)])

    assert store.append([note("c1", 2)]) == 3


@pytest.mark.parametrize("version", [1, 3])
def test_a_wrong_version_conflicts_and_names_the_right_one(store: Any, version: int) -> None:
    """A version that is taken, and one that leaves a gap, are refused with the actual version."""
    store.append([note("c1", 1)])

    with pytest.raises(StoreConflict) as caught:
        store.append([note("c1", version, height=9)])

    assert ("c1", version - 1, 1) == (caught.value.stream, caught.value.expected, caught.value.actual)
    assert store.last_id() == 2


def test_a_job_is_stored_whole_or_not_at_all(store: Any) -> None:
    """If one stream of a job conflicts, the other streams keep nothing."""
    store.append([note("c1", 1)])

    with pytest.raises(StoreConflict):
        store.append([note("c2", 1), note("c1", 1, height=5)])

    assert store.read_stream("c2") == []


def test_sending_the_same_job_again_gives_the_same_answer(store: Any) -> None:
    """A caller that lost the answer repeats the job and learns its id; nothing is stored twice."""
    job = [note("c1", 1), note("c2", 1)]
    first = store.append(job)
    store.append([note("c3", 1)])

    assert first == store.append(job)
    assert store.last_id() == first + 1


def test_the_same_keys_with_other_bytes_conflict(store: Any) -> None:
    """A repeated job that differs in one byte is a conflict."""
    store.append([note("c1", 1), note("c1", 2)])

    with pytest.raises(StoreConflict):
        store.append([note("c1", 1), note("c1", 2, height=1)])


def test_jobs_must_be_well_formed(store: Any) -> None:
    """Empty jobs, gaps inside a job, wrong topics and long names are refused before anything is written."""
    wrong_topic = Envelope("c1", 1, "pn02", note("c1", 1).payload)
    for job in ([], [note("c1", 1), note("c1", 3)], [wrong_topic], [note("c" * 65, 1)], [note("c1", 0)]):
        with pytest.raises(StoreError):
            store.append(job)

    assert store.last_id() == 1


def test_too_many_events_in_a_client_job_are_refused(store: Any) -> None:
    """A client's job has a limit that a block's job does not share."""
    job = [note("c1", version) for version in range(1, 1002)]

    with pytest.raises(StoreError):
        store.append(job)

    assert store.append(job, chain=True) == 1002


def test_too_large_an_event_is_refused(store: Any) -> None:
    """A payload above 1 MiB is refused."""
    payload = StateOffered(
        recorded_at=1,
        sequence=1,
        by=Side.A,
        header=bytes(320),
        balance_a=0,
        balance_b=0,
        conditions=bytes(1 << 20),
        state_data=b"",
    )

    with pytest.raises(StoreError):
        store.append([Envelope("c1", 1, StateOffered.TOPIC, payload)])


def test_stream_names_follow_the_vector(store: Any) -> None:
    """The name is the keyed hash of category and natural key."""
    assert store.stream_id("c", bytes([0x11]) * 32) == "c4MoLCQcOdA5Z2SLVP6vs_g"


def test_waiting_ends_with_the_next_commit(store: Any) -> None:
    """A follower sleeps until an event behind its position is committed."""
    before = store.last_id()
    assert store.wait_beyond(before, 0.01) is False
    answers: list[bool] = []
    follower = threading.Thread(target=lambda: answers.append(store.wait_beyond(before, 60)))
    follower.start()

    store.append([note("c1", 1)])
    follower.join()

    assert answers == [True]


def test_of_two_writers_of_one_version_exactly_one_wins(store: Any) -> None:
    """Threads that race for the next version: one is stored, the others conflict."""

    def attempt(height: int) -> str:
        try:
            store.append([note("c1", 1, height=height)])
        except StoreConflict:
            return "conflict"
        return "stored"

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(attempt, range(8)))

    assert ["conflict"] * 7 + ["stored"] == answers


def test_honest_jobs_do_not_fail_beside_conflicting_ones(store: Any) -> None:
    """Concurrent callers with own streams all succeed while others conflict in the same commits."""
    store.append([note("taken", 1)])

    def honest(name: int) -> int:
        return max(store.append([note(f"c{name}", version)]) for version in range(1, 21))

    def conflicting(height: int) -> int:
        refused = 0
        for _ in range(20):
            with pytest.raises(StoreConflict):
                store.append([note("taken", 1, height=height)])
            refused += 1
        return refused

    with ThreadPoolExecutor(16) as pool:
        stored = [pool.submit(honest, name) for name in range(12)]
        refused = [pool.submit(conflicting, height) for height in range(1, 5)]

    assert [20] * 4 == [future.result() for future in refused]
    assert max(future.result() for future in stored) == store.last_id() == 2 + 12 * 20
    assert [len(store.read_stream(f"c{name}")) for name in range(12)] == [20] * 12


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────


def test_every_event_has_its_place(store: Any) -> None:
    """Position is the notification id, the leaf that of the stored row; events of one commit share its head."""
    store.append([note("c1", 1), note("c2", 1)])
    store.append([note("c1", 2)])
    events = {event.id: event.envelope for event in store.read_log(0, 10)}

    places = {event_id: store.place(event_id) for event_id in events}

    assert list(events) == [place.position for place in places.values()]
    leaves = [leaf(e.stream, e.version, e.topic, encode_payload(e.payload)) for e in events.values()]
    assert leaves == [place.leaf for place in places.values()]
    assert places[2].head == places[3].head
    assert len({place.head for place in places.values()}) == 3
    assert [2, 3, 4] == [store.event_id(*key) for key in (("c1", 1), ("c2", 1), ("c1", 2))]


def test_what_is_not_stored_has_no_place(store: Any) -> None:
    """An id beyond the log is an error, a version that is not there is None."""
    assert store.event_id("c1", 1) is None
    with pytest.raises(StoreError):
        store.place(2)
