"""Change of passphrase: old or new opens the keystore, whatever moment the process dies in."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from watchtower.cli.places import find_passphrase
from watchtower.keystore import (
    FileKeystore,
    KeystoreError,
    KeystoreLocked,
    WrongPassphrase,
    open_with_file,
    read_passphrase_line,
    replace_passphrase,
)

OLD, NEW = b"old passphrase", b"new passphrase"
NAME, SECRET = b"\x01" * 32, b"\x07" * 32
CHEAP = 2**4


class Died(BaseException):
    """The process ends here."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keystore with one secret and its passphrase file."""
    store = FileKeystore.create(tmp_path / "keystore", OLD, cost=CHEAP)
    store.put(NAME, SECRET)
    store.close()
    (tmp_path / "keystore.passphrase").write_bytes(OLD + b"\n")
    return tmp_path / "keystore"


def die_at(number: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the `number`-th call that changes the disk end the process; returns the count of calls."""
    calls = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                raise Died
            return function(*arguments, **named)

        return call

    for name in ("fsync", "write"):
        patch.setattr(os, name, counted(getattr(os, name)))
    patch.setattr(Path, "replace", counted(Path.replace))
    return lambda: calls


def test_only_the_new_passphrase_opens_after_a_change(path: Path) -> None:
    """The secret stays, the old passphrase ends, the cost is the chosen one, and the lock is still held."""
    store = FileKeystore.open(path, OLD)

    store.change_passphrase(NEW, cost=2**5)

    with pytest.raises(KeystoreLocked):
        FileKeystore.open(path, NEW)
    store.put(b"\x02" * 32, b"later")
    store.close()
    with pytest.raises(WrongPassphrase):
        FileKeystore.open(path, OLD)
    again = FileKeystore.open(path, NEW)
    assert (SECRET, b"later", 2**5) == (again.get(NAME), again.get(b"\x02" * 32), again.cost)


def test_nothing_of_the_old_sealing_stays(path: Path) -> None:
    """Salt, file id, data key and sealed lines are all fresh: the old file and the old passphrase help nobody."""
    before = path.read_bytes()
    store = FileKeystore.open(path, OLD)

    store.change_passphrase(OLD)

    old_lines, new_lines = before.splitlines(), path.read_bytes().splitlines()
    assert len(old_lines) == len(new_lines)
    assert [True, True] == [old != new for old, new in zip(old_lines, new_lines, strict=True)]
    assert SECRET == store.get(NAME)


@pytest.mark.parametrize("number", range(1, 11))
def test_a_crash_leaves_a_keystore_that_its_passphrase_file_opens(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Death at each of the writes, syncs and renames; the next opening works without a hand."""
    file = path.with_name("keystore.passphrase")
    store = FileKeystore.open(path, OLD)
    with monkeypatch.context() as patch:
        die_at(number, patch)
        with pytest.raises(Died):
            replace_passphrase(store, file, NEW, None)
    store.close()

    found = find_passphrase(path.parent, None)
    again = open_with_file(path, file)

    assert SECRET == FileKeystore.open_copy(path, found).get(NAME)
    assert SECRET == again.get(NAME)
    again.close()
    assert SECRET == FileKeystore.open_copy(path, file.read_bytes().removesuffix(b"\n")).get(NAME)


def test_the_crash_test_reaches_every_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change makes ten calls that change the disk: none is left out above."""
    store = FileKeystore.open(path, OLD)

    with monkeypatch.context() as patch:
        calls = die_at(0, patch)
        replace_passphrase(store, path.with_name("keystore.passphrase"), NEW, None)

    assert 10 == calls()
    assert NEW + b"\n" == path.with_name("keystore.passphrase").read_bytes()
    assert ["keystore", "keystore.passphrase"] == sorted(file.name for file in path.parent.iterdir())


def test_a_full_disk_is_told_and_the_old_passphrase_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed write changes nothing, and the keystore takes no more writes until it is opened again."""
    store = FileKeystore.open(path, OLD)

    def full(_descriptor: int, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(KeystoreError, match="No space left"):
            store.change_passphrase(NEW)

    assert SECRET == store.get(NAME)
    with pytest.raises(KeystoreError, match="restart"):
        store.put(b"\x02" * 32, SECRET)
    store.close()
    assert SECRET == FileKeystore.open(path, OLD).get(NAME)


def test_a_copy_is_read_while_another_process_writes(path: Path) -> None:
    """Reading needs no lock, sees what was acknowledged, drops a torn end without touching it, and writes nothing."""
    writer = FileKeystore.open(path, OLD)
    whole = path.read_bytes()
    path.write_bytes(whole + b"00 11")

    copy = FileKeystore.open_copy(path, OLD)

    assert SECRET == copy.get(NAME)
    assert whole == copy.content()
    assert whole + b"00 11" == path.read_bytes()
    with pytest.raises(KeystoreError, match="closed"):
        copy.put(b"\x02" * 32, SECRET)
    writer.close()


@pytest.mark.parametrize("cost", [0, 1, 3, 2**21])
def test_a_cost_that_could_not_be_opened_again_is_refused(path: Path, cost: int) -> None:
    """A cost is a power of two with at most 1 GiB of memory."""
    store = FileKeystore.open(path, OLD)

    with pytest.raises(KeystoreError, match="power of two"):
        store.change_passphrase(NEW, cost=cost)

    store.close()
    assert SECRET == FileKeystore.open(path, OLD).get(NAME)


def test_passphrases_from_standard_input() -> None:
    """One line each, so two can come through one pipe; an empty line and an endless one are refused."""
    pipe = io.BytesIO(b"first one\nsecond one")
    assert (b"first one", b"second one") == (read_passphrase_line(pipe), read_passphrase_line(pipe))

    for refused in (b"", b"\n", b"x" * 5000):
        with pytest.raises(KeystoreError, match="1 to 4096"):
            read_passphrase_line(io.BytesIO(refused))


def test_a_passphrase_that_a_file_cannot_hold_is_refused(path: Path) -> None:
    """A newline at the end would be cut off when the file is read."""
    store = FileKeystore.open(path, OLD)

    with pytest.raises(KeystoreError, match="newline"):
        replace_passphrase(store, path.with_name("keystore.passphrase"), b"two\n\n", None)
