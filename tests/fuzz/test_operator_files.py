"""Files that an operator hands in: exports, receipts, high-water marks, invoices, the configuration, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.contract.receipts import SignedReceipt
from domain.errors import MalformedInput
from tests.fuzz.mutations import changed, near, read_or_none
from tests.support.exports import exported, long_log
from watchtower.client.errors import ConfigurationError
from watchtower.client.payments.invoices import read_bolt11
from watchtower.config import ConfigError, example_toml, load
from watchtower.doctor.overview import read_samples
from watchtower.party.settings import read_settings
from watchtower.receipts.files import read_receipt_file
from watchtower.store.exports.manifest import Manifest, decode_manifest, encode_manifest
from watchtower.store.exports.records import ExportMalformed, decode_frame, split_records
from watchtower.store.exports.rows import read_commit, read_entry, write_commit
from watchtower.store.exports.signature import read_signature
from watchtower.store.high_water import HighWater, HighWaterDamaged

pytestmark = pytest.mark.slow

MARK = HighWater("created", bytes(16), 1, 700, bytes(32)).encode().encode()
RECEIPT = SignedReceipt(b"RCP2" + bytes(200), bytes(64)).encode().hex().encode() + b"\n"
SIGNATURE = b'{"tower":"' + b"79" * 32 + b'","signature":"' + b"00" * 64 + b'"}'
CONFIG = example_toml().replace("# network", "network").encode()
SAMPLES = (
    b"# TYPE watchtower_height gauge\nwatchtower_height 7.0\n# TYPE watchtower_x_total counter\nwatchtower_x_total 1\n"
)
INVOICE = (
    b"lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5"
    b"rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls0"
    b"87fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql"
)


class Export(NamedTuple):
    """An export, and pieces of its files."""

    raw: bytes
    manifest: Manifest
    frame: bytes
    entry: bytes
    commit: bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """An export of a log, read back."""
    directory = tmp_path_factory.mktemp("export")
    manifest = exported(long_log(directory), directory / "out")
    entries, commits = manifest.entries[0], manifest.commits[0]
    frame = (directory / "out" / entries.name).read_bytes()[: entries.frames[0].size]
    rows = (directory / "out" / commits.name).read_bytes()[: commits.frames[0].size]
    return Export(
        encode_manifest(manifest),
        manifest,
        frame,
        decode_frame(frame, entries.frames[0])[0],
        decode_frame(rows, commits.frames[0])[0],
    )


@given(data=st.data())
def test_manifests_have_one_form(made: Export, data: st.DataObject) -> None:
    """What is read is written back byte for byte; all else is refused as what it is."""
    foreign = data.draw(changed([made.raw]))
    found = read_or_none(decode_manifest, foreign, (ExportMalformed,))
    assert found is None or foreign == encode_manifest(found)


@given(data=st.data())
def test_frames_are_unpacked_or_refused(made: Export, data: st.DataObject) -> None:
    """However they are damaged, and without filling the memory."""
    first = made.manifest.entries[0].frames[0]
    found = read_or_none(lambda each: decode_frame(each, first), data.draw(near(made.frame)), (ExportMalformed,))
    assert found is None or first.records == len(found)


@given(data=st.data())
def test_rows_are_read_or_refused(made: Export, data: st.DataObject) -> None:
    """Entries and commits; a commit is written back."""
    read_or_none(read_entry, data.draw(near(made.entry)), (ExportMalformed,))
    foreign = data.draw(near(made.commit))
    commit = read_or_none(read_commit, foreign, (ExportMalformed,))
    assert commit is None or foreign == write_commit(commit)


@given(st.binary(max_size=200))
def test_records_are_taken_apart(foreign: bytes) -> None:
    """Whole ones, and what stands behind them."""
    records, rest = split_records(foreign)
    assert len(foreign) == rest + sum(4 + len(each) for each in records)


@given(near(SIGNATURE))
def test_signatures_of_exports_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, foreign: bytes) -> None:
    """None of them is good."""
    directory = tmp_path_factory.getbasetemp()
    (directory / "manifest.sig").write_bytes(foreign)
    found = read_or_none(lambda each: read_signature(each, b"manifest"), directory, (ExportMalformed,))
    assert found is None or found[1] is False


@given(near(MARK))
@example(MARK.replace(b"700", b"7" * 5_000))
@example(MARK.replace(b"700", "७".encode()))
def test_marks_have_one_form(foreign: bytes) -> None:
    """A damaged mark says so; nothing is guessed."""
    text = foreign.decode("utf-8", "replace")
    found = read_or_none(HighWater.decode, text, (HighWaterDamaged,))
    assert found is None or text == found.encode()


@given(near(RECEIPT))
def test_files_of_receipts_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, foreign: bytes) -> None:
    """With the number of the line."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.receipts"
    path.write_bytes(foreign)
    read_or_none(lambda each: list(read_receipt_file(each)), path, (MalformedInput,))


@given(near(INVOICE))
def test_changed_invoices_are_refused(foreign: bytes) -> None:
    """Its checksum lets no change through."""
    found = read_or_none(read_bolt11, foreign.decode("latin-1"))
    assert found is None or INVOICE == foreign.lower().removeprefix(b"lightning:").strip()


def loaded(path: Path) -> Any:
    """The settings of a file and nothing else."""
    return load({"STATE_CHANNEL_NETWORK": "regtest"}, config_path=str(path), home=path.parent)


@given(near(CONFIG, b"[api]\nlisten = '127.0.0.1:1'\n[node]\nrpc_url = 'http://x'\n"))
@example(b"a = " + b"[" * 100_000)
@example(b"a = " + b"{b=" * 100_000)
@example(b"a" + b".a" * 5_000 + b" = 1")
@example(b"timeout_ms = 1" + b"0" * 5_000)
@example(b"timeout_ms = inf")
@example(b"timeout_ms = 1e999")
@example(b"[api]\nlisten = 'a:" + b"9" * 5_000 + b"'")
def test_configurations_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, foreign: bytes) -> None:
    """With findings."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(foreign)
    read_or_none(loaded, path, (ConfigError,))


@given(near(CONFIG, b"[wallet]\nname = 'x'\n"))
@example(b"a = " + b"[" * 100_000)
@example(b"timeout_ms = 1" + b"0" * 5_000)
def test_settings_of_a_party_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, foreign: bytes) -> None:
    """As one sentence."""
    home = tmp_path_factory.getbasetemp()
    (home / "party.toml").write_bytes(foreign)
    read_or_none(read_settings, home, (ConfigurationError,))


@given(near(SAMPLES))
def test_metrics_are_read_or_nothing(foreign: bytes) -> None:
    """What another program answers at this address gives no numbers, and no error."""
    assert isinstance(read_samples(foreign.decode("latin-1")), dict)
