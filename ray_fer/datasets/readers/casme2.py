"""CASME II: spontaneous micro-expressions at 200 fps (Yan et al. 2014), from its coding sheet and frame folders.

The sheet writes ``/`` where there is no apex, and sides into AU strings (``4+L10``).
"""

from __future__ import annotations

import re
from pathlib import Path

from ray_fer.datasets.readers.micro import Sheet, read_micro
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import Reading


def _subject(text: str) -> str | None:
    match = re.fullmatch(r"(?:sub)?(\d{1,2})", text.strip(), re.ASCII | re.IGNORECASE)
    return f"sub{int(match.group(1)):02d}" if match else None


SHEET = Sheet(
    dataset="casme2",
    sheets=("CASME2-coding*.xlsx", "CASME2-coding*.csv"),
    folders=("Cropped", "Cropped-updated/Cropped", "CASME2_RAW_selected", "CASME2_RAW", "CASME2-RAW"),
    onset="OnsetFrame",
    apex="ApexFrame",
    offset="OffsetFrame",
    no_apex=("/", ""),
    subject=_subject,
    clip=lambda subject, name: f"{subject}/{name}",
)


def read_casme2(root: Path, options: ReadOptions) -> Reading:
    """Read CASME II. `labels`: ethnicmer (default, 157 clips), megc (145) or emotions."""
    return read_micro(SHEET, root, options)
