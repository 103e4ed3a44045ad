"""EiLA: percent boxes, up to three annotators, and the leak between its splits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_fer.datasets import read
from ray_fer.datasets.readers.eila import pixel_box, truth
from ray_fer.datasets.reading import DatasetError
from tests.datasets.readers.trees import text, video

HEADER = "Video Tag,Clip Id,Labels,Frame Number,X,Y,Width,Height,Person Id"
NONE = "'No annotation'"


def row(labels: str, frame: int = 0, person: int = 1, clip: int = 1, tag: str = "vid", box: str = "25,50,50,25") -> str:
    return f'{tag},{clip},"[{labels}]",{frame},{box},{person}'


def eila(root: Path, rows: list[str], people: str = "vid,1,1,7,B,F,#aabbcc\n") -> Path:
    text(
        root / "Extra/demographics.csv",
        "Video Tag,Clip Id,Person Id,Person Global Id,Perceived Race,Perceived Gender,Skin Color\n" + people,
    )
    if not (root / "Videos/vid/Complete.mp4").exists():
        video(root / "Videos/vid/Complete.mp4", count=30, width=200, height=100)
    return text(root / "Annotations/annotations.csv", "\n".join([HEADER, *rows]) + "\n")


def test_boxes_labels_and_people(tmp_path: Path) -> None:
    eila(tmp_path, [row(f"['Anger'], {NONE}, {NONE}", frame=12)])
    (clip,) = read("eila", tmp_path).clips
    assert (clip.label, clip.culture, clip.subject_id) == ("Angry", "Black", "eila/7")
    assert (clip.media, clip.start_frame, clip.end_frame) == ("video", 12, 13)
    assert clip.bbox == [50, 50, 100, 25]
    assert json.loads(clip.annotations or "") == {"annotators": [["Anger"], "No annotation", "No annotation"]}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("section-3.1", {1: "test", 2: "val", 3: "train"}), ("released", {1: "train", 2: "val", 3: "test"})],
)
def test_splits_by_number_of_annotators(tmp_path: Path, rule: str, expected: dict[int, str]) -> None:
    eila(
        tmp_path,
        [
            row(f"{NONE}, ['Sad'], {NONE}", frame=1),
            row(f"['Sad'], {NONE}, ['Fear']", frame=2),
            row("['Sad'], ['Fear'], ['Fear']", frame=3),
            row(f"{NONE}, {NONE}, {NONE}", frame=4),
        ],
    )
    reading = read("eila", tmp_path, split_rule=rule)
    assert [(clip.start_frame, clip.split, clip.label) for clip in reading.clips] == [
        (1, expected[1], "Sad"), (2, expected[2], "Sad"), (3, expected[3], "Fear"),
    ]  # fmt: skip
    assert dict(reading.report.left_out) == {"no annotator gave a label": 1}
    assert any(note.startswith("leak: 1 of 1 people are in more than one split") for note in reading.report.notes)


def test_the_group_rule_keeps_each_person_in_one_split(tmp_path: Path) -> None:
    people = "".join(f"vid,{clip},{person},{person + 10},W,M,#0\n" for clip in (1, 2) for person in range(12))
    rows = [
        row(f"['{('Happy', 'Sad')[person % 2]}'], {NONE}, {NONE}", frame, person, clip)
        for clip in (1, 2) for person in range(12) for frame in (3, 9)
    ]  # fmt: skip
    eila(tmp_path, rows, people)
    reading = read("eila", tmp_path, split_rule="group")
    splits: dict[str | None, set[str | None]] = {}
    for clip in reading.clips:
        splits.setdefault(clip.subject_id, set()).add(clip.split)
    assert len(splits) == 12
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "val", "test"}
    assert not any(note.startswith("leak") for note in reading.report.notes)


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    rows = [
        row("['Bored']"),
        row("['Sad']", frame=30),
        row("['Sad']", tag="other"),
        row("['Sad']", tag="../vid"),
        row("['Sad']", box="25,50,nan,25"),
        row("['Sad']", box="110,0,10,10"),
        row("__import__('os').abort()"),
        row("'Sad'"),
        row("['Sad']", frame=5),
        row("['Sad']", frame=5),
        row("['Sad']", frame=6),
        row("['Happy']", frame=6),
        row("['Sad']", frame=6),
    ]
    path = eila(tmp_path, rows)
    reading = read("eila", tmp_path)
    assert [clip.start_frame for clip in reading.clips] == [5]
    assert [(problem.file, problem.line) for problem in reading.report.problems] == [
        (path, line) for line in (2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14)
    ]
    reasons = [problem.reason for problem in reading.report.problems]
    assert "frame 30 of" in reasons[1]
    assert "which has 30 frames" in reasons[1]
    assert "the video is missing" in reasons[2]
    assert "listed twice; line 10 is used" in reasons[8]
    assert "is Happy, Black here and Sad, Black in line 12; neither is used" in reasons[9]
    assert "earlier rows label it differently" in reasons[10]


def test_without_demographics(tmp_path: Path) -> None:
    eila(tmp_path, [row("['Sad']")], people="vid,1,1,7,X,F,#0\n")
    reading = read("eila", tmp_path)
    assert reading.clips[0].culture == "Unknown"
    assert "race 'X' is not one of W, B, M" in reading.report.problems[0].reason
    (tmp_path / "Extra/demographics.csv").unlink()
    reading = read("eila", tmp_path)
    assert reading.clips[0].subject_id == "eila/vid/1/1"
    assert "told apart within a clip only" in reading.report.notes[0]
    with pytest.raises(DatasetError, match=r"unknown split rule 'x'; expected one of released, section-3.1, group"):
        read("eila", tmp_path, split_rule="x")


def test_truth_is_the_majority_or_the_first() -> None:
    assert truth(["Sad", "Fear", "Fear"]) == "Fear"
    assert truth(["Sad", "Fear"]) == "Sad"
    assert truth(["Sad", "Fear", "Happy"]) == "Sad"


def test_boxes_are_clipped_to_the_frame() -> None:
    assert pixel_box(["-10", "0", "60", "120"], 200, 100) == [0, 0, 100, 100]
    assert pixel_box(["0", "0", "0", "10"], 200, 100) is None
    assert pixel_box(["a", "0", "0", "10"], 200, 100) is None


def test_people_who_are_contradicted_or_not_listed(tmp_path: Path) -> None:
    people = "vid,1,1,7,B,F,#0\nvid,1,1,9,W,F,#0\nvid,1,2,8,W,F,#0\nvid,2,2,8,B,F,#0\nvid,1,3,5,W,F,#0\n"
    eila(tmp_path, [row("['Sad']", frame=n, person=n) for n in (1, 2, 3, 4)], people)
    reading = read("eila", tmp_path)
    assert [(clip.culture, clip.subject_id) for clip in reading.clips] == [
        ("Unknown", "eila/vid/1/1"), ("Unknown", "eila/vid/1/2"), ("White", "eila/5"), ("Unknown", "eila/vid/1/4"),
    ]  # fmt: skip
    assert [problem.line for problem in reading.report.problems] == [3, 5]
    assert any(note.startswith("3 people are not in the demographics") for note in reading.report.notes)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DatasetError, match=r"elsewhere.*annotations.csv: no such file"):
        read("eila", tmp_path, lists=tmp_path / "elsewhere")
