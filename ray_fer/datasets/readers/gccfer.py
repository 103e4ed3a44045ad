"""GCC-FER: 23,934 clips of four cultures (papers/cafer_gccfer.md, section II), in the forms in which it can be had.

The authors' sample has 16 face JPEGs per clip in ``culture/expression`` folders, where two clips share a folder; others
use a CSV of ``path,culture,expression``. The Caucasian and East Asian clips are DFEW's, and come as a JSON of
ethnicities that is joined to the user's own copy of DFEW.
"""

from __future__ import annotations

import glob
import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray_fer.datasets.clip_media import media_of
from ray_fer.datasets.ethnic_groups import GCC_FER
from ray_fer.datasets.label_maps import BASIC_WORDS
from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.readers.dfew import clip_number, read_dfew
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import ClipRows, DatasetError, Reading, Report
from ray_fer.datasets.tables import read_csv
from ray_fer.video.frame_folder import IMAGE_SUFFIXES

FRAMES = 16
_REGIONS = {"africa": "African", "south asia": "South Asian", "east asia": "East Asian", "caucasia": "Caucasian"}
_MAX_JSON_BYTES = 64 * 1024**2


def read_gccfer(root: Path, options: ReadOptions) -> Reading:
    """Read what `root` holds: the sample's folders or a CSV, and with `dfew` the clips that are taken from DFEW."""
    report = Report()
    tables = [root] if root.is_file() else sorted(root.glob("*.csv"))
    if options.variant not in (None, "csv", "folders"):
        raise DatasetError(f"unknown variant {options.variant!r}; expected csv or folders")
    if len(tables) > 1:
        raise DatasetError(f"{root}: {len(tables)} CSV files; give the one to read in place of the folder")
    use_table = options.variant == "csv" or (options.variant is None and bool(tables))
    if use_table and not tables:
        raise DatasetError(f"{root}: no CSV file")
    clips = _from_table(tables[0], report) if use_table else _from_folders(root, report)
    if options.dfew is not None:
        clips += _from_dfew(root, options, report)
    elif not clips:
        raise DatasetError(
            f"{root}: neither a CSV of path,culture,expression nor folders culture/expression/face_01.jpg"
        )
    return Reading("gccfer", "csv" if use_table else "folders", clips, report)


def _culture(text: str) -> str | None:
    return GCC_FER.resolve(text) or _REGIONS.get(" ".join(text.replace("_", " ").casefold().split()))


def _from_table(table: Path, report: Report) -> list[Clip]:
    clips = ClipRows(report)
    for row in read_csv(table, report, ["path", "culture", "expression"]):
        culture, label = _culture(row["culture"]), BASIC_WORDS.resolve(row["expression"])
        path = table.parent / row["path"]
        media = media_of(path) if row["path"] else None
        if culture is None:
            report.problem(table, row.line, f"culture {row['culture']!r} is not one of {GCC_FER.accepted()}")
        elif label is None:
            report.problem(table, row.line, f"expression {row['expression']!r} is not {BASIC_WORDS.accepted()}")
        elif media is None:
            report.problem(table, row.line, f"no video, image or folder of frames at {path}")
        else:
            name = f"gccfer/{row['path']}"
            clips.add(Clip(name, "gccfer", str(path.resolve()), media, label, culture), table, row.line)
    return clips.clips()


def _from_folders(root: Path, report: Report) -> list[Clip]:
    base = root / "GCCFER_sample" if (root / "GCCFER_sample").is_dir() else root
    clips = []
    for region in sorted(path for path in base.iterdir() if path.is_dir()):
        culture = _culture(region.name)
        if culture is None:
            report.problem(region, None, f"the folder names no culture; expected one of {GCC_FER.accepted()}")
            continue
        for folder in sorted(path for path in region.iterdir() if path.is_dir()):
            label = BASIC_WORDS.resolve(folder.name)
            if label is None:
                report.problem(folder, None, f"the folder names no expression; expected {BASIC_WORDS.accepted()}")
                continue
            for name, files in clips_in(folder, report).items():
                if len(files) != FRAMES:
                    report.note(f"{folder.name}: {name!r} has {len(files)} frames, not {FRAMES}")
                path = f"{glob.escape(str(folder.resolve()))}/{name}"
                clip_id = f"gccfer/{region.name}/{folder.name}/{name}"
                clips.append(Clip(clip_id, "gccfer", path, media="frames", label=label, culture=culture))
    return clips


def clips_in(folder: Path, report: Report) -> dict[str, list[Path]]:
    """Pattern of file names -> frames, for each clip in a folder of ``face_01.jpg``, ``face_01n (2).jpg``, ...

    In the second name either number may count the frames; it is the one that gives fewer, longer clips.
    """
    plain: dict[str, list[Path]] = defaultdict(list)
    by_first: dict[str, list[Path]] = defaultdict(list)
    by_bracket: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        match = re.fullmatch(r"(face_)(\d+)([^()]*)(?:\((\d+)\))?(.*)", file.stem, re.ASCII)
        if match is None:
            report.problem(file, None, "the name is not like face_01.jpg or face_01n (2).jpg")
            continue
        head, first, middle, bracket, rest = match.groups()
        end = f"{glob.escape(rest)}{file.suffix}"
        if bracket is None:
            plain[f"{head}{_digits(first)}{glob.escape(middle)}{end}"].append(file)
        else:
            by_first[f"{head}{_digits(first)}{glob.escape(middle)}({bracket}){end}"].append(file)
            by_bracket[f"{head}{first}{glob.escape(middle)}({{}}){end}"].append(file)
    bracketed = by_first if len(by_first) <= len(by_bracket) else {p.format("*"): f for p, f in by_bracket.items()}
    return dict(plain) | dict(bracketed)


def _digits(number: str) -> str:
    return "[0-9]" * len(number)


def _from_dfew(root: Path, options: ReadOptions, report: Report) -> list[Clip]:
    assert options.dfew is not None
    files = [options.ethnicity] if options.ethnicity else sorted(root.glob("*.json")) if root.is_dir() else []
    if len(files) != 1:
        raise DatasetError(f"{root}: {len(files)} JSON files of DFEW ethnicities; pass one with --ethnicity FILE")
    cultures = _ethnicities(files[0], report)
    reading = read_dfew(options.dfew, ReadOptions(media=options.media))
    report.problems += reading.report.problems
    named = {clip.clip_id.removeprefix("dfew/"): clip for clip in reading.clips}
    for clip in sorted(set(cultures) - set(named)):
        report.problem(files[0], None, f"clip {clip} is not in {options.dfew}")
    report.left_out["DFEW clips without an ethnicity"] += len(set(named) - set(cultures))
    # GCC-FER has folds of its own (stratified by expression and culture), so DFEW's are not carried over.
    return [
        replace(clip, clip_id=f"gccfer/dfew/{name}", dataset="gccfer", culture=cultures[name], fold=None, split=None)
        for name, clip in named.items()
        if name in cultures
    ]


def _ethnicities(file: Path, report: Report) -> dict[str, str]:
    """clip -> culture from ``{"00001": "Caucasian"}``, ``{"00001": {"ethnicity": ...}}`` or a list of such records.

    The authors have announced the file and not yet its form.
    """
    if not file.is_file() or file.stat().st_size > _MAX_JSON_BYTES:
        raise DatasetError(f"{file}: missing, or larger than {_MAX_JSON_BYTES} bytes")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: not JSON: {error}") from error
    if isinstance(content, dict):
        pairs = [(name, _value(value, "ethnicity", "culture", "label")) for name, value in content.items()]
    elif isinstance(content, list):
        pairs = [
            (_value(entry, "video_name", "clip", "video", "name"), _value(entry, "ethnicity", "culture", "label"))
            for entry in content
        ]
    else:
        raise DatasetError(f"{file}: expected an object of clip: ethnicity, or a list of records")
    found: dict[str, str] = {}
    for name, written in pairs:
        clip = clip_number(str(name))
        culture = _culture(written) if isinstance(written, str) else None
        if clip is None or culture is None:
            report.problem(file, None, f"{name!r}: {written!r} is no DFEW clip with one of {GCC_FER.accepted()}")
        elif found.setdefault(clip, culture) != culture:
            raise DatasetError(f"{file}: clip {clip} is both {found[clip]} and {culture}")
    return found


def _value(entry: Any, *names: str) -> Any:
    if not isinstance(entry, dict):
        return entry
    return next((entry[name] for name in names if name in entry), None)
