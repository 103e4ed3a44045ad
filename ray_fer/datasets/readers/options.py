"""What a user may tell a reader beside the root folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReadOptions:
    """Options of `ray-fer import`. Each reader says which ones it takes (`readers.READERS`); the others stay None."""

    variant: str | None = None
    """Which release's lists to read, where several are there."""
    lists: Path | None = None
    """Folder of the lists (or the coding sheet itself), where they do not lie below the root."""
    media: Path | None = None
    """Folder of the clips, where it is none of the usual ones below the root."""
    labels: str | None = None
    """Label map of micro-expressions: ethnicmer, megc or emotions."""
    label_map: Path | None = None
    """CSV with columns `label,expression`: what a user's own labels mean."""
    ethnicity: Path | None = None
    """Ethnic labels: of subjects (CASME II, SAMM), or of DFEW's clips (GCC-FER)."""
    images: Path | None = None
    """Where to write images that a release keeps inside a table (FER2013)."""
    dfew: Path | None = None
    """Root of DFEW, for the part of GCC-FER that is taken from it."""
    split_rule: str | None = None
    """EiLA: released, section-3.1 or group."""
