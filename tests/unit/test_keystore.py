"""The encrypted keystore: what it keeps, what it refuses, what never leaves it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.keystore import MemoryKeystore
from watchtower.keystore import (
    FileKeystore,
    KeystoreConflict,
    KeystoreCorrupt,
    KeystoreError,
    KeystoreLocked,
    KeystoreMissing,
    WrongPassphrase,
    read_passphrase,
)
from watchtower.ports import Keystore

PASSPHRASE = b"correct horse"
NAME, OTHER = b"\x01" * 32, b"\x02" * 32
SECRET = bytes.fromhex("c0ffee" * 10 + "aabb")
CHEAP = 2**4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Path of an empty keystore."""
    path = tmp_path / "keystore"
    FileKeystore.create(path, PASSPHRASE, cost=CHEAP).close()
    return path


def test_a_secret_survives_closing(path: Path) -> None:
    """What was put is got back by the next process."""
    store = FileKeystore.open(path, PASSPHRASE)
    store.put(NAME, SECRET)
    store.close()

    reopened = FileKeystore.open(path, PASSPHRASE)

    assert reopened.get(NAME) == SECRET
    assert reopened.get(OTHER) is None


def test_the_same_secret_again_changes_nothing(path: Path) -> None:
    """Putting twice is a no-op on disk."""
    store = FileKeystore.open(path, PASSPHRASE)
    store.put(NAME, SECRET)
    size = path.stat().st_size

    store.put(NAME, SECRET)

    assert path.stat().st_size == size


def test_another_secret_under_a_name_is_refused(path: Path) -> None:
    """A secret is never replaced."""
    store = FileKeystore.open(path, PASSPHRASE)
    store.put(NAME, SECRET)

    with pytest.raises(KeystoreConflict, match="never replaced"):
        store.put(NAME, bytes(32))

    assert store.get(NAME) == SECRET


def test_wrong_passphrase(path: Path) -> None:
    """A wrong passphrase is told apart from damage."""
    with pytest.raises(WrongPassphrase, match="passphrase"):
        FileKeystore.open(path, b"wrong")


def test_missing_file_names_the_remedy(tmp_path: Path) -> None:
    """A missing file says where to get it from: `init` would not make one beside an existing log."""
    with pytest.raises(KeystoreMissing, match=r"restore it from a backup.*watchtower init"):
        FileKeystore.open(tmp_path / "none", PASSPHRASE)


def test_create_never_overwrites(path: Path) -> None:
    """An existing keystore is not replaced by an empty one."""
    with pytest.raises(KeystoreError, match="exists already"):
        FileKeystore.create(path, PASSPHRASE, cost=CHEAP)


def test_of_two_that_create_at_the_same_moment_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one finds the name taken when it gives its file the name; the first keystore keeps its secret."""
    path, link = tmp_path / "keystore", os.link

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        first = FileKeystore.create(path, PASSPHRASE, cost=CHEAP)
        first.put(NAME, SECRET)
        first.close()
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    with pytest.raises(KeystoreError, match="exists already"):
        FileKeystore.create(path, b"another", cost=CHEAP)

    assert SECRET == FileKeystore.open(path, PASSPHRASE).get(NAME)
    assert [path] == list(tmp_path.iterdir())


def test_a_file_system_without_links_takes_a_keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on USB sticks: the file is renamed instead."""

    def unknown(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unknown)
    FileKeystore.create(tmp_path / "keystore", PASSPHRASE, cost=CHEAP).close()

    assert [tmp_path / "keystore"] == list(tmp_path.iterdir())


def test_second_opening_is_refused(path: Path) -> None:
    """Two writers would tear the file."""
    first = FileKeystore.open(path, PASSPHRASE)

    with pytest.raises(KeystoreLocked, match="in use"):
        FileKeystore.open(path, PASSPHRASE)

    first.close()


def test_file_is_private(path: Path) -> None:
    """The file is readable by its owner only, and an exposed file is refused."""
    assert path.stat().st_mode & 0o777 == 0o600

    path.chmod(0o644)

    with pytest.raises(KeystoreError, match="chmod 600"):
        FileKeystore.open(path, PASSPHRASE)


@pytest.mark.parametrize("spoil", range(0, 700, 7))
def test_every_flipped_bit_is_noticed(path: Path, spoil: int) -> None:
    """Damage anywhere is a typed error, never a wrong secret."""
    store = FileKeystore.open(path, PASSPHRASE)
    store.put(NAME, SECRET)
    store.put(OTHER, SECRET)
    store.close()
    content = bytearray(path.read_bytes())
    # The last newline is not part of a line: without it the line counts as never acknowledged.
    content[spoil % (len(content) - 1)] ^= 0x01
    path.write_bytes(content)

    with pytest.raises((KeystoreCorrupt, WrongPassphrase)):
        FileKeystore.open(path, PASSPHRASE)


def test_exchanged_and_missing_lines_are_noticed(path: Path) -> None:
    """A line is bound to its position."""
    store = FileKeystore.open(path, PASSPHRASE)
    store.put(NAME, SECRET)
    store.put(OTHER, SECRET)
    store.close()
    header, first, second = path.read_bytes().splitlines(keepends=True)

    path.write_bytes(header + second + first)
    with pytest.raises(KeystoreCorrupt, match="line 2"):
        FileKeystore.open(path, PASSPHRASE)

    path.write_bytes(header + second)
    with pytest.raises(KeystoreCorrupt, match="line 2"):
        FileKeystore.open(path, PASSPHRASE)


def test_torn_last_line_is_dropped(path: Path) -> None:
    """A write that was cut off was never acknowledged; the next secret takes its place."""
    store = FileKeystore.open(path, PASSPHRASE)
    store.put(NAME, SECRET)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole + OTHER.hex().encode() + b" 00ff")

    reopened = FileKeystore.open(path, PASSPHRASE)

    assert path.read_bytes() == whole
    reopened.put(OTHER, SECRET)
    assert reopened.get(OTHER) == SECRET


def test_failed_write_is_reported_and_stops_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fsync the keystore takes nothing more until it was read again."""
    store = FileKeystore.open(path, PASSPHRASE)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(KeystoreError, match="No space left"):
            store.put(NAME, SECRET)

    assert store.get(NAME) is None
    with pytest.raises(KeystoreError, match="restart"):
        store.put(OTHER, SECRET)


def test_erased_secrets_are_gone_and_others_stay(path: Path) -> None:
    """Erasing rewrites the file without the secret."""
    store = FileKeystore.open(path, PASSPHRASE)
    store.put(NAME, SECRET)
    store.put(OTHER, bytes(32))

    store.erase([NAME])
    store.put(b"\x03" * 32, SECRET)
    store.close()

    reopened = FileKeystore.open(path, PASSPHRASE)
    assert reopened.names() == {OTHER, b"\x03" * 32}
    assert NAME.hex().encode() not in path.read_bytes()


def test_a_killed_process_keeps_what_was_acknowledged(path: Path) -> None:
    """A secret is on disk when `put` returns, also if the process dies at once."""
    program = (
        "import sys, os, signal; from pathlib import Path; from watchtower.keystore import FileKeystore\n"
        f"s = FileKeystore.open(Path({str(path)!r}), {PASSPHRASE!r}); s.put({NAME!r}, {SECRET!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )

    subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2])

    assert FileKeystore.open(path, PASSPHRASE).get(NAME) == SECRET


def test_secrets_are_neither_in_the_file_nor_in_texts(path: Path) -> None:
    """Neither file, repr nor error shows a secret or the passphrase."""
    store = FileKeystore.open(path, PASSPHRASE)
    store.put(NAME, SECRET)
    with pytest.raises(KeystoreConflict) as refusal:
        store.put(NAME, SECRET[::-1])
    shown = (repr(store) + repr(vars(store)) + str(refusal.value)).encode() + path.read_bytes()

    assert SECRET not in shown
    assert SECRET.hex().encode() not in shown
    assert PASSPHRASE not in shown


def test_passphrase_file(tmp_path: Path) -> None:
    """One trailing newline does not belong to the passphrase; an empty file is refused."""
    file = tmp_path / "passphrase"
    file.write_bytes(b"secret \n")
    assert read_passphrase(file) == b"secret "

    file.write_bytes(b"\n")
    with pytest.raises(KeystoreError, match="1 to 4096"):
        read_passphrase(file)


@pytest.fixture(params=["file", "memory"])
def either(request: pytest.FixtureRequest, path: Path) -> Keystore:
    """The real keystore and its fake: both keep the contract of the port."""
    return FileKeystore.open(path, PASSPHRASE) if request.param == "file" else MemoryKeystore()


def test_contract_of_the_port(either: Keystore) -> None:
    """Absent is None, a value comes back, the same again is a no-op, another value is refused."""
    assert either.get(NAME) is None

    either.put(NAME, SECRET)
    either.put(NAME, SECRET)
    with pytest.raises(KeystoreConflict):
        either.put(NAME, SECRET[::-1])

    assert (either.get(NAME), either.get(OTHER)) == (SECRET, None)
