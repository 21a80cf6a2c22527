"""`watchtower keys` on a tower's and on a party's directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.parties import open_pair
from tests.support.towers import Bench
from watchtower.cli import _main
from watchtower.client.party.home import create_home, export_seed
from watchtower.keystore import FileKeystore, KeystoreError, WrongPassphrase, read_passphrase
from watchtower.new_tower import NewTower, create
from watchtower.store.create import open_store

pytestmark = pytest.mark.slow

OWN = b"chosen by its owner"


@pytest.fixture
def tower(tmp_path: Path) -> NewTower:
    """A new tower."""
    return create(tmp_path / "tower", tmp_path / "tower" / "config.toml", "regtest")


def cli(tower: NewTower, *arguments: str, text: bytes | None = None) -> Result:
    """Run a command on this tower."""
    words = ["--config", str(tower.config_path), "keys", *arguments]
    return CliRunner().invoke(_main, words, input=text, catch_exceptions=False)


def document(result: Result) -> dict[str, object]:
    """The JSON document of a successful command."""
    assert 0 == result.exit_code, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def file_with(path: Path, passphrase: bytes) -> str:
    """A passphrase file."""
    path.write_bytes(passphrase + b"\n")
    return str(path)


def test_a_random_passphrase_replaces_the_one_of_init(tower: NewTower) -> None:
    """Keystore and file beside it change together; the output holds no passphrase."""
    before = read_passphrase(tower.passphrase_path)

    told = cli(tower, "passphrase", "--cost", "16", "--json")

    after = read_passphrase(tower.passphrase_path)
    assert {"keystore", "cost", "passphrase_file"} == set(document(told))
    assert before != after
    assert after.decode() not in told.output
    FileKeystore.open(tower.data_dir / "keystore", after).close()
    with pytest.raises(WrongPassphrase):
        FileKeystore.open(tower.data_dir / "keystore", before)


def test_own_passphrases_come_through_one_pipe(tower: NewTower, tmp_path: Path) -> None:
    """Old and new one, a line each; afterwards the file beside is not the source and is left as it was."""
    old = read_passphrase(tower.passphrase_path)

    words = ("passphrase", "--passphrase-file", "-", "--new-passphrase-file", "-", "--cost", "16")
    told = cli(tower, *words, text=old + b"\n" + OWN + b"\n")

    assert 0 == told.exit_code
    assert "before the next start" in told.output
    FileKeystore.open(tower.data_dir / "keystore", OWN).close()
    assert 0 == cli(tower, "check", "--passphrase-file", file_with(tmp_path / "own", OWN)).exit_code


def test_a_passphrase_from_elsewhere_needs_a_new_one(tower: NewTower, tmp_path: Path) -> None:
    """The command does not invent a passphrase that nobody would know."""
    old = file_with(tmp_path / "old", read_passphrase(tower.passphrase_path))

    with pytest.raises(KeystoreError, match="--new-passphrase-file"):
        cli(tower, "passphrase", "--passphrase-file", old)


def test_credential_of_the_service_manager(tower: NewTower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$CREDENTIALS_DIRECTORY/keystore.passphrase opens the keystore like any other source of the setting."""
    FileKeystore.open(tower.data_dir / "keystore", read_passphrase(tower.passphrase_path)).change_passphrase(
        OWN, cost=16
    )
    file_with(tmp_path / "keystore.passphrase", OWN)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert 0 == document(cli(tower, "check", "--json"))["secrets"]


@pytest.mark.slow
def test_backup_restore_and_check(tower: NewTower, tmp_path: Path) -> None:
    """One file that opens with the passphrase, unpacks to a new directory, and is described without secrets."""
    saved, again = str(tmp_path / "saved"), tmp_path / "again"

    made = document(cli(tower, "backup", saved, "--json"))
    checked = document(cli(tower, "check", "--backup", saved, "--json"))
    back = document(cli(tower, "restore", saved, str(again), "--passphrase-file", str(tower.passphrase_path), "--json"))

    assert ("tower", 0, 1) == (made["kind"], made["secrets"], made["events"])
    assert made == checked == back | {"path": saved}
    assert ["api.token", "config.toml", "events.db", "keystore", "tower.key"] == made["files"]
    assert (again / "tower.key").read_text() == (tower.data_dir / "tower.key").read_text()


def test_a_missing_key_is_named(tower: NewTower, tmp_path: Path) -> None:
    """A watched channel without its secret ends the check with 1."""
    pair = open_pair()
    store = open_store(tower.data_dir / "events.db")
    bench = Bench(tmp_path, store=store)  # type: ignore[arg-type]
    bench.registered(pair)
    bench.rows.close()
    store.close()

    told = cli(tower, "check", "--json")

    assert 1 == told.exit_code
    assert [pair.channel_id.hex()] == json.loads(told.stdout)["missing"]


def test_a_party_is_meant_with_home(tower: NewTower, tmp_path: Path) -> None:
    """Passphrase, backup and restore of a party's directory; its seed survives all three."""
    home, saved = tmp_path / "alice", str(tmp_path / "alice-saved")
    create_home(home, "regtest", OWN, cost=16)
    seed, own = export_seed(home, OWN), file_with(tmp_path / "own", OWN)

    place = ("--home", str(home), "--passphrase-file")
    assert (
        0 == cli(tower, "passphrase", *place, own, "--new-passphrase-file", file_with(tmp_path / "b", b"b")).exit_code
    )
    made = document(cli(tower, "backup", saved, *place, str(tmp_path / "b"), "--json"))
    cli(tower, "restore", saved, str(tmp_path / "again"), text=b"b\n")

    assert ("party", ["keystore", "party.db"]) == (made["kind"], made["files"])
    assert seed == export_seed(tmp_path / "again", b"b")


def test_no_command_takes_a_secret_as_argument(tower: NewTower) -> None:
    """Secrets come from files and standard input only: arguments of a process can be read by everybody."""
    for verb in ("passphrase", "backup", "restore", "check"):
        told = cli(tower, verb, "--help").output
        assert "--passphrase-file" in told
        assert "--passphrase " not in told
