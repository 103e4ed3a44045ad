"""One reader per dataset: from the files that a release really consists of to manifest rows.

`READERS` names them; `read` runs one. A reader maps labels through the named map of the file format that it found
(`ray_fer.datasets.label_maps`), and reports every row that it could not use with file and line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ray_fer.datasets.readers.afew import read_afew
from ray_fer.datasets.readers.casme2 import read_casme2
from ray_fer.datasets.readers.dfew import read_dfew
from ray_fer.datasets.readers.eila import read_eila
from ray_fer.datasets.readers.fer2013 import read_fer2013
from ray_fer.datasets.readers.ferv39k import read_ferv39k
from ray_fer.datasets.readers.gccfer import read_gccfer
from ray_fer.datasets.readers.mafw import read_mafw
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.readers.own import read_folder, read_own_csv
from ray_fer.datasets.readers.published import note_sizes
from ray_fer.datasets.readers.samm import read_samm
from ray_fer.datasets.readers.sfew import read_sfew
from ray_fer.datasets.reading import DatasetError, Reading


@dataclass(frozen=True)
class Reader:
    """A reader, what it reads, and the options of `ReadOptions` that it takes."""

    read: Callable[[Path, ReadOptions], Reading]
    summary: str
    options: tuple[str, ...] = ()


READERS: dict[str, Reader] = {
    "dfew": Reader(
        read_dfew, "DFEW: official lists, or those of s2d, dfer-clip, mae-dfer", ("variant", "lists", "media")
    ),
    "ferv39k": Reader(
        read_ferv39k, "FERV39k: official lists, or those of s2d, dfer-clip, mae-dfer", ("variant", "lists", "media")
    ),
    "mafw": Reader(
        read_mafw, "MAFW: official lists, or those of s2d, dfer-clip, mae-dfer", ("variant", "lists", "media")
    ),
    "afew": Reader(read_afew, "AFEW: folders by emotion, or Former-DFER's lists", ("variant", "lists", "media")),
    "fer2013": Reader(
        read_fer2013, "FER2013: CSV (with or without Usage), FER+ votes, or folders", ("variant", "lists", "images")
    ),
    "sfew": Reader(read_sfew, "SFEW 2: aligned faces in folders"),
    "casme2": Reader(read_casme2, "CASME II: coding sheet and frames", ("labels", "ethnicity", "lists", "media")),
    "samm": Reader(read_samm, "SAMM: FACS sheet and frames", ("labels", "ethnicity", "lists", "media")),
    "eila": Reader(read_eila, "EiLA: annotations, demographics and videos", ("split_rule", "lists", "media")),
    "gccfer": Reader(
        read_gccfer,
        "GCC-FER: sample folders or CSV, and DFEW by ethnicity",
        ("variant", "dfew", "ethnicity", "lists", "media"),
    ),
    "folder": Reader(read_folder, "your own: [train|val|test/]expression/clip", ("label_map",)),
    "csv": Reader(read_own_csv, "your own: a CSV of path,label and more", ("label_map",)),
}


def read(name: str, root: str | Path, **options: Any) -> Reading:
    """Read dataset `name` (a key of `READERS`) below `root`; `options` are the fields of `ReadOptions`.

    Raises DatasetError when nothing there can be read as that dataset, or an option does not belong to it. Rows that
    cannot be used are in the reading's report.
    """
    if name not in READERS:
        raise DatasetError(f"unknown dataset {name!r}; expected one of {', '.join(READERS)}")
    reader, root = READERS[name], Path(root)
    if not root.exists():
        raise DatasetError(f"{root}: no such file or folder")
    given = {key: value for key, value in options.items() if value is not None}
    strange = [key for key in given if key not in reader.options]
    if strange:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in reader.options) or "none"
        raise DatasetError(f"{name} does not take --{strange[0].replace('_', '-')}; its options: {flags}")
    paths = {field.name for field in fields(ReadOptions) if "Path" in str(field.type)}
    given = {key: Path(value) if key in paths else value for key, value in given.items()}
    reading = reader.read(root, ReadOptions(**given))
    if not reading.clips:
        problems = reading.report.problems
        first = f"; the first of {len(problems)} problems: {problems[0]}" if problems else ""
        raise DatasetError(f"{root}: no clip of {name} can be used{first}")
    note_sizes(reading)
    return reading
