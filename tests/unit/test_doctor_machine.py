"""The doctor's look at files, disk and addresses: each defect is planted, found, mended and gone."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import astuple

from domain.chain import chain_hash
from projections import open_breaches
from projections.catalog import PROJECTIONS
from projections.open_breaches import OpenBreachRow
from tests.support.doctoring import NOW, SoundNode, doctored, findings, levels
from watchtower.backup.shelf import Shelf
from watchtower.config import ConfigError, Settings
from watchtower.devnode.launch import free_ports
from watchtower.doctor import backups, configuration, disk, keys, listeners, notifications, overview, store
from watchtower.doctor.examine import GROUPS, examine, examine_settings, guarded
from watchtower.doctor.finding import Diagnosis, Finding, fail, ok, warn
from watchtower.ports import NodeUnavailable
from watchtower.store.create import create_store
from watchtower.store.places import open_log_reader
from watchtower.store.views import SqliteRows

FREE = {"STATE_CHANNEL_API__LISTEN": "127.0.0.1:0", "STATE_CHANNEL_ADMIN__LISTEN": "127.0.0.1:0"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The files of a new tower. The keystore is only a file of that name: sealing one takes seconds."""
    found = tmp_path / "tower"
    found.mkdir(mode=0o700)
    create_store(
        found / "events.db",
        origin="watchtower/regtest/doctor",
        chain_hash=chain_hash("regtest"),
        log_id=bytes(16),
        stream_key=bytes(32),
        recorded_at=int(NOW * 1e6),
    )
    settings = f'network = "regtest"\ndata_dir = "{found}"\n[node]\nrpc_cookie_path = "/nowhere/.cookie"\n'
    settings += f'[api]\ntoken_hash = "{"00" * 32}"\n'
    for name, text in {"config.toml": settings, "tower.key": "", "keystore": "", "keystore.passphrase": ""}.items():
        (found / name).touch(mode=0o600)
        (found / name).write_text(text)
    return found


def test_a_new_tower_has_no_failure(home: Path) -> None:
    """All groups run; what is missing is said as a warning."""
    found = Diagnosis(tuple(examine(doctored(home, environ=FREE))))

    assert [] == [finding for finding in found.findings if finding.level == "fail"]
    assert 0 == found.exit_code
    assert set(GROUPS) - {"server"} == {finding.group for finding in found.findings}


def test_every_finding_that_is_none_says_how_to_mend_it(home: Path) -> None:
    """One line each, whatever is wrong."""
    found = list(examine(doctored(home, node=SoundNode(down=NodeUnavailable("away")), environ=FREE)))

    assert [] == [each for each in found if (each.level == "ok") != (each.mend == "")]
    assert [] == [each for each in found if "\n" in each.what + each.mend]


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────

KEY_DEFECTS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object], str, str]] = {
    "an open directory": (
        lambda home: home.chmod(0o755),
        lambda home: home.chmod(0o700),
        "keys.permissions",
        "chmod 700",
    ),
    "an open key": (
        lambda home: (home / "tower.key").chmod(0o640),
        lambda home: (home / "tower.key").chmod(0o600),
        "keys.permissions",
        "chmod 600",
    ),
    "an open keystore": (
        lambda home: (home / "keystore").chmod(0o644),
        lambda home: (home / "keystore").chmod(0o600),
        "keys.permissions",
        "chmod 600",
    ),
    "no keystore": (
        lambda home: (home / "keystore").rename(home / "away"),
        lambda home: (home / "away").rename(home / "keystore"),
        "keys.keystore",
        "restore it",
    ),
    "no tower key": (
        lambda home: (home / "tower.key").rename(home / "away"),
        lambda home: (home / "away").rename(home / "tower.key"),
        "keys.tower_key",
        "restore it",
    ),
    "no passphrase": (
        lambda home: (home / "keystore.passphrase").rename(home / "away"),
        lambda home: (home / "away").rename(home / "keystore.passphrase"),
        "keys.passphrase",
        "keystore.passphrase",
    ),
}


@pytest.mark.parametrize("defect", KEY_DEFECTS)
def test_a_defect_of_the_keys_comes_and_goes(home: Path, defect: str) -> None:
    """Found, mended, gone."""
    plant, mend, check, words = KEY_DEFECTS[defect]
    before = levels(keys.look(doctored(home)))

    plant(home)
    found = findings(keys.look(doctored(home)))[check]
    mend(home)

    assert ("ok", "fail") == (before[check], found.level)
    assert words in found.mend
    assert before == levels(keys.look(doctored(home)))


def test_a_configuration_elsewhere_with_a_password_is_looked_at(home: Path, tmp_path: Path) -> None:
    """The start looks at the data directory alone."""
    other = tmp_path / "etc"
    other.mkdir()
    text = (home / "config.toml").read_text().replace("rpc_cookie_path", 'rpc_user = "u"\nrpc_password = "canary31"\n#')
    (other / "config.toml").write_text(text)
    (other / "config.toml").chmod(0o644)

    found = findings(keys.look(doctored(other)))["keys.configuration"]
    (other / "config.toml").chmod(0o600)

    assert ("fail", True) == (found.level, "node.rpc_password" in found.what)
    assert "canary31" not in found.what
    assert "keys.configuration" not in levels(keys.look(doctored(other)))


def test_a_file_with_a_secret_that_everybody_reads_is_told(home: Path, tmp_path: Path) -> None:
    """A file of a `_FILE` variable; that of a group is how containers do it."""
    secret = tmp_path / "passphrase"
    secret.write_text("x\n")
    environ = {"STATE_CHANNEL_KEYSTORE__PASSPHRASE_FILE": str(secret)}
    secret.chmod(0o644)

    found = levels(keys.look(doctored(home, environ=environ)))
    secret.chmod(0o640)

    assert "warn" == found["keys.secret_files"]
    assert "keys.secret_files" not in levels(keys.look(doctored(home, environ=environ)))


# ── listeners ────────────────────────────────────────────────────────────────────────────────────────────

EXPOSURES: dict[str, tuple[Mapping[str, str], str, str]] = {
    "metrics for all": ({"STATE_CHANNEL_ADMIN__LISTEN": "0.0.0.0:0"}, "listeners.admin_exposed", "fail"),
    "metrics for tokens": (
        {"STATE_CHANNEL_ADMIN__LISTEN": "[::]:0", "STATE_CHANNEL_ADMIN__REQUIRE_TOKEN": "true"},
        "listeners.admin_exposed",
        "warn",
    ),
    "the page for all": (
        {
            "STATE_CHANNEL_ADMIN__LISTEN": "0.0.0.0:0",
            "STATE_CHANNEL_ADMIN__REQUIRE_TOKEN": "true",
            "STATE_CHANNEL_ADMIN__PAGE": "open",
        },
        "listeners.admin_exposed",
        "fail",
    ),
    "API for all": ({"STATE_CHANNEL_API__LISTEN": "0.0.0.0:0"}, "listeners.api_exposed", "warn"),
    "API at a name": ({"STATE_CHANNEL_API__LISTEN": "tower.example:0"}, "listeners.api_exposed", "warn"),
    "a header that anybody writes": (
        {"STATE_CHANNEL_API__LISTEN": "0.0.0.0:0", "STATE_CHANNEL_API__TRUST_FORWARDED_FOR": "true"},
        "listeners.forwarded",
        "warn",
    ),
    "open and without limits": (
        {"STATE_CHANNEL_POLICY__REGISTRATION": "open"},
        "listeners.registration",
        "warn",
    ),
}


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_what_is_open_to_others_is_told(home: Path, exposure: str) -> None:
    """On loopback none of it is a finding."""
    environ, check, level = EXPOSURES[exposure]

    assert level == levels(listeners.look(doctored(home, environ=FREE | environ)))[check]
    assert {"ok"} == set(levels(listeners.look(doctored(home, environ=FREE))).values())


def test_a_port_that_another_program_has_is_told(home: Path) -> None:
    """With the setting to change; when it is free again there is no finding."""
    (port,) = free_ports(1)
    environ = FREE | {"STATE_CHANNEL_API__LISTEN": f"127.0.0.1:{port}"}
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))  # nobody listens, so that nobody is waited for
        found = findings(listeners.look(doctored(home, environ=environ)))["listeners.api"]

    assert ("fail", True) == (found.level, "api.listen" in found.mend)
    assert "ok" == levels(listeners.look(doctored(home, environ=environ)))["listeners.api"]


def test_nobody_who_may_use_the_api_is_told(home: Path) -> None:
    """A tower without a token and without a party."""
    text = (home / "config.toml").read_text()
    (home / "config.toml").write_text("\n".join(line for line in text.splitlines() if "token_hash" not in line))

    assert "warn" == levels(listeners.look(doctored(home, environ=FREE)))["listeners.access"]


def test_a_broken_list_of_parties_is_told(home: Path) -> None:
    """While it is broken nobody is let in."""
    (home / "access.json").write_text("{")

    assert "fail" == levels(listeners.look(doctored(home, environ=FREE)))["listeners.access"]


# ── disk ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mount", "level"),
    [
        ("1 1 0:1 / / rw - nfs4 server:/x rw", "warn"),
        ("1 1 0:1 / / rw - fuse.sshfs x rw", "warn"),
        ("1 1 0:1 / / rw - tmpfs tmpfs rw", "warn"),
        ("1 1 0:1 / / rw - overlay overlay rw", "warn"),
        ("1 1 0:1 / / rw - ext4 /dev/sda rw", "ok"),
        ("1 1 0:1 / / rw - nfs4 s:/ rw\n2 1 8:1 / {home} rw - xfs /dev/sdb rw", "ok"),
    ],
    ids=["nfs", "sshfs", "memory", "container", "disk", "a disk in a network"],
)
def test_the_kind_of_file_system_is_judged(home: Path, mount: str, level: str) -> None:
    """That of the longest mount point that holds the log."""
    assert level == levels(disk.look(doctored(home, mounts=mount.format(home=home))))["disk.filesystem"]


def test_a_disk_without_barriers_is_told(home: Path) -> None:
    """What was acknowledged may be lost with the power."""
    assert (
        "warn"
        == levels(disk.look(doctored(home, mounts="1 1 8:1 / / rw - ext4 /dev/sda rw,nobarrier")))["disk.barriers"]
    )
    assert "disk.barriers" not in levels(disk.look(doctored(home)))


@pytest.mark.parametrize(("low", "reserve", "level"), [(1_048_576, 0, "warn"), (0, 65_536, "fail"), (0, 0, "ok")])
def test_little_space_is_told(home: Path, monkeypatch: pytest.MonkeyPatch, low: int, reserve: int, level: str) -> None:
    """Below the warning, and below the reserve."""
    usage = shutil.disk_usage(home)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage._replace(free=1 << 30))
    environ = {"STATE_CHANNEL_STORE__LOW_SPACE_MB": str(low), "STATE_CHANNEL_STORE__RESERVE_MB": str(reserve)}

    assert level == levels(disk.look(doctored(home, environ=environ)))["disk.space"]


@pytest.mark.parametrize(("seconds", "level"), [(1e-6, "warn"), (2e-3, "ok"), (1.5, "warn")])
def test_a_disk_that_lies_or_sleeps_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str
) -> None:
    """No disk keeps anything within a microsecond."""
    monkeypatch.setattr(disk, "sync_seconds", lambda _directory: seconds)

    assert level == levels(disk.look(doctored(home)))["disk.sync"]


def test_the_measurement_leaves_nothing_behind(home: Path) -> None:
    """A file without a name."""
    before = sorted(path.name for path in home.iterdir())

    assert 0 < disk.sync_seconds(home)
    assert before == sorted(path.name for path in home.iterdir())


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The advice is to make one."""
    (tmp_path / "config.toml").write_text(f'network = "regtest"\ndata_dir = "{tmp_path}/nowhere"\n')

    assert {"disk.directory": "fail"} == levels(disk.look(doctored(tmp_path)))
    assert {"keys.directory": "fail"} == levels(keys.look(doctored(tmp_path)))
    assert {"store.log": "fail"} == levels(store.look(doctored(tmp_path)))


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_log_without_its_triggers_is_told(home: Path) -> None:
    """Somebody edited the schema: events could be changed now."""
    with sqlite3.connect(home / "events.db") as opened:
        name = opened.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchone()[0]
        opened.execute(f"DROP TRIGGER {name}")
    opened.close()

    found = findings(store.look(doctored(home)))["store.triggers"]

    assert ("fail", True) == (found.level, name in found.what)


def test_a_log_that_is_not_in_wal_mode_is_told(home: Path) -> None:
    """Another program opened it and changed how it is kept."""
    opened = sqlite3.connect(home / "events.db")
    opened.execute("PRAGMA journal_mode = DELETE")
    opened.close()

    assert "fail" == levels(store.look(doctored(home)))["store.log"]


def test_a_file_that_is_no_log_is_told(home: Path) -> None:
    """Damage, or another database."""
    (home / "events.db").write_bytes(b"no database" * 1000)

    found = findings(store.look(doctored(home)))["store.log"]

    assert ("fail", True) == (found.level, "restore a backup" in found.mend)


def test_a_log_of_another_network_is_told(home: Path) -> None:
    """The tower would not start with it."""
    assert "fail" == levels(store.look(doctored(home, environ={"STATE_CHANNEL_NETWORK": "signet"})))["store.network"]


def test_a_log_behind_its_mark_is_told(home: Path) -> None:
    """An older copy was restored."""
    with open_log_reader(doctored(home).settings) as log:
        log_id, origin = log.meta.log_id.hex(), log.meta.origin
    lines = [f"origin {origin}", f"log_id {log_id}", "epoch 0", "position 50", f"head {'00' * 32}"]
    (home / "high-water").write_text("\n".join(lines) + "\n")

    found = findings(store.look(doctored(home)))["store.high_water"]
    (home / "high-water").write_text("no mark")

    assert ("fail", True) == (found.level, "accept-rollback" in found.mend)
    assert "warn" == levels(store.look(doctored(home)))["store.high_water"]


def test_a_library_that_can_damage_a_log_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite from before the repair."""
    monkeypatch.setattr(store, "library_doubt", lambda: "SQLite 3.40.1 can damage a log")
    old = levels(store.look(doctored(home)))
    monkeypatch.setattr(store, "library_doubt", lambda: "")

    assert "warn" == old["store.library"]
    assert "store.library" not in levels(store.look(doctored(home)))


def test_the_look_takes_no_lock_and_changes_nothing(home: Path) -> None:
    """It may run beside the tower."""
    before = {path.name: path.read_bytes() for path in home.iterdir()}

    found = list(store.look(doctored(home)))

    after = {path.name: path.read_bytes() for path in home.iterdir() if not path.name.endswith(("-shm", "-wal"))}
    assert found
    assert before == after


# ── backups ──────────────────────────────────────────────────────────────────────────────────────────────


def backed_up(home: Path, directory: Path) -> dict[str, Finding]:
    """Findings with this directory of backups."""
    environ = {"STATE_CHANNEL_BACKUP__DIRECTORY": str(directory)}
    return findings(backups.look(doctored(home, environ=environ)))


def test_a_tower_without_backups_is_told(home: Path, tmp_path: Path) -> None:
    """No directory is set, or it is not there."""
    assert {"backups.directory": "warn"} == levels(backups.look(doctored(home)))
    assert "warn" == backed_up(home, tmp_path / "nowhere")["backups.directory"].level


def test_the_age_of_the_newest_backup_is_judged(home: Path, tmp_path: Path) -> None:
    """None, an old one, a fresh one; those of other towers do not count."""
    shelf = tmp_path / "backups"
    shelf.mkdir()
    with open_log_reader(doctored(home).settings) as log:
        named = Shelf(shelf, log.meta.log_id)
    none = backed_up(home, shelf)
    named.path_for(int((NOW - 5 * 86_400) * 1e6)).touch()
    Shelf(shelf, b"another log     ").path_for(int(NOW * 1e6)).touch()
    old = backed_up(home, shelf)
    named.path_for(int((NOW - 3_600) * 1e6)).touch()
    fresh = backed_up(home, shelf)

    assert ("warn", "warn", "ok") == tuple(found["backups.age"].level for found in (none, old, fresh))
    assert "120 hours" in old["backups.age"].what
    assert "ok" == fresh["backups.directory"].level


def test_backups_on_the_disk_of_the_tower_are_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both would be lost together."""
    shelf = tmp_path / "backups"
    shelf.mkdir()
    same = backed_up(home, shelf)["backups.place"]
    plain = Path.stat

    class Elsewhere:
        st_dev = -1

    monkeypatch.setattr(Path, "stat", lambda path, **options: Elsewhere() if path == shelf else plain(path, **options))
    monkeypatch.setattr(Path, "is_dir", lambda _path: True)

    assert "warn" == same.level
    assert "ok" == findings([backups._place(doctored(home), shelf)])["backups.place"].level


def test_a_directory_of_backups_that_cannot_be_written_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so the system's answer is given here."""
    monkeypatch.setattr("watchtower.doctor.backups.os.access", lambda *_: False)

    assert "warn" == backed_up(home, tmp_path)["backups.directory"].level


# ── notifications and configuration ──────────────────────────────────────────────────────────────────────


def test_nobody_to_tell_is_told(home: Path) -> None:
    """Addresses of targets are secrets and are not shown."""
    hook = {
        "STATE_CHANNEL_NOTIFY__WEBHOOK_URL": "https://hook.example/canary88",
        "STATE_CHANNEL_NOTIFY__WEBHOOK_SECRET": "0123456789abcdef",
    }
    found = list(notifications.look(doctored(home, environ=hook)))

    assert {"notifications.targets": "warn"} == levels(notifications.look(doctored(home)))
    assert {"notifications.targets": "ok"} == levels(found)
    assert "canary88" not in repr(found)


def test_targets_with_which_no_tower_starts_are_a_failure(home: Path) -> None:
    """`watchtower run` would end with the same words."""
    hook = {
        "STATE_CHANNEL_NOTIFY__WEBHOOK_URL": "https://hook.example/canary88",
        "STATE_CHANNEL_NOTIFY__WEBHOOK_SECRET": "0123456789abcdef",
        "STATE_CHANNEL_NOTIFY__CA_PATH": str(home / "gone.pem"),
    }
    (found,) = notifications.look(doctored(home, environ=hook))

    assert ("fail", True) == (found.level, "notify.ca_path" in found.what)


def test_settings_that_are_allowed_but_unwise_are_told(home: Path) -> None:
    """With what to do about each."""
    environ = {"STATE_CHANNEL_FUNDING_THRESHOLD": "10000"}

    found = findings(configuration.look(doctored(home, environ=environ)))["configuration.warnings"]

    assert ("warn", "set 20000 or more") == (found.level, found.mend)
    assert "configuration.warnings" not in levels(configuration.look(doctored(home)))


def test_settings_that_cannot_be_used_are_findings_too() -> None:
    """The nearest known name is the way to mend it."""
    refused = configuration.refused(
        ConfigError(["STATE_CHANNEL_NETWROK is no setting; did you mean STATE_CHANNEL_NETWORK?"])
    )

    assert "did you mean STATE_CHANNEL_NETWORK?" == refused[0].mend
    assert 2 == Diagnosis(tuple(refused)).exit_code


# ── the whole visit ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ((ok("node.version", ""),), 0),
        ((warn("disk.space", "", ""),), 0),
        ((fail("keys.permissions", "", ""),), 3),
        ((fail("node.reachable", "", ""), fail("keys.permissions", "", "")), 4),
        ((fail("server.reachable", "", ""),), 4),
        ((fail("configuration.values", "", ""), fail("node.reachable", "", "")), 2),
    ],
)
def test_the_exit_code_says_what_is_worst(found: tuple[Finding, ...], code: int) -> None:
    """Settings first, then who cannot be reached, then the rest."""
    assert code == Diagnosis(found).exit_code


def test_a_group_that_stumbles_hides_no_other(home: Path) -> None:
    """An odd answer of a node is a finding itself."""
    odd = SoundNode()
    odd.changes = {"getblockchaininfo": {"blocks": "many"}}

    found = levels(examine(doctored(home, node=odd, environ=FREE)))

    assert "fail" == found["node.examined"]
    assert "ok" == found["store.log"]
    assert {"x.examined": "fail"} == levels(guarded("x", (int("no") for _ in "a")))  # type: ignore[misc]


def test_checking_settings_asks_no_node(home: Path) -> None:
    """`watchtower config check` is over at once."""
    asked = SoundNode()

    found = levels(examine_settings(doctored(home, node=asked, environ=FREE)))

    assert {"ok"} == set(found.values())
    assert [] == asked.asked


# ── what `status` and `top` show ─────────────────────────────────────────────────────────────────────────


def test_the_most_urgent_breaches_are_those_that_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; one that is answered is no emergency. Without its channel it is told by its stream."""
    monkeypatch.setattr(overview, "BREACHES", 2)
    (tmp_path / "views.db").touch()
    rows = SqliteRows(tmp_path / "views.db")
    rows.create(bytes(16), PROJECTIONS)
    deadlines = {"ca": (300, None), "cb": (290, None), "cc": (None, None), "cd": (250, 200), "ce": (260, None)}
    marks = ", ".join("?" * len(open_breaches.TABLE.columns))
    stored = [astuple(_breach(stream, *found)) for stream, found in deadlines.items()]
    rows.replace(f"INSERT INTO open_breaches VALUES ({marks})", stored)
    rows.close()

    found = overview.open_now(Settings(network="regtest", data_dir=str(tmp_path)), 200)

    assert [("ce", 60), ("cb", 90)] == [(each.channel_id, each.left) for each in found]


def _breach(stream: str, deadline: int | None, penalty_height: int | None) -> OpenBreachRow:
    fields: dict[str, object] = dict.fromkeys(open_breaches.TABLE.columns, 0)
    ids = dict.fromkeys(("commit_txid", "contest", "spk"), bytes(32))
    absent = dict.fromkeys(("lost_txid", "lost_height"))
    own = {"stream": stream, "deadline": deadline, "penalty_height": penalty_height}
    return OpenBreachRow(**(fields | ids | absent | own))  # type: ignore[arg-type]
