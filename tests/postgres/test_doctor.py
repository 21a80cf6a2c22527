"""The doctor's look at a database server: each defect comes and goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.doctoring import doctored, findings
from tests.support.postgres import PostgresServer
from watchtower.doctor import server
from watchtower.doctor.finding import Finding

DEFECTS = {
    "commits that are not synced": (
        "ALTER ROLE tower SET synchronous_commit = off",
        "ALTER ROLE tower RESET synchronous_commit",
        "server.synchronous_commit",
        "synchronous_commit = on",
    ),
    "too many rights": (
        "GRANT DELETE ON watchtower.wt_events TO tower",
        "REVOKE DELETE ON watchtower.wt_events FROM tower",
        "server.rights",
        "only append",
    ),
    "a guard that sleeps": (
        "ALTER TABLE watchtower.wt_events DISABLE TRIGGER events_no_change",
        "ALTER TABLE watchtower.wt_events ENABLE ALWAYS TRIGGER events_no_change",
        "server.triggers",
        "docs/postgresql.md",
    ),
}


def looked_at(home: Path, url: str) -> dict[str, Finding]:
    """Findings about the server of this address."""
    (home / "config.toml").write_text(f'network = "regtest"\ndata_dir = "{home}"\n[store]\nurl = "{url}"\n')
    return findings(server.look(doctored(home)))


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_of_the_server_comes_and_goes(
    postgres: PostgresServer, database: str, log_url: str, tmp_path: Path, defect: str
) -> None:
    """Found, mended, gone."""
    plant, mend, check, words = DEFECTS[defect]
    before = looked_at(tmp_path, log_url)
    with postgres.connect(database) as owner:
        owner.execute(plant)
        try:
            found = looked_at(tmp_path, log_url)
        finally:
            owner.execute(mend)

    assert {"server.reachable": "ok", "server.durability": "ok"} == {name: each.level for name, each in before.items()}
    assert ("fail", True) == (found[check].level, words in found[check].mend)
    assert before == looked_at(tmp_path, log_url)


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    """Nobody listens at port 1; the password is not in the finding."""
    found = looked_at(tmp_path, "postgresql://tower@127.0.0.1:1/log")["server.reachable"]

    assert ("fail", True) == (found.level, "start the server" in found.mend)


def test_a_database_without_a_log_is_told(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """The schema is not there."""
    found = looked_at(tmp_path, postgres.url(database))

    assert {"fail"} == {each.level for name, each in found.items() if name != "server.reachable"}
    assert "watchtower store migrate" in found["server.schema"].mend
