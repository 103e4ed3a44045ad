"""Micro-expression clips of coding sheets: CASME II and SAMM.

A sheet gives the onset, apex and offset as numbers of frame files. The manifest counts positions in the clip's
folder, so the numbers are looked up in the file names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ray_fer.datasets.au_codes import parse_au_codes
from ray_fer.datasets.clip_media import media_folder
from ray_fer.datasets.ethnic_groups import ETHNICMER_GROUPS, ETHNICMER_RACE_CODES
from ray_fer.datasets.label_maps import is_integer
from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.micro_labels import LABEL_MAPS, micro_emotion, micro_label
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import ClipRows, DatasetError, Reading, Report
from ray_fer.datasets.tables import Row, read_csv, read_sheet
from ray_fer.labels import MICRO_EMOTIONS, UNKNOWN_CULTURE
from ray_fer.video.frame_folder import frame_files, frame_number


@dataclass(frozen=True)
class Sheet:
    """Where a dataset keeps its sheet and frames, and what its headers are called."""

    dataset: str
    sheets: tuple[str, ...]
    folders: tuple[str, ...]
    onset: str
    apex: str
    offset: str
    no_apex: tuple[str, ...]
    subject: Callable[[str], str | None]
    clip: Callable[[str, str], str]


@dataclass(frozen=True)
class _Timing:
    onset: int
    apex: int
    offset: int | None
    apex_estimated: bool


def read_micro(sheet: Sheet, root: Path, options: ReadOptions) -> Reading:
    """Read the dataset of `sheet`. A missing apex becomes the middle between onset and offset, and is marked."""
    label_map = options.labels or "ethnicmer"
    if label_map not in LABEL_MAPS:
        raise DatasetError(f"unknown label map {label_map!r}; expected one of {', '.join(LABEL_MAPS)}")
    report = Report()
    table = _sheet_file(sheet, options.lists or root)
    headers = ["Subject", "Filename", sheet.onset, sheet.apex, sheet.offset, "Action Units", "Estimated Emotion"]
    rows = read_sheet(table, report, headers)
    folder = media_folder(root, options.media, sheet.folders, report)
    groups = _groups(sheet, options.ethnicity, rows, report)
    listed = ClipRows(report)
    for row in rows:
        clip = _clip(sheet, row, folder, label_map, groups, report)
        if clip is not None:
            listed.add(clip, row.file, row.line)
    clips = listed.clips()
    if any(clip.culture == UNKNOWN_CULTURE for clip in clips):
        report.note("clips without an ethnic label have culture Unknown; pass --ethnicity FILE (subject,ethnicity)")
    return Reading(sheet.dataset, label_map, clips, report)


def _sheet_file(sheet: Sheet, place: Path) -> Path:
    """The coding sheet: `place` itself, or the one in it. Names sort by date, and "updated" after dates."""
    if place.is_file():
        return place
    for pattern in sheet.sheets:
        found = sorted(place.glob(pattern))
        newest = [path for path in found if path.stem.casefold().endswith("updated")] or found
        if len(newest) > 1:
            names = ", ".join(path.name for path in newest)
            raise DatasetError(f"{place}: {names} are all there; choose one with --lists FILE")
        if newest:
            return newest[0]
    raise DatasetError(f"{place}: no coding sheet {' or '.join(sheet.sheets)}; pass --lists FILE")


def _clip(
    sheet: Sheet, row: Row, folder: Path, label_map: str, groups: dict[str, tuple[str, str]], report: Report
) -> Clip | None:
    subject = sheet.subject(row["subject"])
    if subject is None or not row["filename"]:
        report.problem(row.file, row.line, f"no subject and file name: {row['subject']!r}, {row['filename']!r}")
        return None
    name = sheet.clip(subject, row["filename"])
    emotion = micro_emotion(row["estimated emotion"])
    if emotion is None:
        text = f"emotion {row['estimated emotion']!r} is not one of {', '.join(MICRO_EMOTIONS)}"
        report.problem(row.file, row.line, text)
        return None
    label = micro_label(label_map, sheet.dataset, emotion, name)
    if label is None:
        report.left_out[f"{emotion} ({label_map})"] += 1
        return None
    frames = frame_files(folder / name)
    if not frames:
        report.problem(row.file, row.line, f"no frames in {folder / name}")
        return None
    timing = _timing(sheet, row, name, frames, report)
    if timing is None:
        return None
    codes, strange = parse_au_codes(row["action units"])
    if strange:
        report.note(f"{sheet.dataset}: AU texts with remarks are kept as written beside the codes read from them")
    ethnicity, group = groups.get(subject, (None, UNKNOWN_CULTURE))
    annotations = {
        "emotion": emotion,
        "action_units": row["action units"],
        "aus": [asdict(code) for code in codes],
        "apex_estimated": timing.apex_estimated,
        "ethnicity": ethnicity,
    }
    return Clip(
        clip_id=f"{sheet.dataset}/{name}",
        dataset=sheet.dataset,
        path=str((folder / name).resolve()),
        media="frames",
        label=label,
        culture=group,
        subject_id=f"{sheet.dataset}/{subject}",
        onset=timing.onset,
        apex=timing.apex,
        offset=timing.offset,
        annotations=json.dumps(annotations),
    )


def _timing(sheet: Sheet, row: Row, name: str, frames: list[Path], report: Report) -> _Timing | None:
    """Positions of onset, apex and offset among `frames`, or None after reporting why there are none."""
    positions = {frame_number(file): position for position, file in enumerate(frames)}
    if len(positions) < len(frames):
        report.problem(row.file, row.line, f"two frames of {name} have the same number")
        return None
    onset = _position(row[sheet.onset.casefold()], positions)
    offset = _position(row[sheet.offset.casefold()], positions)
    if onset is None:
        text = f"onset {row[sheet.onset.casefold()]!r} is no frame of {name} ({frames[0].name} to {frames[-1].name})"
        report.problem(row.file, row.line, text)
        return None
    written = row[sheet.apex.casefold()]
    apex = _position(written, positions)
    if apex is None and written not in sheet.no_apex:
        report.problem(row.file, row.line, f"apex {written!r} is no frame of {name}")
        return None
    if apex is not None and apex < onset:
        report.problem(row.file, row.line, f"apex {written} of {name} lies before its onset")
        return None
    if offset is None or offset < (onset if apex is None else apex):
        text = row[sheet.offset.casefold()]
        report.note(
            f"{name}: offset {text!r} is no frame after the apex; it is left empty ({row.file.name}:{row.line})"
        )
        offset = None
    if apex is not None:
        return _Timing(onset, apex, offset, apex_estimated=False)
    last = len(frames) - 1 if offset is None else offset
    return _Timing(onset, (onset + last) // 2, offset, apex_estimated=True)


def _position(text: str, positions: dict[int | None, int]) -> int | None:
    return positions.get(int(text)) if is_integer(text) else None


def _groups(sheet: Sheet, file: Path | None, rows: list[Row], report: Report) -> dict[str, tuple[str, str]]:
    """subject -> (ethnicity, Asian or Non-Asian), from a file, or from the column Race of EthnicMER's own sheets."""
    if file is not None:
        labelled = [(row, row["subject"], row["ethnicity"]) for row in read_csv(file, report, ["subject", "ethnicity"])]
    else:
        labelled = [(row, row["subject"], row.get("race")) for row in rows if row.get("race")]
    groups: dict[str, tuple[str, str]] = {}
    torn: set[str] = set()
    for row, named, written in labelled:
        subject = sheet.subject(named)
        ethnicity = ETHNICMER_RACE_CODES.get(written, written)
        if subject is None or ethnicity not in ETHNICMER_GROUPS:
            expected = ", ".join(ETHNICMER_GROUPS)
            report.problem(row.file, row.line, f"subject {named!r}, ethnicity {written!r}: expected one of {expected}")
        elif groups.setdefault(subject, (ethnicity, ETHNICMER_GROUPS[ethnicity]))[0] != ethnicity:
            text = f"subject {named} is {ethnicity} here and {groups[subject][0]} before; neither is used"
            report.problem(row.file, row.line, text)
            torn.add(subject)
    return {subject: group for subject, group in groups.items() if subject not in torn}
