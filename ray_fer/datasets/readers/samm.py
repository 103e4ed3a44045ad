"""SAMM: spontaneous micro-movements at 200 fps (Davison et al. 2018), from its FACS sheet and frame folders.

The sheet has twelve rows of text above its header, and writes -1 where there is no apex.
"""

from __future__ import annotations

import re
from pathlib import Path

from ray_fer.datasets.readers.micro import Sheet, read_micro
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import Reading


def _subject(text: str) -> str | None:
    return text.strip().zfill(3) if re.fullmatch(r"\d{1,3}", text.strip(), re.ASCII) else None


SHEET = Sheet(
    dataset="samm",
    sheets=("SAMM_Micro_FACS_Codes*.xlsx", "SAMM_Micro_FACS_Codes*.csv"),
    folders=("SAMM", "samm", "."),
    onset="Onset Frame",
    apex="Apex Frame",
    offset="Offset Frame",
    no_apex=("-1", ""),
    subject=_subject,
    clip=lambda subject, name: f"{subject}/{name}",
)


def read_samm(root: Path, options: ReadOptions) -> Reading:
    """Read SAMM. `labels`: ethnicmer (default) and megc give the same 133 clips, emotions all 159."""
    return read_micro(SHEET, root, options)
