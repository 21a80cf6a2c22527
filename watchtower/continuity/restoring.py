"""A tower from a backup: unpacked, proved, compared with the high-water file, and if wanted accepted as it is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from watchtower.backup import BackupError, Manifest, restore
from watchtower.config import Settings
from watchtower.config.sections import StoreSettings
from watchtower.continuity.rollback import Acceptance, HighWaterUnwritten, accept_rollback
from watchtower.store.high_water import HighWater, HighWaterDamaged, read_high_water, write_high_water

MARK = "high-water"
"""Name of the mark in a data directory."""


class Restored(msgspec.Struct, frozen=True):
    """What came back. `high_water` is None if nobody knows how far the log had come; `missing` is what it lacks.

    `epoch` and `channels` (that wait for their owners) are told once the rollback was accepted.
    """

    directory: str
    log_id: str
    events: int
    secrets: int
    head: str
    high_water: int | None
    missing: int
    epoch: int | None = None
    channels: int | None = None


def restore_tower(settings: Settings, file: Path, directory: Path, passphrase: bytes, *, accept: bool) -> Restored:
    """Unpack a tower's backup to a new or empty directory; all of it appears at once, or nothing.

    The high-water file of the settings says whether the copy is an older one. `accept` opens the next epoch in it;
    without that the tower starts, protects, and signs nothing until somebody has decided.
    Raises `BackupError`, `BackupCorrupt`, `WrongPassphrase` or `StoreError`.
    """
    mark = _mark_of(settings)
    accepted: list[Acceptance] = []

    def prepare(staged: Path, manifest: Manifest) -> None:
        _require_same_log(manifest, mark, settings)
        if accept:
            accepted.append(_accept(settings, staged, mark, f"backup {file.name}"))
        elif not settings.store.high_water_path:
            _leave_mark(staged / MARK, mark, file)

    manifest = restore(file, directory, passphrase, prepare)
    assert manifest.log is not None
    if accepted:
        _copy_mark(directory / MARK, settings.store.high_water_path)
    high_water = None if mark is None else mark.position
    return Restored(
        directory=str(directory),
        log_id=manifest.log.log_id,
        events=manifest.log.last_id,
        secrets=manifest.secrets,
        head=manifest.log.head,
        high_water=high_water,
        missing=max(0, (high_water or 0) - manifest.log.last_id),
        epoch=accepted[0].epoch if accepted else None,
        channels=accepted[0].channels if accepted else None,
    )


def _mark_of(settings: Settings) -> HighWater | None:
    """The mark of the settings; one that cannot be read is as good as none, because the operator says what is true."""
    try:
        return read_high_water(Path(settings.high_water_path))
    except HighWaterDamaged:
        return None


def _require_same_log(manifest: Manifest, mark: HighWater | None, settings: Settings) -> None:
    if manifest.kind != "tower" or manifest.log is None:
        raise BackupError("this is no backup of a tower with its log; `watchtower keys restore` unpacks others")
    if mark is not None and mark.log_id.hex() != manifest.log.log_id:
        raise BackupError(
            f"this is a backup of another tower's log ({manifest.log.origin}, {manifest.log.log_id}); "
            f"{settings.high_water_path} belongs to {mark.origin}. Give the --config of that tower"
        )


def _accept(settings: Settings, staged: Path, mark: HighWater | None, source: str) -> Acceptance:
    """In the copy, before it has its name: a crash leaves nothing half accepted."""
    here = msgspec.structs.replace(settings, data_dir=str(staged), store=StoreSettings())
    if mark is not None:
        write_high_water(staged / MARK, mark)
    done = accept_rollback(here, source, always=True)
    for name in ("events.db.lock", "events.db-wal", "events.db-shm"):
        (staged / name).unlink(missing_ok=True)
    return done


def _leave_mark(path: Path, mark: HighWater | None, file: Path) -> None:
    """Beside the copy, so that its tower notices what it lacks; if nobody knows how far the log had come, that."""
    if mark is not None:
        write_high_water(path, mark)
        return
    path.write_text(f"unknown, restored from {file.name}\n", encoding="utf-8")
    path.chmod(0o600)


def _copy_mark(made: Path, configured: str) -> None:
    """Where the settings want the mark elsewhere than in the data directory."""
    mark = read_high_water(made)
    if not configured or mark is None:
        return
    try:
        write_high_water(Path(configured), mark)
    except OSError as error:
        raise HighWaterUnwritten(
            f"the log was restored, but {configured} could not be written ({error.strerror})"
        ) from None
    made.unlink()
