"""What a study leaves in its folder: figures for programs, a table to read, a picture to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ray_fer.evaluation.plots import png


def write_outcome(folder: Path, name: str, content: Mapping[str, Any], text: str, picture: Figure) -> list[Path]:
    """Write NAME.json, NAME.md and NAME.png; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.{kind}" for kind in ("json", "md", "png")]
    files[0].write_text(json.dumps(content, indent=1) + "\n")
    files[1].write_text(text)
    files[2].write_bytes(png(picture, files[2].name, "").data)
    return files
