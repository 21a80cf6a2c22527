"""Where the closed segments of a log are: in a directory beside its file, each as a file or, packed, as a directory."""

from __future__ import annotations

from pathlib import Path


def segments_directory(log: Path) -> Path:
    """The directory of the closed segments of a log file."""
    return log.with_name(log.name + ".segments")


def segment_file(log: Path, number: int) -> Path:
    """The closed segment as a database."""
    return segments_directory(log) / f"{number:06}.db"


def segment_archive(log: Path, number: int) -> Path:
    """The closed segment as an archive."""
    return segments_directory(log) / f"{number:06}"
