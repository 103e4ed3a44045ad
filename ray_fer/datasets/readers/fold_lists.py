"""Lists of clips per fold and split: the form in which DFEW, MAFW, FERV39k and AFEW are handed around.

One clip stands in many lists (five folds name it five times), so the lists check each other: a clip whose labels
differ, that is tested in two folds, or that stands in both halves of one fold, is not used.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray_fer.datasets.clip_media import find_clip
from ray_fer.datasets.label_maps import BASIC_WORDS, IndexedLabels, LabelMap
from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.reading import DatasetError, Report
from ray_fer.datasets.tables import Row, read_csv, read_words
from ray_fer.video.frame_folder import frame_files

FOLDS = (1, 2, 3, 4, 5)
_HEADER_WORDS = ("label", "labels", "id", "class", "emotion")
_DATASETS = ("dfew", "mafw", "ferv39k", "afew")
_ENOUGH_ROWS = 500


@dataclass(frozen=True)
class Layout:
    """How one release writes its lists.

    `lists` maps a split to file patterns with ``{fold}`` (or without, for a fixed split); `columns` are the words of a
    line, or None for a CSV with a header; `clip` and `label` name the columns.
    """

    name: str
    lists: dict[str, tuple[str, ...]]
    labels: LabelMap
    columns: tuple[str, ...] | None = None
    clip: str = "video_name"
    label: str = "label"
    separator: str | None = None
    encodings: tuple[str, ...] = ("utf-8",)
    release: str = ""
    """Layouts of one release do not exclude each other: the first one found is read."""


@dataclass(frozen=True)
class Entry:
    """One line of one list, with its label resolved."""

    row: Row
    clip: str
    label: str
    split: str
    fold: int | None


@dataclass(frozen=True)
class ListedClip:
    """A clip after all lists were compared. `fold` is the fold that tests it; `row` is where it was first named."""

    clip: str
    label: str
    split: str | None
    fold: int | None
    row: Row


def find_layout(
    layouts: Sequence[Layout], places: Sequence[Path], variant: str | None
) -> tuple[Layout, list[tuple[Path, str, int | None]]]:
    """The layout whose lists lie in one of `places`, and the lists as (file, split, fold).

    Raises DatasetError when none is found, or when several are and `variant` does not choose.
    """
    if variant is not None:
        chosen = [layout for layout in layouts if layout.name == variant]
        if not chosen:
            raise DatasetError(f"unknown variant {variant!r}; expected one of {', '.join(x.name for x in layouts)}")
        layouts = chosen
    found: dict[str, tuple[Layout, list[tuple[Path, str, int | None]]]] = {}
    for layout in layouts:
        files = next((files for place in places if (files := _lists_in(layout, place))), None)
        if files:
            found.setdefault(layout.release or layout.name, (layout, files))
    if not found:
        looked = ", ".join(sorted({pattern for layout in layouts for p in layout.lists.values() for pattern in p}))
        raise DatasetError(
            f"{places[0]}: no lists found; looked for {looked}; pass --lists FOLDER if they lie elsewhere"
        )
    if len(found) > 1:
        raise DatasetError(f"{places[0]}: lists of {' and '.join(found)} are both there; choose one with --variant")
    return next(iter(found.values()))


def _lists_in(layout: Layout, place: Path) -> list[tuple[Path, str, int | None]]:
    files = []
    for split, patterns in layout.lists.items():
        folds: Iterable[int | None] = FOLDS if "{fold}" in patterns[0] else (None,)
        for fold in folds:
            named = (place / pattern.format(fold=fold) for pattern in patterns)
            present = next((file for file in named if file.is_file()), None)
            if present is not None:
                files.append((present, split, fold))
    return files


def read_lists(
    dataset: str,
    layout: Layout,
    files: Iterable[tuple[Path, str, int | None]],
    clip_name: Callable[[str], str | None],
    report: Report,
) -> list[Entry]:
    """All lines of all lists with labels resolved. `clip_name` turns what a list says into the clip's name, or None.

    Raises DatasetError when the lists are another dataset's: by the paths in them, or by classes that never occur.
    """
    entries: list[Entry] = []
    for file, split, fold in files:
        if layout.columns is None:
            rows = read_csv(file, report, [layout.clip, layout.label])
        else:
            rows = read_words(file, report, layout.columns, layout.separator, layout.encodings)
            rows = rows[1:] if rows and rows[0][layout.label].casefold() in _HEADER_WORDS else rows
        layout.labels.check((row[layout.label] for row in rows), file)
        _check_dataset(dataset, file, [row[layout.clip] for row in rows])
        seen: set[str] = set()
        for row in rows:
            clip, label = clip_name(row[layout.clip]), layout.labels.resolve(row[layout.label])
            if clip is None:
                report.problem(file, row.line, f"{row[layout.clip]!r} is no clip name of this dataset")
            elif label is None:
                report.problem(file, row.line, f"label {row[layout.label]!r} is not {layout.labels.accepted()}")
            else:
                if clip in seen:
                    report.problem(file, row.line, f"clip {clip} is listed twice in this file")
                seen.add(clip)
                entries.append(Entry(row, clip, label, split, fold))
    _check_classes(layout, entries, report)
    return entries


def agrees_with_path(entry: Entry, report: Report) -> bool:
    """Whether the emotion in a path ``a/Emotion/clip`` is the label of its line; reports it when it is not."""
    folder = entry.clip.split("/")[1]
    named = BASIC_WORDS.resolve(folder)
    if named is None:
        report.problem(entry.row.file, entry.row.line, f"the path names no emotion: {folder!r} in {entry.clip}")
    elif named != entry.label:
        report.problem(entry.row.file, entry.row.line, f"clip {entry.clip} is labelled {entry.label}")
    return named == entry.label


def _check_dataset(dataset: str, file: Path, named: Sequence[str]) -> None:
    """Lists of paths name their dataset, as in ``/data/DFEW/Clip/00001``; those of two datasets can look alike."""
    for text in named[:20]:
        folders = text.replace("\\", "/").casefold().split("/")[:-1]
        others = {other for other in _DATASETS for folder in folders if folder.startswith(other)}
        if others and dataset not in others:
            raise DatasetError(f"{file}: lists {text} of {sorted(others)[0].upper()}; this is no list of {dataset}")


def _check_classes(layout: Layout, entries: Sequence[Entry], report: Report) -> None:
    """All classes occur in a whole dataset; lists in which some do not may count their labels in another way."""
    if not isinstance(layout.labels, IndexedLabels) or not entries:
        return
    occurring = {entry.label for entry in entries}
    never = ", ".join(name for name in layout.labels.classes if name not in occurring)
    if never and len(entries) >= _ENOUGH_ROWS:
        raise DatasetError(
            f"{entries[0].row.file}: {never} never occurs in {len(entries)} rows; these lists count their labels in "
            f"another way than {layout.labels.name}, or belong to another dataset"
        )
    if never:
        report.note(f"{never} never occurs, so nothing proves that labels are counted as in {layout.labels.name}")


def combine(entries: Sequence[Entry], report: Report) -> list[ListedClip]:
    """One `ListedClip` per clip; clips on which the lists disagree are reported and dropped."""
    by_clip: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_clip[entry.clip].append(entry)
    folds = {entry.fold for entry in entries}
    clips = []
    for clip, named in by_clip.items():
        first = named[0]
        other = next((entry for entry in named if entry.label != first.label), None)
        if other is not None:
            where = f"{first.row.file.name}:{first.row.line}"
            report.problem(
                other.row.file, other.row.line, f"clip {clip} is {other.label} here and {first.label} in {where}"
            )
            continue
        by_fold: dict[int | None, set[str]] = defaultdict(set)
        for entry in named:
            by_fold[entry.fold].add(entry.split)
        torn = next((fold for fold, splits in by_fold.items() if len(splits) > 1), False)
        if torn is not False:
            place = "the fixed split" if torn is None else f"fold {torn}"
            report.problem(first.row.file, first.row.line, f"clip {clip} is in train and test of {place}")
            continue
        tested = [fold for fold, splits in by_fold.items() if "test" in splits and fold is not None]
        if len(tested) > 1:
            text = f"clip {clip} is tested in folds {', '.join(map(str, tested))}; folds must be disjoint"
            report.problem(first.row.file, first.row.line, text)
            continue
        # With one list pair there is nothing to cross-validate: its halves are the split.
        split = first.split if len(folds) == 1 else None
        clips.append(ListedClip(clip, first.label, split, tested[0] if tested else None, first.row))
    untested = sum(clip.fold is None for clip in clips) if len(folds) > 1 else 0
    if untested:
        report.note(f"{untested} clips are in no test list; they have no fold and can only be trained on")
    return clips


def clip_number(text: str) -> str | None:
    """``00012`` from ``12``, ``00012.mp4`` or ``/data/DFEW/Clip/jpg_256/00012``: DFEW's and MAFW's clips. Else None."""
    match = re.fullmatch(r"(?:.*[/\\])?(\d{1,5})(?:\.(?:mp4|avi))?", text.strip(), re.ASCII)
    return match.group(1).zfill(5) if match else None


def class_path(text: str) -> str | None:
    """``a/b/c`` from any path that ends so: Scene/Emotion/clip in FERV39k, split/Emotion/clip in AFEW. Else None."""
    match = re.fullmatch(r"(?:.*[/\\])?([\w-]+)[/\\]([\w-]+)[/\\]([\w-]+)", text.strip(), re.ASCII)
    return "/".join(match.groups()) if match else None


def with_media(dataset: str, listed: Iterable[ListedClip], folder: Path, report: Report) -> list[Clip]:
    """Manifest rows of the clips whose media lie in `folder`; the others are reported.

    Where the lists say how many frames a clip has, differences from the folder are counted in a note.
    """
    clips, differing = [], 0
    for entry in listed:
        found = find_clip(folder, entry.clip)
        if found is None:
            report.problem(entry.row.file, entry.row.line, f"no video or frames of clip {entry.clip} in {folder}")
            continue
        path, media = found
        listed_frames = entry.row.get("frames")
        if media == "frames" and listed_frames and listed_frames != str(len(frame_files(path))):
            differing += 1
        clips.append(
            Clip(
                clip_id=f"{dataset}/{entry.clip}",
                dataset=dataset,
                path=str(path.resolve()),
                media=media,
                label=entry.label,
                split=entry.split,
                fold=entry.fold,
                annotations=json.dumps({"source": folder.name} | _caption(entry.row), ensure_ascii=False),
            )
        )
    if differing:
        report.note(f"{differing} clips hold another number of frames than their list says; the folder counts")
    return clips


def _caption(row: Row) -> dict[str, str]:
    return {"caption": row.get("english")} if row.get("english") else {}
