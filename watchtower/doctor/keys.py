"""Files with secrets: there, and for nobody else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from watchtower.config.fields import all_fields
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok, warn
from watchtower.host.hygiene import PRIVATE_FILES, Exposed, exposed
from watchtower.keystore import PASSPHRASE_NAME


def look(case: Case) -> Iterator[Finding]:
    """Findings about the data directory, the configuration file, and the files that name secrets."""
    directory = case.data_dir
    if not directory.is_dir():
        yield fail("keys.directory", f"{directory} does not exist", "run `watchtower init`, or set data_dir")
        return
    yield from _permissions(directory)
    yield from _present(case, directory)
    yield from _configuration_file(case)
    yield from _secret_files(case)


def _permissions(directory: Path) -> Iterator[Finding]:
    """With one of these `watchtower run` does not start."""
    found = list(exposed(directory, (*PRIVATE_FILES, "keystore")))
    for path, mode, wanted in found:
        what = f"{path} may be opened by others (mode {mode:04o})"
        yield fail("keys.permissions", what, f"run: chmod {wanted:o} {path}")
    if not found:
        yield ok("keys.permissions", f"nobody else may open {directory} and the keys in it")


def _present(case: Case, directory: Path) -> Iterator[Finding]:
    settings = case.settings
    wanted = {"keys.keystore": (Path(settings.keystore_path), "without it nothing can be punished")}
    if settings.tower_key is None:
        wanted["keys.tower_key"] = (directory / "tower.key", "it is the tower's identity")
    if settings.keystore.passphrase is None:
        wanted["keys.passphrase"] = (directory / PASSPHRASE_NAME, "it opens the keystore; or set keystore.passphrase")
    for check, (path, why) in wanted.items():
        if not path.is_file():
            yield fail(check, f"{path} does not exist", f"restore it from a backup: {why}")
        elif not os.access(path, os.R_OK):
            yield fail(check, f"{path} cannot be read by this user", "run as the user of the tower")
        else:
            yield ok(check, f"{path.name} is there")


def _configuration_file(case: Case) -> Iterator[Finding]:
    """A configuration in another directory, which the start does not look at; it may hold the node's password."""
    path = Path(case.loaded.path) if case.loaded.path else None
    if path is None or path.parent == case.data_dir:
        return
    in_it = [field.name for field in all_fields() if field.secret and case.loaded.sources[field.name] == str(path)]
    if in_it and (mode := _mode(path)) & 0o077:
        what = f"{path} may be read by others (mode {mode:04o}) and holds {', '.join(in_it)}"
        yield fail("keys.configuration", what, f"run: chmod 600 {path}")


def _secret_files(case: Case) -> Iterator[Finding]:
    for field in all_fields():
        path = case.environ.get(field.variable + "_FILE", "")
        if field.secret and path and (mode := _mode(Path(path))) & 0o007:
            what = f"{path} ({field.variable}_FILE) may be read by everybody (mode {mode:04o})"
            yield warn("keys.secret_files", what, f"run: chmod o= {path}")


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise Exposed(f"{path} cannot be looked at ({error.strerror})") from None
