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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray_fer.datasets.clip_media import media_of
from ray_fer.datasets.ethnic_groups import GCC_FER
from ray_fer.datasets.label_maps import BASIC_WORDS
from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.readers.dfew import read_dfew
from ray_fer.datasets.readers.fold_lists import clip_number
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
    if options.variant not in (None, "csv", "folders"):
        raise DatasetError(f"unknown variant {options.variant!r}; expected csv or folders")
    tables = [root] if root.is_file() else sorted(root.glob("*.csv"))
    use_table = options.variant == "csv" or (options.variant is None and bool(tables))
    if use_table:
        if len(tables) != 1:
            raise DatasetError(f"{root}: {len(tables)} CSV files; give the one to read in place of the folder")
        clips = _from_table(tables[0], report)
    elif root.is_dir():
        clips = _from_folders(root, report)
    else:
        raise DatasetError(f"{root}: not a folder; variant folders reads culture/expression folders")
    if options.dfew is not None:
        clips += _from_dfew(root, options, report)
    elif not clips and not report.problems:
        raise DatasetError(
            f"{root}: neither a CSV of path,culture,expression nor folders culture/expression/face_01.jpg"
        )
    return Reading("gccfer", "csv" if use_table else "folders", clips, report)


def _culture(text: str) -> str | None:
    return GCC_FER.resolve(text) or _REGIONS.get(" ".join(text.replace("_", " ").replace("-", " ").casefold().split()))


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
    for region in _entries(base):
        if region.suffix.lower() in (".json", ".csv", ".md", ".txt"):
            continue  # the tables and texts of the release
        culture = _culture(region.name)
        if culture is None or not region.is_dir():
            report.problem(region, None, f"no folder of a culture; expected one of {GCC_FER.accepted()}")
            continue
        for folder in _entries(region):
            label = BASIC_WORDS.resolve(folder.name)
            if label is None or not folder.is_dir():
                report.problem(folder, None, f"no folder of an expression; expected {BASIC_WORDS.accepted()}")
                continue
            for name, path, media in _clips_of(folder, report):
                clip_id = f"gccfer/{region.name}/{folder.name}/{name}"
                clips.append(Clip(clip_id, "gccfer", path, media=media, label=label, culture=culture))
    return clips


def _clips_of(folder: Path, report: Report) -> Iterator[tuple[str, str, str]]:
    """(name, path, media) of the clips of one expression: numbered faces, and whole videos or folders of frames."""
    faces = []
    for path in _entries(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            faces.append(path)
            continue
        media = media_of(path)
        if media is None:
            report.problem(path, None, "no video, no folder of frames and no face_01.jpg")
        else:
            yield path.name, str(path.resolve()), media
    for name, files in group_faces(faces, report).items():
        yield name, f"{glob.escape(str(folder.resolve()))}/{name}", "frames"
        if len(files) != FRAMES:
            report.note(f"{folder.parent.name}/{folder.name}: {name!r} has {len(files)} frames, not {FRAMES}")


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def group_faces(files: Sequence[Path], report: Report) -> dict[str, list[Path]]:
    """Pattern of file names -> frames, for each clip among ``face_01.jpg``, ``face_01n (2).jpg`` and so on.

    Either number of the second name may count the frames. It is the one that gives clips of 16 frames; files that fit
    neither way are reported.
    """
    plain: dict[tuple[str, str], list[Path]] = defaultdict(list)
    by_first: dict[tuple[str, str], list[Path]] = defaultdict(list)
    by_bracket: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in files:
        match = re.fullmatch(r"face_(\d+)([^()]*)(?:\((\d+)\))?([^()]*)", file.stem, re.ASCII)
        if match is None:
            report.problem(file, None, "the name is not like face_01.jpg or face_01n (2).jpg")
            continue
        first, middle, bracket, rest = match.groups()
        if bracket is None:
            plain["face_", f"{middle}{rest}{file.suffix}"].append(file)
        else:
            by_first["face_", f"{middle}({bracket}){rest}{file.suffix}"].append(file)
            by_bracket[f"face_{first}{middle}(", f"){rest}{file.suffix}"].append(file)
    groups = dict(plain)
    chosen = next((way for way in (by_first, by_bracket) if all(len(m) == FRAMES for m in way.values())), None)
    if chosen is not None:
        groups |= chosen
    else:
        count = sum(len(members) for members in by_first.values())
        text = f"{count} files like face_01n (2).jpg do not group into clips of {FRAMES} frames by either number"
        report.problem(next(iter(by_first.values()))[0].parent, None, text)
    return {_pattern(*key, members): members for key, members in groups.items()}


def _pattern(before: str, after: str, members: Sequence[Path]) -> str:
    """Pattern of names with a number between `before` and `after`, for each length that the number has."""
    lengths = sorted({len(file.name) - len(before) - len(after) for file in members})
    return "|".join(f"{glob.escape(before)}{'[0-9]' * length}{glob.escape(after)}" for length in lengths)


def _from_dfew(root: Path, options: ReadOptions, report: Report) -> list[Clip]:
    assert options.dfew is not None
    files = [options.ethnicity] if options.ethnicity else sorted(root.glob("*.json")) if root.is_dir() else []
    if len(files) != 1:
        raise DatasetError(f"{root}: {len(files)} JSON files of DFEW ethnicities; pass one with --ethnicity FILE")
    cultures = _ethnicities(files[0], report)
    reading = read_dfew(options.dfew, ReadOptions(lists=options.lists, media=options.media))
    # Clips that GCC-FER does not take may be missing from this copy of DFEW.
    report.problems += [p for p in reading.report.problems if any(clip in p.reason for clip in cultures)]
    report.notes += [f"DFEW: {note}" for note in reading.report.notes]
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
    """clip -> culture from ``{"00001": "Caucasian"}``, ``{"00001": {"ethnicity": ...}}``, ``{"Caucasian": ["00001"]}``,
    or a list of records with a name and an ethnicity: the authors have announced the file and not yet its form.
    """
    if not file.is_file() or file.stat().st_size > _MAX_JSON_BYTES:
        raise DatasetError(f"{file}: missing, or larger than {_MAX_JSON_BYTES} bytes")
    try:
        content = json.loads(file.read_bytes(), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: not JSON: {error}") from error
    if isinstance(content, _Pairs) and all(_culture(name) for name, _ in content) and content:
        pairs = [(clip, culture) for culture, clips in content for clip in (clips if isinstance(clips, list) else [])]
    elif isinstance(content, _Pairs):
        pairs = [(name, _value(value, "ethnicity", "culture", "label")) for name, value in content]
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


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its pairs: a dict would keep the last of two equal keys and say nothing."""


def _value(entry: Any, *names: str) -> Any:
    if not isinstance(entry, _Pairs):
        return entry
    return next((value for wanted in names for name, value in entry if name == wanted), None)
