"""Action Units that somebody has measured already: CSV tables of OpenFace 2 and of py-feat.

OpenFace writes `AU01_r` ... on FACS's scale of 0 to 5, divided by 5 here, for 17 AUs. It has no AU11, AU24 and AU43,
and of AU28 only whether it is there (`AU28_c`), which is no intensity: these are NaN. Its AU45 (blink) is the same
movement as AU43 (eyes closed), shorter, and by default stands in for it. py-feat writes `AU01` ... in 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ray_fer.labels import AU_NAMES

_AU_COLUMN = re.compile(r"AU0?(\d{1,2})(_r)?")
_KEYS = ("clip_id", "input")
_SCORES = ("confidence", "FaceScore")
_OPENFACE_SCALE = 5.0
_KEPT_TABLES = 4
_LAST_FRAME = 2**31 - 1  # the clip store counts frames in 32 bits


@dataclass(frozen=True)
class AuTable:
    """One table, at most one row per frame, in order of frames.

    `frames` int64 [N] counts from 0; `times` float64 [N] in seconds, or None where the table has none; `aus` float32
    [N,20], NaN where there was no face or the table lacks the AU.
    """

    file: Path
    frames: np.ndarray
    times: np.ndarray | None
    aus: np.ndarray


class TableExtractor:
    """Looks up each clip's frames in `tables`. See `extractor.ActionUnitExtractor`.

    `tables` is a folder with one CSV per clip, named after its `clip_id` or after its video, or one CSV with a column
    `clip_id` or `input` (py-feat's, the video's file). All must come from one program. With `blink`, OpenFace's AU45
    stands in for AU43. A frame of a video is matched to the nearest row in time, at most `tolerance` seconds away.
    Tables without times, and media that have none, are matched by frame number to `frame_index`, each frame's position
    in the file or folder from 0 on; OpenFace's tables count from 1, py-feat's from 0. A table counts the frames of that
    same file or folder, also when the clip is only a part of it. Raises FileNotFoundError or ValueError.
    """

    columns = ("path", "media", "timestamps", "frame_index")

    def __init__(self, tables: str | Path, blink: bool = True, tolerance: float = 0.05) -> None:
        self._tables = Path(tables)
        self._blink = blink
        self._tolerance = tolerance
        self._cache: dict[Path, dict[str, AuTable]] = {}
        self._openface = _is_openface(_headers(_first_table(self._tables)), self._tables)
        self.name = "openface-csv" if self._openface else "pyfeat-csv"
        self.active = 0.2 if self._openface else 0.5

    def extract(self, clips: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """AU intensities float32 [T,20] of each clip. Raises ValueError naming the table that does not cover a clip."""
        results = []
        for clip in clips:
            table = self._find(clip)
            aus = table.aus[self._rows(clip, table)]
            aus[~np.asarray(clip["face_found"], bool)] = np.nan
            results.append(aus)
        return results

    def close(self) -> None:
        """Forget the tables that were read."""
        self._cache.clear()

    def _find(self, clip: Mapping[str, Any]) -> AuTable:
        stem = Path(str(clip["path"])).stem
        if self._tables.is_dir():
            names = (str(clip["clip_id"]).replace("/", "_"), stem)
            for name in names:
                if (file := self._tables / f"{name}.csv").is_file():
                    return self._read(file)[""]
            raise FileNotFoundError(f"{self._tables}: no table {' or '.join(f'{n}.csv' for n in dict.fromkeys(names))}")
        found = self._read(self._tables)
        for name in (str(clip["clip_id"]), stem):
            if name in found:
                return found[name]
        raise ValueError(f"{self._tables}: no row of clip {clip['clip_id']}, by its id or by its file {stem}")

    def _read(self, file: Path) -> dict[str, AuTable]:
        if file not in self._cache:
            while len(self._cache) >= _KEPT_TABLES:
                self._cache.pop(next(iter(self._cache)))
            self._cache[file] = _read_tables(file, self._openface, self._blink, apart=not self._tables.is_dir())
        return self._cache[file]

    def _rows(self, clip: Mapping[str, Any], table: AuTable) -> np.ndarray:
        """Row of the table for each of the clip's frames."""
        if clip["media"] == "video" and table.times is not None:
            wanted = np.asarray(clip["timestamps"], np.float64)
            rows = _nearest(table.times, wanted)
            off = np.abs(table.times[rows] - wanted)
            if off.max() > self._tolerance:
                raise ValueError(
                    f"{table.file} does not cover clip {clip['clip_id']}: its row nearest to "
                    f"{wanted[off.argmax()]:.3f} s is {off.max():.3f} s away"
                )
            return rows
        wanted = np.asarray(clip["frame_index"], np.int64)
        rows = _nearest(table.frames, wanted)
        absent = wanted[table.frames[rows] != wanted]
        if len(absent):
            raise ValueError(
                f"{table.file} does not cover clip {clip['clip_id']}: "
                f"it has no row for frame {absent[0]} (counted from 0)"
            )
        return rows


def _nearest(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position of the nearest of sorted `values` [N] for each of `wanted` [M]."""
    right = np.searchsorted(values, wanted).clip(0, len(values) - 1)
    left = (right - 1).clip(0)
    return np.where(np.abs(values[left] - wanted) <= np.abs(values[right] - wanted), left, right)


def _first_table(tables: Path) -> Path:
    if tables.is_dir():
        files = sorted(tables.glob("*.csv"))
        if not files:
            raise FileNotFoundError(f"{tables}: the folder holds no .csv table of Action Units")
        return files[0]
    if not tables.is_file():
        raise FileNotFoundError(f"{tables}: no such table or folder of tables")
    return tables


def _headers(file: Path) -> list[str]:
    try:
        return [str(name).strip() for name in pd.read_csv(file, nrows=0, encoding="utf-8-sig").columns]
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: no CSV table: {error}") from error


def _is_openface(headers: Sequence[str], file: Path) -> bool:
    """Whether a table with these headers is OpenFace's. Raises ValueError for a table without AUs or frames."""
    found = [match for name in headers if (match := _AU_COLUMN.fullmatch(name))]
    if not found:
        raise ValueError(f"{file}: no column of Action Units (OpenFace's AU01_r ... or py-feat's AU01 ...)")
    if "frame" not in headers:
        raise ValueError(f"{file}: no column 'frame'")
    return any(match[2] for match in found)


def _au_columns(headers: Sequence[str], openface: bool, blink: bool) -> dict[str, int]:
    """Column name -> position among the twenty, of what a table measures."""
    columns = {}
    for name in headers:
        match = _AU_COLUMN.fullmatch(name)
        if match is None or bool(match[2]) != openface:
            continue
        au = f"AU{int(match[1]):02d}"
        if au == "AU45" and openface and blink:
            au = "AU43"
        if au in AU_NAMES:
            columns[name] = AU_NAMES.index(au)
    return columns


def _read_tables(file: Path, openface: bool, blink: bool, apart: bool) -> dict[str, AuTable]:
    """All tables of a file: by clip or video when they are to be told `apart`, else one under ""."""
    headers = _headers(file)
    if _is_openface(headers, file) != openface:
        raise ValueError(f"{file}: OpenFace's and py-feat's tables are mixed; use one folder for each")
    aus = _au_columns(headers, openface, blink)
    key = next((name for name in _KEYS if name in headers), None)
    if apart and key is None:
        raise ValueError(f"{file}: one table for all clips needs a column 'clip_id' or 'input'")
    times = "timestamp" if openface and "timestamp" in headers else None
    numbers = ["frame", *([times] if times else []), *(n for n in ("success", *_SCORES) if n in headers), *aus]
    wanted = {*numbers, *([key] if apart and key else [])}
    table = _cells(file, wanted)
    for name in numbers:
        table[name] = _number(table[name], file, empty=name not in ("frame", times))
    wrong = (table["frame"] % 1 != 0) | ~table["frame"].between(0, _LAST_FRAME)
    if wrong.any():
        raise _cell_error(file, table["frame"], wrong, f"is no frame number (whole, 0 to {_LAST_FRAME})")
    values = np.full((len(table), len(AU_NAMES)), np.nan, np.float32)
    for name, column in aus.items():
        values[:, column] = _intensity(table[name], file, _OPENFACE_SCALE if openface else 1.0)
    if "success" in table:
        values[table["success"].to_numpy() == 0] = np.nan
    frames = table["frame"].to_numpy().astype(np.int64) - int(openface)  # OpenFace counts from 1
    score = next((table[name].fillna(-1).to_numpy() for name in _SCORES if name in table), np.zeros(len(table)))
    owners = table[key].astype(str).to_numpy() if apart and key else np.full(len(table), "")
    found = {}
    for owner in dict.fromkeys(owners):
        rows = np.flatnonzero(owners == owner)
        rows = rows[np.lexsort((-score[rows], frames[rows]))]
        rows = rows[np.append(True, np.diff(frames[rows]) != 0)]  # of several faces in a frame, the surest
        seconds = table[times].to_numpy()[rows] if times else None
        if seconds is not None and (np.diff(seconds) <= 0).any():
            raise ValueError(f"{file}: column 'timestamp' does not grow from frame to frame")
        name = Path(owner).stem if key == "input" and apart else owner
        found[name] = AuTable(file, frames[rows], seconds, values[rows])
    return found


def _cells(file: Path, columns: set[str]) -> pd.DataFrame:
    """Named columns of a CSV as text, spaces around headers and cells removed."""
    try:
        table = pd.read_csv(
            file, dtype=str, encoding="utf-8-sig", skipinitialspace=True, skip_blank_lines=False,
            usecols=lambda name: name.strip() in columns,
        )  # fmt: skip
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: {error}") from error
    table.columns = table.columns.str.strip()
    if table.columns.duplicated().any():
        raise ValueError(f"{file}: column {table.columns[table.columns.duplicated()][0]!r} is there twice")
    blank = table.isna().all(axis=1)
    if blank.all():
        raise ValueError(f"{file}: the table has no rows")
    return table[~blank]


def _number(cells: pd.Series, file: Path, empty: bool) -> pd.Series:
    """Text -> numbers, NaN for cells that are empty where that is allowed."""
    numbers = pd.to_numeric(cells, errors="coerce")
    wrong = ~np.isfinite(numbers) & (cells.notna() if empty else True)
    if wrong.any():
        raise _cell_error(file, cells, wrong, "is no number")
    return numbers


def _intensity(numbers: pd.Series, file: Path, highest: float) -> np.ndarray:
    wrong = (numbers < 0) | (numbers > highest)
    if wrong.any():
        raise _cell_error(file, numbers, wrong, f"is no intensity between 0 and {highest:g}")
    return numbers.to_numpy(np.float32) / highest


def _cell_error(file: Path, cells: pd.Series, wrong: pd.Series, what: str) -> ValueError:
    at = wrong.idxmax()
    value = "nothing" if pd.isna(cells[at]) else f"'{cells[at]}'"
    return ValueError(f"{file}, line {at + 2}, column {cells.name}: {value} {what}")
