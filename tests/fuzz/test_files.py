"""Files that come from elsewhere: keystores, backups, snapshots of logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import CHAIN_STREAM, decode_payload, envelopes
from tests.fuzz.mutations import changed, near, read_or_none
from tests.support.golden import GOLDEN_FILE
from watchtower.backup.errors import BackupCorrupt
from watchtower.backup.sealed_file import SealedReader, SealedWriter
from watchtower.keystore import FileKeystore, KeystoreCorrupt, KeystoreError, WrongPassphrase
from watchtower.keystore.sealing import Header
from watchtower.ports import StoreError
from watchtower.store.create import create_store, open_store
from watchtower.store.snapshot import check_snapshot, take_snapshot

PASSPHRASE, NAME, SECRET = b"good words", b"\x01" * 32, b"\x02" * 32
CONTENT = b"a line\n" + bytes(range(256)) * 4
COST = 2
BLOCKS = [
    (topic, bytes.fromhex(forms[-1]))
    for topic, forms in json.loads(GOLDEN_FILE.read_text()).items()
    if topic.startswith("bk")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files of this module."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def keystore(folder: Path) -> bytes:
    """A keystore with one secret."""
    store = FileKeystore.create(folder / "whole", PASSPHRASE, cost=COST)
    store.put(NAME, SECRET)
    store.close()
    return (folder / "whole").read_bytes()


@pytest.fixture(scope="module")
def sealed(folder: Path) -> bytes:
    """A sealed file with one frame."""
    with (folder / "sealed").open("wb") as file:
        writer = SealedWriter(file, PASSPHRASE, COST)
        writer.write(CONTENT)
        writer.finish()
    return (folder / "sealed").read_bytes()


def written(path: Path, content: bytes) -> Path:
    """A private file with this content."""
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@given(data=st.data())
def test_changed_keystores_never_give_another_secret(keystore: bytes, folder: Path, data: st.DataObject) -> None:
    """A typed refusal, or a keystore that has the secret or lost its last line: a line that was never acknowledged."""
    path = written(folder / "changed", data.draw(near(keystore)))

    found = read_or_none(
        lambda each: FileKeystore.open_copy(each, PASSPHRASE).get(NAME), path, (KeystoreCorrupt, WrongPassphrase)
    )

    assert found in (None, SECRET)


FORGED: dict[str, dict[str, Any]] = {
    "no rounds": {"n": 1},
    "an odd number of rounds": {"n": 3},
    "lanes without end": {"p": 2**20},
    "blocks without end": {"r": 2**20},
    "memory without end": {"n": 2**20, "r": 64},
    "salt that is no number": {"salt": "xx"},
    "salt that is short": {"salt": "00"},
    "key that is no number": {"data_key": "zz" * 60},
    "key that is short": {"data_key": "00" * 20},
    "key that is long": {"data_key": "00" * 90},
    "name that is no number": {"file_id": "é"},
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("fault", FORGED)
def test_forged_headers_are_refused_before_any_work(keystore: bytes, folder: Path, fault: str) -> None:
    """The checksum of the first line is no secret; its fields must be bearable all the same."""
    line, _, rest = keystore.partition(b"\n")
    header = msgspec.structs.replace(msgspec.json.decode(line, type=Header), **FORGED[fault])
    forged = msgspec.json.encode(msgspec.structs.replace(header, check=header.checksum()))
    path = written(folder / "forged", forged + b"\n" + rest)

    with pytest.raises(KeystoreError):
        FileKeystore.open_copy(path, PASSPHRASE)


def test_a_deep_header_is_refused(folder: Path) -> None:
    """Depth is damage like any other."""
    path = written(folder / "deep", b'{"format":' + b"[" * 100_000 + b"\n")
    with pytest.raises(KeystoreCorrupt):
        FileKeystore.open_copy(path, PASSPHRASE)


def unsealed(path: Path) -> bytes:
    """The whole content of a sealed file."""
    with path.open("rb") as file:
        reader = SealedReader.open(file, PASSPHRASE)
        content = reader.line() + b"\n" + b"".join(reader.pieces(len(CONTENT) - 7))
        reader.require_end()
        return content


@given(data=st.data())
@settings(max_examples=40)
def test_changed_backups_never_give_other_content(sealed: bytes, folder: Path, data: st.DataObject) -> None:
    """A typed refusal, or exactly what was saved."""
    path = written(folder / "changed-backup", data.draw(near(sealed)))
    found = read_or_none(unsealed, path, (BackupCorrupt, WrongPassphrase))
    assert found in (None, CONTENT)


@pytest.fixture(scope="module")
def log(folder: Path) -> bytes:
    """A log with an event of each kind about blocks, as a copy that nobody writes."""
    create_store(
        folder / "events.db",
        origin="test/tower",
        chain_hash=bytes(32),
        log_id=bytes(16),
        stream_key=bytes(32),
        recorded_at=1_700_000_000_000_000,
    )
    store = open_store(folder / "events.db")
    store.append(envelopes(CHAIN_STREAM, 0, [decode_payload(topic, form) for topic, form in BLOCKS]))
    store.close()
    take_snapshot(folder / "events.db", folder / "copy.db")
    return (folder / "copy.db").read_bytes()


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=max(60, settings().max_examples // 4))
def test_changed_logs_are_refused_or_the_same(log: bytes, folder: Path, data: st.DataObject) -> None:
    """A typed refusal that names what is wrong, or exactly the log that was copied."""
    whole = check_snapshot(folder / "copy.db")
    path = written(folder / "changed.db", data.draw(changed([log])))

    found = read_or_none(check_snapshot, path, (StoreError,))

    assert found in (None, whole)
